"""Leases: at most one worker works on a task; and heartbeats, by which the workers of a stage know of each other."""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from pipeline.bus.keys import Keys

log = logging.getLogger(__name__)

# Compare and act in one step: a worker that lost its lease must neither prolong nor delete the new holder's.
_RENEW = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('pexpire',KEYS[1],ARGV[2]) else return 0 end"
_RELEASE = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end"


JSON_NAMES = {"tasks": "lanes", "below_least": "hungry", "below_most": "room"}
"""What other versions call these fields of a heartbeat."""


def worker_name(place: str) -> str:
    """A worker's name that no other has: containers can share host name and pid. `place`: what it is there for."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}-{place}"


class TaskId(NamedTuple):
    """A task: one camera in one stage."""

    camera: str
    stage: str
    """With its variant: `features:motion`."""


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
    tasks: int
    """Held by it."""
    below_least: int = 0
    """Tasks that it lacks to the least fair share and could take."""
    below_most: int = 0
    """The same to the most."""
    error: str = ""
    frames: str = ""
    """Whose shared memory it can read (`host_id`)."""

    @classmethod
    def decode(cls, raw: bytes) -> Heartbeat:
        """What a worker said; one of a later version may say more. Raises ValueError for what no worker says."""
        try:
            said = json.loads(raw)
            names = {f.name: JSON_NAMES.get(f.name, f.name) for f in fields(cls)}
            values = {name: said[key] for name, key in names.items() if key in said}
            if isinstance(values.get("error"), str):
                values["error"] = "".join(c if c.isprintable() else "?" for c in values["error"])
            beat = cls(**values)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"not a heartbeat: {error}") from error
        for field in fields(cls):
            value = getattr(beat, field.name)
            sound = value.isprintable() if isinstance(value, str) else type(value) is int and 0 <= value < 2**53
            if isinstance(value, str) != (field.type == "str") or not sound:
                raise ValueError(f"not a heartbeat: {field.name} is {ascii(value)[:40]}")
        return beat

    def encode(self) -> str:
        """As JSON."""
        return json.dumps({JSON_NAMES.get(name, name): value for name, value in asdict(self).items()})


def heartbeats(client: Any, keys: Keys) -> list[Heartbeat]:
    """All workers ever heard of and not yet cleaned away, by name."""
    return _heard(client, keys)[0]


def _heard(client: Any, keys: Keys) -> tuple[list[Heartbeat], list[bytes]]:
    """The same, and the entries that are damaged: their workers will say anew that they live."""
    found, damaged = [], []
    for name, raw in client.hgetall(keys.workers).items():
        try:
            beat = Heartbeat.decode(raw)
            if beat.name.encode() != name:
                raise ValueError(f"not a heartbeat: of {beat.name[:40]}")
        except ValueError as error:
            log.debug("%r: %s", name, error)
            damaged.append(name)
        else:
            found.append(beat)
    return sorted(found, key=lambda h: h.name), damaged


@dataclass(frozen=True, slots=True)
class Peers:
    """The live workers of a stage, as one of them sees the others."""

    workers: int = 1
    """This one included."""
    below_least: int = 0
    """Tasks that others lack to the least fair share and could take."""
    below_most: int = 0
    """The same to the most."""


def fair_share(tasks: int, workers: int) -> tuple[int, int]:
    """The least and the most tasks of one of `workers` when all are spread evenly."""
    workers = max(1, workers)
    return tasks // workers, -(-tasks // workers)


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
        return bool(self.acquire_all([TaskId(camera, stage)]))

    def acquire_all(self, tasks: Sequence[TaskId]) -> list[TaskId]:
        """The same for several; returns those that are ours now."""
        with self._client.pipeline(transaction=False) as pipe:
            for task in tasks:
                pipe.set(self._keys.lease(*task), self.token, nx=True, px=self.lease_ms)
            taken = {task for task, is_new in zip(tasks, pipe.execute(), strict=True) if is_new}
        others = [task for task in tasks if task not in taken]
        taken.update(set(others) - set(self.renew(others)))
        return [task for task in tasks if task in taken]

    def free(self, tasks: Iterable[TaskId]) -> list[TaskId]:
        """Those that nobody else holds now."""
        tasks = list(tasks)
        with self._client.pipeline(transaction=False) as pipe:
            for task in tasks:
                pipe.get(self._keys.lease(*task))
            holders = zip(tasks, pipe.execute(), strict=True)
        return [task for task, holder in holders if holder is None or holder.decode() == self.token]

    def renew(self, held: Iterable[TaskId]) -> list[TaskId]:
        """Prolong leases; returns those that are no longer ours."""
        held = list(held)
        with self._client.pipeline(transaction=False) as pipe:
            for task in held:
                # Not `pipe.eval`: redis-py's Cluster pipeline does not offer it, though it can send it.
                pipe.execute_command("EVAL", _RENEW, 1, self._keys.lease(*task), self.token, self.lease_ms)
            return [task for task, ours in zip(held, pipe.execute(), strict=True) if not ours]

    def release(self, camera: str, stage: str) -> None:
        """Give the lease back, if it is still ours."""
        self.release_all([TaskId(camera, stage)])

    def release_all(self, tasks: Iterable[TaskId]) -> None:
        """The same for several."""
        with self._client.pipeline(transaction=False) as pipe:
            for task in tasks:
                pipe.execute_command("EVAL", _RELEASE, 1, self._keys.lease(*task), self.token)
            pipe.execute()

    def beat(self, now_ms: int, tasks: int, below_least: int = 0, below_most: int = 0, error: str = "") -> Peers:
        """Say that this worker lives; returns what the others say. Clears away the long dead."""
        self._started_ms = self._started_ms or now_ms
        mine = Heartbeat(
            name=self.name, stage=self.stage, token=self.token, host=socket.gethostname(), pid=os.getpid(),
            beat_ms=now_ms, started_ms=self._started_ms, tasks=tasks, below_least=below_least, below_most=below_most,
            error=error, frames=self.frames,
        )  # fmt: skip
        self._client.hset(self._keys.workers, self.name, mine.encode())
        everybody, damaged = _heard(self._client, self._keys)
        # One from the future would be taken for alive until then.
        dead = [h.name for h in everybody if abs(now_ms - h.beat_ms) > 10 * self.lease_ms]
        if damaged:
            log.warning("%d of the entries in %s are not heartbeats: removed", len(damaged), self._keys.workers)
        if dead or damaged:
            self._client.hdel(self._keys.workers, *dead, *damaged)
        peers = [
            h
            for h in everybody
            if h.stage == self.stage and h.name != self.name and abs(now_ms - h.beat_ms) < self.lease_ms
        ]
        return Peers(1 + len(peers), sum(h.below_least for h in peers), sum(h.below_most for h in peers))

    def leave(self) -> None:
        """Say that this worker has gone."""
        self._client.hdel(self._keys.workers, self.name)


def keep(client: Any, key: str, token: str, ms: int) -> bool:
    """Prolong one key that `token` holds; False if it holds it no more."""
    return bool(client.eval(_RENEW, 1, key, token, ms))


def release(client: Any, keys: Keys, camera: str, stage: str, token: str) -> None:
    """Free one lease that `token` holds: by its worker when it lets go, by the supervisor when it has died."""
    client.eval(_RELEASE, 1, keys.lease(camera, stage), token)
