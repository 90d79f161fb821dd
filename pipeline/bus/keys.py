"""The names of everything Oddwatch keeps in Redis. The camera in braces keeps it on one Cluster node."""

from __future__ import annotations

from dataclasses import dataclass

from stages.messages import CAMERA_NAME


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one prefix (default `oddwatch`)."""

    prefix: str = "oddwatch"

    def stream(self, camera: str, kind: str) -> str:
        """`kind`: `snippets`, `features:<extractor>`, `scores:<model>`, `scores`, `alerts`."""
        return f"{self.prefix}:{{{camera}}}:{kind}"

    def lease(self, camera: str, stage: str) -> str:
        """Holds the token of the one worker that may work on this camera in this stage."""
        return f"{self.prefix}:{{{camera}}}:lease:{stage}"

    def state(self, camera: str, stage: str) -> str:
        """Hash: what a stage remembers of a camera, saved with each output."""
        return f"{self.prefix}:{{{camera}}}:state:{stage}"

    def health(self, camera: str) -> str:
        """Hash: connection, frame rate, accounts of runs; for people and metrics."""
        return f"{self.prefix}:{{{camera}}}:health"

    def claim(self, camera: str) -> str:
        """Holds the `score` command that an archive file belongs to."""
        return f"{self.prefix}:{{{camera}}}:claim"

    def snapshot(self, camera: str, alert_id: str) -> str:
        """JPEG of an alert's peak, kept for a day."""
        return f"{self.prefix}:{{{camera}}}:snapshot:{alert_id}"

    def is_snapshot_of(self, key: object, alert_id: str) -> bool:
        """Whether a key is where the picture of that alert would be."""
        head, sep, camera = f"{self.prefix}:{{", f"}}:snapshot:{alert_id}", ""
        if isinstance(key, str) and key.startswith(head) and key.endswith(sep):
            camera = key[len(head) : -len(sep)]
        return CAMERA_NAME.match(camera) is not None

    def all_of(self, camera: str) -> str:
        """A SCAN pattern of everything kept about a camera."""
        return f"{self.prefix}:{{{camera}}}:*"

    @property
    def alerts(self) -> str:
        return f"{self.prefix}:alerts"

    @property
    def forwarded(self) -> str:
        """Cluster only. Hash: camera -> the last of its alerts in `alerts`, on whose node the braces put it."""
        return f"{self.prefix}:forwarded:{{{self.alerts}}}"

    @property
    def dead(self) -> str:
        return f"{self.prefix}:dead"

    @property
    def jobs(self) -> str:
        """Hash: camera -> JSON of the archive job."""
        return f"{self.prefix}:jobs"

    @property
    def cameras(self) -> str:
        """Hash: camera -> JSON CameraSpec. Every worker reads its work from here."""
        return f"{self.prefix}:cameras"

    @property
    def cameras_version(self) -> str:
        """A new random value at each change of `cameras`."""
        return f"{self.prefix}:cameras:version"

    @property
    def origins(self) -> str:
        """Hash: configuration file with live cameras -> JSON of which it names, and when it last said so."""
        return f"{self.prefix}:origins"

    @property
    def frames(self) -> str:
        """Names the folder in shared memory that belongs to this Redis, on every host."""
        return f"{self.prefix}:frames"

    @property
    def workers(self) -> str:
        """Hash: worker -> JSON heartbeat."""
        return f"{self.prefix}:workers"
