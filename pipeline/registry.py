"""The camera registry in Redis: what there is to watch or score, as every worker sees it."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError

from pipeline.keys import Keys
from pipeline.spec import CameraSpec

log = logging.getLogger(__name__)


def register(client: Any, keys: Keys, spec: CameraSpec) -> None:
    """Add or replace a camera; workers see it within their next poll."""
    with client.pipeline(transaction=False) as pipe:
        pipe.hset(keys.cameras, spec.camera, spec.model_dump_json())
        pipe.incr(keys.cameras_version)
        pipe.execute()


def unregister(client: Any, keys: Keys, camera: str) -> None:
    """Remove a camera and everything kept about it."""
    with client.pipeline(transaction=False) as pipe:
        pipe.hdel(keys.cameras, camera)
        pipe.incr(keys.cameras_version)
        pipe.execute()
    found = list(client.scan_iter(match=_glob(keys.all_of(camera)), count=1000))
    if found:
        client.unlink(*found)


def _glob(pattern: str) -> str:
    return pattern.replace("[", "\\[").replace("]", "\\]")


class Registry:
    """A worker's view of the registry; re-read only when its version changed."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._version: bytes | None = b"unread"
        self.specs: dict[str, CameraSpec] = {}

    def refresh(self) -> bool:
        """Read the registry if it changed; returns whether it did."""
        version = self._client.get(self._keys.cameras_version)
        if version == self._version:
            return False
        self._version = version
        raw = self._client.hgetall(self._keys.cameras)
        specs = {}
        for name, text in sorted(raw.items()):
            try:
                specs[name.decode()] = CameraSpec.model_validate_json(text)
            except ValidationError as error:
                log.error(
                    "camera %s: its registry entry is not of this version: %s", name.decode(), error.errors()[0]["msg"]
                )
        changed = specs != self.specs
        self.specs = specs
        return changed
