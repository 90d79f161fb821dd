"""The camera registry in Redis: what there is to watch or score, as every worker sees it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import redis

from pipeline.alerts.forward import forward
from pipeline.bus.keys import Keys
from pipeline.cameras.received import received_spec
from pipeline.cameras.spec import CameraSpec

log = logging.getLogger(__name__)

REREAD_EVERY = 50
"""Looks at the version after which the registry is read anyway: some ten seconds of a worker."""


def register(client: Any, keys: Keys, spec: CameraSpec) -> None:
    """Add or replace a camera; workers see it within their next poll."""
    _change(client, keys, lambda to: to.hset(keys.cameras, spec.camera, spec.model_dump_json()))


def unregister(client: Any, keys: Keys, camera: str) -> None:
    """Remove a camera and everything kept about it: its leases too, so that nobody can write about it any more."""
    _change(client, keys, lambda to: to.hdel(keys.cameras, camera))
    if isinstance(client, redis.RedisCluster):
        forward(client, keys, camera)
        client.hdel(keys.forwarded, camera)
    found = list(client.scan_iter(match=keys.all_of(camera), count=1000))
    if found:
        client.unlink(*found)


def retire(client: Any, keys: Keys, spec: CameraSpec) -> None:
    """Take a live camera off the list: nobody watches it now. Its streams go, except its scores.

    What was learned of it, its accounts and the pictures of its alerts stay, for when it is registered again.
    """
    _change(client, keys, lambda to: to.hdel(keys.cameras, spec.camera))
    for kind in spec.all_streams():
        if kind != spec.output("alerting"):
            client.unlink(keys.stream(spec.camera, kind))


def _change(client: Any, keys: Keys, change: Callable[[Any], Any]) -> None:
    """Change the registry and its version; in one step, except in a Cluster, where they lie on two nodes."""
    # Not a counter: after a restart of Redis it would soon show a number that workers have seen before.
    version = uuid.uuid4().hex
    if isinstance(client, redis.RedisCluster):
        change(client)
        client.set(keys.cameras_version, version)
        return
    with client.pipeline(transaction=True) as pipe:
        change(pipe)
        pipe.set(keys.cameras_version, version)
        pipe.execute()


def registered(client: Any, keys: Keys, cameras: Sequence[str]) -> set[str]:
    """Those of the cameras that are there at this moment."""
    if not cameras:
        return set()
    with client.pipeline(transaction=False) as pipe:
        for camera in cameras:
            pipe.hexists(keys.cameras, camera)
        return {camera for camera, is_there in zip(cameras, pipe.execute(), strict=True) if is_there}


class Registry:
    """A worker's view of the registry; re-read when its version changed, and now and then."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._version: bytes | None = b"unread"
        self._texts: dict[bytes, bytes] = {}
        self._refreshes = 0
        self.refused: dict[str, str] = {}
        """What is no camera, by its name as it can be printed, and why; said once, kept from nobody else."""
        self.specs: dict[str, CameraSpec] = {}
        """Whoever has not changed stays the same object."""

    def refresh(self) -> bool:
        """Read the registry if it changed; returns whether it did."""
        try:
            version = self._client.get(self._keys.cameras_version)
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            version = uuid.uuid4().bytes  # the next change will put it right; until then nobody knows whether one came
        self._refreshes += 1
        # Whoever changes a Cluster's registry can die before it says so.
        if version == self._version and self._refreshes % REREAD_EVERY:
            return False
        texts = self._client.hgetall(self._keys.cameras)
        specs, refused = {}, {}
        for name, text in sorted(texts.items()):
            try:
                specs[name.decode(errors="replace")] = self._spec(name, text)
            except ValueError as error:
                shown = ascii(name.decode(errors="replace"))[1:-1][:64]
                refused[shown] = str(error)
                if self.refused.get(shown) != str(error):
                    log.error("camera %s: its registry entry cannot be used: %s", shown, error)
        self.refused = refused
        changed = specs != self.specs
        self._version, self._texts, self.specs = version, texts, specs
        return changed

    def _spec(self, name: bytes, text: bytes) -> CameraSpec:
        known = self.specs.get(name.decode(errors="replace"))
        if known is not None and self._texts.get(name) == text:
            return known
        spec = received_spec(name, text)
        return known if known is not None and spec == known else spec
