"""The camera registry in Redis: what there is to watch or score, as every worker sees it."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import redis
from pydantic import ValidationError

from pipeline.forward import forward
from pipeline.keys import Keys
from pipeline.spec import CameraSpec

log = logging.getLogger(__name__)


def register(client: Any, keys: Keys, spec: CameraSpec) -> None:
    """Add or replace a camera; workers see it within their next poll."""
    client.hset(keys.cameras, spec.camera, spec.model_dump_json())
    _mark_changed(client, keys)


def unregister(client: Any, keys: Keys, camera: str) -> None:
    """Remove a camera and everything kept about it: its leases too, so that nobody can write about it any more."""
    client.hdel(keys.cameras, camera)
    _mark_changed(client, keys)
    if isinstance(client, redis.RedisCluster):
        forward(client, keys, camera)
        client.hdel(keys.forwarded, camera)
    found = list(client.scan_iter(match=keys.all_of(camera), count=1000))
    if found:
        client.unlink(*found)


def _mark_changed(client: Any, keys: Keys) -> None:
    # Not a counter: after a restart of Redis it would soon show a number that workers have seen before.
    client.set(keys.cameras_version, uuid.uuid4().hex)


def is_registered(client: Any, keys: Keys, camera: str) -> bool:
    """Whether the camera is there at this moment."""
    return bool(client.hexists(keys.cameras, camera))


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
                why = error.errors()[0]["msg"]
                log.error("camera %s: its registry entry is not of this version: %s", name.decode(), why)
        changed = specs != self.specs
        self.specs = specs
        return changed
