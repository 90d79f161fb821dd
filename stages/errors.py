"""The errors a user can meet. Each text says what was got, where, and what to do about it."""


class OddwatchError(Exception):
    """Something failed that the user should read about; the command ends with `exit_code`."""

    exit_code = 1


class UsageError(OddwatchError):
    """The command line or a path on it is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file has an unknown key, a wrong type, or values that cannot go together."""


class CheckpointError(UsageError):
    """A checkpoint is not one, is damaged, or was fitted with other features."""


class SourceError(OddwatchError):
    """A camera or a file cannot be opened or read."""


class WeightsError(OddwatchError):
    """Pretrained weights are missing, or are not the published ones."""


class BusError(OddwatchError):
    """Redis cannot be reached, refused the login, or refused a command."""


class LeaseLost(OddwatchError):
    """Another worker took the camera over; what this one computed must not be published."""
