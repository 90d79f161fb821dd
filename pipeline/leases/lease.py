"""Who works on what: one lease per camera and stage, spread over the live workers of the stage."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.bus.keys import Keys

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
    hungry: int = 0
    """Cameras it lacks to the least fair share and could take."""
    room: int = 0
    """The same to the most."""
    error: str = ""
    frames: str = ""
    """Whose shared memory it can read (`host_id`)."""

    @classmethod
    def decode(cls, raw: bytes) -> Heartbeat:
        """What a worker said; one of a later version may say more."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in json.loads(raw).items() if k in known})


def heartbeats(client: Any, keys: Keys) -> list[Heartbeat]:
    """All workers ever heard of and not yet cleaned away, by name."""
    return sorted((Heartbeat.decode(v) for v in client.hgetall(keys.workers).values()), key=lambda h: h.name)


@dataclass(frozen=True, slots=True)
class Peers:
    """The live workers of a stage, as one of them sees the others."""

    workers: int = 1
    """This one included."""
    hungry: int = 0
    """Lanes that others lack to the least fair share and could take."""
    room: int = 0
    """The same to the most."""


def fair_share(lanes: int, workers: int) -> tuple[int, int]:
    """The least and the most lanes of one of `workers` when all lanes are spread evenly."""
    workers = max(1, workers)
    return lanes // workers, -(-lanes // workers)


class Leases:
    """The leases of one worker. `token` is unique to this process, so a restart never mistakes itself for its past."""

    def __init__(
        self, client: Any, keys: Keys, *, name: str, stage: str, token: str, lease_s: float, frames: str = ""
    ) -> None:  # fmt: skip
        self._client = client
        self._keys = keys
        self.name = name
        self.stage = stage
        self.token = token
        self.lease_ms = int(lease_s * 1000)
        self.frames = frames
        self._started_ms = 0

    def acquire(self, camera: str, stage: str) -> bool:
        """Take the lease if nobody else holds it; one that is ours already is prolonged."""
        return bool(self.acquire_all([(camera, stage)]))

    def acquire_all(self, lanes: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The same for several (camera, stage); returns those that are ours now."""
        with self._client.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.set(self._keys.lease(*lane), self.token, nx=True, px=self.lease_ms)
            taken = {lane for lane, is_new in zip(lanes, pipe.execute(), strict=True) if is_new}
        others = [lane for lane in lanes if lane not in taken]
        taken.update(set(others) - set(self.renew(others)))
        return [lane for lane in lanes if lane in taken]

    def free(self, lanes: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of the (camera, stage) that nobody else holds now."""
        lanes = list(lanes)
        with self._client.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.get(self._keys.lease(*lane))
            holders = zip(lanes, pipe.execute(), strict=True)
        return [lane for lane, holder in holders if holder is None or holder.decode() == self.token]

    def renew(self, held: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Prolong leases; returns those (camera, stage) that are no longer ours."""
        held = list(held)
        with self._client.pipeline(transaction=False) as pipe:
            for lane in held:
                # Not `pipe.eval`: redis-py's Cluster pipeline does not offer it, though it can send it.
                pipe.execute_command("EVAL", _RENEW, 1, self._keys.lease(*lane), self.token, self.lease_ms)
            return [lane for lane, ours in zip(held, pipe.execute(), strict=True) if not ours]

    def release(self, camera: str, stage: str) -> None:
        """Give the lease back, if it is still ours."""
        self.release_all([(camera, stage)])

    def release_all(self, lanes: Iterable[tuple[str, str]]) -> None:
        """The same for several (camera, stage)."""
        with self._client.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.execute_command("EVAL", _RELEASE, 1, self._keys.lease(*lane), self.token)
            pipe.execute()

    def beat(self, now_ms: int, lanes: int, hungry: int = 0, room: int = 0, error: str = "") -> Peers:
        """Say that this worker lives; returns what the others say. Clears away the long dead."""
        self._started_ms = self._started_ms or now_ms
        mine = Heartbeat(
            name=self.name, stage=self.stage, token=self.token, host=socket.gethostname(), pid=os.getpid(),
            beat_ms=now_ms, started_ms=self._started_ms, lanes=lanes, hungry=hungry, room=room, error=error,
            frames=self.frames,
        )  # fmt: skip
        self._client.hset(self._keys.workers, self.name, json.dumps(asdict(mine)))
        everybody = heartbeats(self._client, self._keys)
        for other in everybody:
            if now_ms - other.beat_ms > 10 * self.lease_ms:
                self._client.hdel(self._keys.workers, other.name)
        peers = [
            h for h in everybody if h.stage == self.stage and h.name != self.name and now_ms - h.beat_ms < self.lease_ms
        ]
        return Peers(1 + len(peers), sum(h.hungry for h in peers), sum(h.room for h in peers))

    def leave(self) -> None:
        """Say that this worker has gone."""
        self._client.hdel(self._keys.workers, self.name)


def keep(client: Any, key: str, token: str, ms: int) -> bool:
    """Prolong one key that `token` holds; False if it holds it no more."""
    return bool(client.eval(_RENEW, 1, key, token, ms))


def release(client: Any, keys: Keys, camera: str, stage: str, token: str) -> None:
    """Free one lease that `token` holds: by its worker when it lets go, by the supervisor when it has died."""
    client.eval(_RELEASE, 1, keys.lease(camera, stage), token)
