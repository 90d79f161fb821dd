"""`run`: registers the configured cameras, keeps them registered."""

from __future__ import annotations

from pipeline.bus import Bus
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.registry import Registry, register, unregister
from pipeline.spec import CameraSpec, make_spec


def live_specs(config: Config) -> list[CameraSpec]:
    """Registry entries of the enabled cameras, without logins. Raises UsageError, ConfigError or CheckpointError."""
    from stages.sources import live_source

    specs = []
    for name, camera in config.cameras.items():
        if camera.enabled:
            source = live_source(camera.source, name)
            specs.append(
                make_spec(
                    config, camera=name, source=source.redacted, kind="live", decode=camera.decode,
                    models=camera.models, alerts=camera.alerts,
                )
            )  # fmt: skip
    if not specs:
        raise UsageError("no camera to watch: add one under 'cameras:' in the configuration")
    return specs


def announce(bus: Bus, specs: list[CameraSpec]) -> None:
    """Bring the registry up to these cameras; archive files in it are left alone. Repeating it changes nothing."""
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    wanted = {s.camera: s for s in specs}
    for name, spec in registry.specs.items():
        if spec.live and name not in wanted:
            unregister(bus.client, bus.keys, name)
    for name, spec in wanted.items():
        if registry.specs.get(name) != spec:
            spec.ensure_streams(bus)
            register(bus.client, bus.keys, spec)
