"""Live cameras of a configuration in the registry, where all workers find them."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterable
from pathlib import Path

from pipeline.bus.streams import Bus
from pipeline.cameras.registry import Registry, register, retire, unregister
from pipeline.cameras.spec import CameraSpec, make_spec
from pipeline.config.schema import Config
from stages.errors import UsageError

log = logging.getLogger(__name__)

IN_USE_S = 20.0
"""A configuration unheard of for longer is not in use."""


def live_specs(config: Config, path: Path) -> list[CameraSpec]:
    """Registry entries of the enabled cameras, without logins. Raises UsageError, ConfigError or CheckpointError."""
    from stages.decode.source import live_source

    specs = []
    for name, camera in config.cameras.items():
        if camera.enabled:
            try:
                source = live_source(camera.source, name)
            except UsageError as error:
                raise UsageError(f"{path}: cameras.{name}.source: {error}") from error
            spec = make_spec(
                config, camera=name, source=source.redacted, kind=source.kind,
                decode=camera.decode, models=camera.models, alerts=camera.alerts,
            )  # fmt: skip
            specs.append(spec.model_copy(update={"origin": origin_of(path)}))
    return specs


def origin_of(path: Path) -> str:
    """Names a configuration file among those of all hosts."""
    return f"{socket.gethostname()}:{path.resolve()}"


def _file_of(origin: str) -> str:
    """The path in an origin; its host's name changes with every container."""
    host, sep, path = origin.partition(":")
    return path if sep else host


class Announcer:
    """Keeps the registry up to the live cameras of one configuration. What came from others stays.

    Several hosts may name the same camera: the settings that are registered stay in force for as long as the
    configuration they came from is in use somewhere.
    """

    def __init__(self, bus: Bus, specs: Iterable[CameraSpec], origin: str) -> None:
        self._bus = bus
        self.specs = {s.camera: s for s in specs}
        self._origin = origin
        self._registry = Registry(bus.client, bus.keys)
        self._warned: set[str] = set()

    def announce(self) -> None:
        """Register these cameras, and remove those that this configuration named before. Repeating it changes nothing.

        To be repeated every few seconds: a Redis may come back empty, and the silent are forgotten.
        """
        others = self.others()
        mine = {"cameras": sorted(self.specs), "seen_ms": self._bus.now_ms()}
        self._bus.client.hset(self._bus.keys.origins, self._origin, json.dumps(mine))
        self._registry.refresh()
        for name, found in self._registry.specs.items():
            gone = found.live and name not in self.specs and not any(name in cameras for cameras in others.values())
            if gone and found.origin == self._origin:
                unregister(self._bus.client, self._bus.keys, name)
            elif gone and found.origin not in others and _file_of(found.origin) == _file_of(self._origin):
                # Of this very file, under the name that its container had before. What was learned stays: it could
                # also be another host's, which is not there now.
                retire(self._bus.client, self._bus.keys, found)
        for name, spec in self.specs.items():
            if self._is_news(spec, self._registry.specs.get(name), others):
                spec.ensure_streams(self._bus)
                register(self._bus.client, self._bus.keys, spec)

    def withdraw(self) -> None:
        """Take the cameras off the registry that no other configuration in use names."""
        others = self.others()
        self._bus.client.hdel(self._bus.keys.origins, self._origin)
        for name, spec in self.specs.items():
            if not any(name in cameras for cameras in others.values()):
                retire(self._bus.client, self._bus.keys, spec)

    def others(self) -> dict[str, list[str]]:
        """Other configurations in use, and the cameras they name. Clears away those long unheard of."""
        now_ms = self._bus.now_ms()
        found: dict[str, list[str]] = {}
        for raw_origin, raw in self._bus.client.hgetall(self._bus.keys.origins).items():
            said = _said(raw)
            if said is None or abs(now_ms - said[0]) > IN_USE_S * 1000:
                self._bus.client.hdel(self._bus.keys.origins, raw_origin)
            elif (origin := raw_origin.decode(errors="replace")) != self._origin:
                found[origin] = said[1]
        return found

    def _is_news(self, spec: CameraSpec, found: CameraSpec | None, others: dict[str, list[str]]) -> bool:
        if found is None:
            return True
        if spec.camera not in others.get(found.origin, ()):
            return found.model_copy(update={"origin": spec.origin}) != spec
        if _settings(found) != _settings(spec) and spec.camera not in self._warned:
            self._warned.add(spec.camera)
            log.warning(
                "%s: %s names other settings than %s, which are in force for as long as that one is in use",
                spec.camera, self._origin, found.origin,
            )  # fmt: skip
        return False


def _said(raw: bytes) -> tuple[int, list[str]] | None:
    """When a configuration was last heard of, and its cameras; None for what no configuration says."""
    try:
        said = json.loads(raw)
        seen_ms, cameras = said["seen_ms"], said["cameras"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = type(seen_ms) is int and isinstance(cameras, list) and all(isinstance(name, str) for name in cameras)
    return (seen_ms, cameras) if sound else None


def _settings(spec: CameraSpec) -> CameraSpec:
    """Without what differs between hosts and changes no score: where the configuration and its checkpoints lie."""
    models = {name: model.model_copy(update={"checkpoint": None}) for name, model in spec.models.items()}
    return spec.model_copy(update={"origin": "", "models": models})
