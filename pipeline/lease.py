"""Who works on what: one lease per camera and stage, spread over the live workers of the stage."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.keys import Keys

# Compare and act in one step: a worker that lost its lease must neither prolong nor delete the new holder's.
_RENEW = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('pexpire',KEYS[1],ARGV[2]) else return 0 end"
_RELEASE = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What a worker says of itself, in `oddwatch:workers`."""

    name: str
    stage: str
    token: str
    host: str
    pid: int
    beat_ms: int
    """Server clock."""
    started_ms: int
    lanes: int
    """Cameras it holds."""
    error: str = ""

    @classmethod
    def decode(cls, raw: bytes) -> Heartbeat:
        return cls(**json.loads(raw))


def heartbeats(client: Any, keys: Keys) -> list[Heartbeat]:
    """All workers ever heard of and not yet cleaned away, by name."""
    return sorted((Heartbeat.decode(v) for v in client.hgetall(keys.workers).values()), key=lambda h: h.name)


def fair_share(lanes: int, workers: int) -> int:
    """Lanes one of `workers` may hold, so that all lanes find a place."""
    return math.ceil(lanes / max(1, workers))


class Leases:
    """The leases of one worker. `token` is unique to this process, so a restart never mistakes itself for its past."""

    def __init__(self, client: Any, keys: Keys, *, name: str, stage: str, token: str, lease_s: float) -> None:
        self._client = client
        self._keys = keys
        self.name = name
        self.stage = stage
        self.token = token
        self.lease_ms = int(lease_s * 1000)
        self._started_ms = 0

    def acquire(self, camera: str, stage: str) -> bool:
        """Take the lease if nobody else holds it."""
        key = self._keys.lease(camera, stage)
        if self._client.set(key, self.token, nx=True, px=self.lease_ms):
            return True
        holder = self._client.get(key)
        return holder is not None and holder.decode() == self.token

    def renew(self, held: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Prolong leases; returns those (camera, stage) that are no longer ours."""
        held = list(held)
        if not held:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for camera, stage in held:
                pipe.eval(_RENEW, 1, self._keys.lease(camera, stage), self.token, self.lease_ms)
            return [pair for pair, ours in zip(held, pipe.execute(), strict=True) if not ours]

    def release(self, camera: str, stage: str) -> None:
        """Give the lease back, if it is still ours."""
        release(self._client, self._keys, camera, stage, self.token)

    def beat(self, now_ms: int, lanes: int, error: str = "") -> int:
        """Say that this worker lives; returns how many live workers its stage has. Clears away the long dead."""
        self._started_ms = self._started_ms or now_ms
        mine = Heartbeat(
            name=self.name, stage=self.stage, token=self.token, host=socket.gethostname(), pid=os.getpid(),
            beat_ms=now_ms, started_ms=self._started_ms, lanes=lanes, error=error,
        )  # fmt: skip
        self._client.hset(self._keys.workers, self.name, json.dumps(asdict(mine)))
        others = heartbeats(self._client, self._keys)
        for other in others:
            if now_ms - other.beat_ms > 10 * self.lease_ms:
                self._client.hdel(self._keys.workers, other.name)
        return sum(h.stage == self.stage and now_ms - h.beat_ms < self.lease_ms for h in others)

    def leave(self) -> None:
        """Say that this worker has gone."""
        self._client.hdel(self._keys.workers, self.name)


def release(client: Any, keys: Keys, camera: str, stage: str, token: str) -> None:
    """Free one lease that `token` holds: by its worker when it lets go, by the supervisor when it has died."""
    client.eval(_RELEASE, 1, keys.lease(camera, stage), token)
