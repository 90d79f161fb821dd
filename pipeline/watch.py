"""Live cameras of a configuration in the registry, where all workers find them."""

from __future__ import annotations

import socket
from pathlib import Path

from pipeline.bus import Bus
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.registry import Registry, register, unregister
from pipeline.spec import CameraSpec, make_spec


def live_specs(config: Config, path: Path) -> list[CameraSpec]:
    """Registry entries of the enabled cameras, without logins. Raises UsageError, ConfigError or CheckpointError."""
    from stages.sources import live_source

    specs = []
    for name, camera in config.cameras.items():
        if camera.enabled:
            try:
                source = live_source(camera.source, name)
            except UsageError as error:
                raise UsageError(f"{path}: cameras.{name}.source: {error}") from error
            spec = make_spec(
                config, camera=name, source=source.redacted, kind="live",
                decode=camera.decode, models=camera.models, alerts=camera.alerts,
            )  # fmt: skip
            specs.append(spec.model_copy(update={"origin": origin_of(path)}))
    return specs


def origin_of(path: Path) -> str:
    """Names a configuration file among those of all hosts."""
    return f"{socket.gethostname()}:{path.resolve()}"


def announce(bus: Bus, specs: list[CameraSpec], origin: str) -> None:
    """Bring the registry up to these cameras, and remove those that this configuration named before.

    What came from other configurations stays. Repeating it changes nothing.
    """
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    wanted = {s.camera: s for s in specs}
    for name, spec in registry.specs.items():
        if spec.live and spec.origin == origin and name not in wanted:
            unregister(bus.client, bus.keys, name)
    for name, spec in wanted.items():
        if registry.specs.get(name) != spec:
            spec.ensure_streams(bus)
            register(bus.client, bus.keys, spec)
