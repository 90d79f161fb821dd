"""A task, one camera in one stage, as its worker has it: what is fixed, what is read, and why it may be waiting."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import redis

from pipeline.backoff import Backoff
from pipeline.bus.codec import Entry, EntryId, decode_state, encode_state, parse_id
from pipeline.bus.commit import Command, hset
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus
from pipeline.cameras.spec import CameraSpec
from pipeline.leases.lease import TaskId
from pipeline.workers.build import processor_key
from stages.errors import LeaseLost
from stages.messages import Message, Snippet
from stages.stage import Inputs, Processor, State

log = logging.getLogger(__name__)

ZERO: EntryId = (0, 0)
FAILED_AGAIN = Backoff(0.2, 5.0)
OPENED_AT_ONCE = 50
"""Tasks whose states are read together."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskSpec:
    """What is fixed about a task."""

    id: TaskId
    camera: CameraSpec
    """As registered."""
    lease: tuple[str, str]
    """(key, token)."""
    inputs: tuple[str, ...]
    """Full names of the streams it reads; the group is the stage's name."""
    output: str
    state_key: str
    state_owner: str
    """Says whose memory the saved state must be (`state_owner`)."""
    processor_key: str
    processor: Processor
    """Shared by the tasks with that key."""

    @classmethod
    def of(cls, keys: Keys, spec: CameraSpec, stage: str, token: str, processor: Processor) -> TaskSpec:
        """The task of a camera in a stage, for the worker whose leases hold `token`."""
        camera = spec.camera
        return cls(
            id=TaskId(camera, stage),
            camera=spec,
            lease=(keys.lease(camera, stage), token),
            inputs=tuple(keys.stream(camera, kind) for kind in spec.inputs(stage)),
            output=keys.stream(camera, spec.output(stage)),
            state_key=keys.state(camera, stage),
            state_owner=state_owner(spec, stage),
            processor_key=processor_key(spec, stage),
            processor=processor,
        )

    def state_commands(self, state: State, last: EntryId) -> tuple[Command, Command]:
        """What saves the state as it is after `last`."""
        fields = {"last": f"{last[0]}-{last[1]}", "by": self.state_owner, **encode_state(state)}
        return ("DEL", self.state_key), hset(self.state_key, fields)


@dataclass(slots=True, eq=False)
class Pending:
    """An entry that was read and not committed yet: the next one of its input stream."""

    entry: Entry
    message: Message
    since_s: float
    attempts: int = 1
    """How often work on it began, this time included."""


@dataclass(slots=True, eq=False)
class Reading:
    """What of a task's input streams is at hand."""

    pending: dict[str, Pending] = field(default_factory=dict)
    """Stream -> its next entry, where it has been read."""
    ahead: dict[str, Entry] = field(default_factory=dict)
    """Entries that come after the pending ones, where they are known already."""
    recovering: set[str] = field(default_factory=set)
    """Inputs whose pending entries must be read from Redis before new ones."""
    late: set[str] = field(default_factory=set)
    """Inputs that are not waited for any more (live only)."""
    unjoined: deque[tuple[EntryId, float]] = field(default_factory=lambda: deque(maxlen=256))
    """What went on without the late inputs, and when it had come."""


@dataclass(slots=True, eq=False)
class Waiting:
    """Why a task may have to wait."""

    retry_at_s: float = 0.0
    failures: int = 0
    last_error: str = ""
    refusals: int = 0
    """How often Redis had no memory for the result at hand."""
    output_full: bool = False
    """The output is full of what its readers have not yet acknowledged (archives only)."""
    output_bound: int = 4096
    """Entries."""
    next_look_s: float = 0.0
    """When a task without news looks for entries that a former holder was given after it had lost the lease."""


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """What a task works on next: entries of one id, of every input that has it."""

    task: Task
    pending: Mapping[str, Pending]
    """By stream."""

    @property
    def entry(self) -> Entry:
        """One of them: their ids are equal."""
        return next(iter(self.pending.values())).entry

    @property
    def attempts(self) -> int:
        """How often work on them began, this time included."""
        return max(pending.attempts for pending in self.pending.values())

    @property
    def since_s(self) -> float:
        """When the first of them was read."""
        return min(pending.since_s for pending in self.pending.values())

    def inputs(self) -> Inputs:
        """What the stage is given."""
        return {stream.partition("}:")[2]: pending.message for stream, pending in self.pending.items()}


@dataclass(slots=True, eq=False)
class Task:
    """A task at work: the stage's state as it was committed last, and how it goes on."""

    spec: TaskSpec
    state: State = field(default_factory=dict)
    last: EntryId = ZERO
    """What was committed last."""
    reading: Reading = field(default_factory=Reading)
    waiting: Waiting = field(default_factory=Waiting)

    def restore(self, saved: Mapping[bytes, bytes]) -> None:
        """Forget what is in memory and continue from the state hash: after any doubt about the last commit."""
        try:
            self.last = parse_id(saved.get(b"last", b"0-0"))
            # What another model remembered means nothing to this one.
            self.state = decode_state(saved) if saved.get(b"by", b"").decode() == self.spec.state_owner else {}
        except (ValueError, KeyError) as error:
            log.error("%s %s: its saved state cannot be read (%s); it starts without", *self.spec.id, error)
            self.last, self.state = ZERO, {}
        self.reading.pending.clear()
        self.reading.ahead.clear()  # they are pending in Redis
        self.reading.recovering = set(self.spec.inputs)
        self.waiting.output_full = False

    # -- reading ------------------------------------------------------------------------------------------------

    def put(self, stream: str, pending: Pending) -> None:
        """The next entry of a stream has been read."""
        self.reading.pending[stream] = pending
        self.reading.late.discard(stream)

    def look_again(self) -> None:
        """Read what is pending in Redis before anything new; what is at hand stays."""
        self.reading.recovering = set(self.spec.inputs) - set(self.reading.pending)

    def wants(self, now_s: float) -> list[str]:
        """Streams to read a new entry from now."""
        if self.waiting.output_full or now_s < self.waiting.retry_at_s:
            return []
        reading = self.reading
        return [s for s in self.spec.inputs if s not in reading.pending and s not in reading.recovering]

    @property
    def reads_ahead(self) -> bool:
        """Whether the next entries are read with the commit of the pending ones.

        Not a camera's: there they have not come yet. Not before all that is pending has been committed: it would never
        end. Not where a message gets only one or two attempts: being read is one, should the worker stop after it.
        """
        camera = self.spec.camera
        return not camera.live and not self.reading.recovering and camera.max_deliveries > 2

    def follows(self, entry: Entry) -> bool:
        """Whether an entry is the very next one after what was committed last."""
        return entry.id == (self.last[0], self.last[1] + 1)

    def ready(self, now_s: float) -> Ready | None:
        """The pending entries that share the smallest id, once no other input can still bring it.

        An input whose next entry is already beyond that id does not have it. A live camera waits for a silent input
        only `join_wait_s`, and then no more until it keeps up again: one slow or dead model must not hold up the
        alerts of the others.
        """
        pending, camera = self.reading.pending, self.spec.camera
        if not pending or now_s < self.waiting.retry_at_s:
            return None
        first = min(p.entry.id for p in pending.values())
        ready = Ready(self, {stream: p for stream, p in pending.items() if p.entry.id == first})
        awaited = set(self.spec.inputs) - set(pending) - self.reading.late
        if awaited:
            if not camera.live or now_s - ready.since_s < camera.join_wait_s:
                return None
            self.reading.late |= awaited
        return ready

    def came_too_late(self, stream: str, entry: Entry, now_s: float) -> None:
        """Note an entry that was committed without this input; waiting for it might have been enough by now."""
        wait_s = self.spec.camera.join_wait_s
        if any(e == entry.id and now_s - since_s < wait_s for e, since_s in self.reading.unjoined):
            self.reading.late.discard(stream)

    # -- after the work -----------------------------------------------------------------------------------------

    def committed(self, ready: Ready, state: State) -> None:
        """Go on behind what Redis has taken."""
        self.state, self.last = _without_views(state, ready), ready.entry.id
        self.waiting.failures, self.waiting.refusals, self.waiting.last_error = 0, 0, ""
        if self.reading.late:
            self.reading.unjoined.append((self.last, ready.since_s))
        for stream in ready.pending:
            del self.reading.pending[stream]

    def make_room(self, bus: Bus, now_s: float) -> None:
        """Redis is full and has done nothing: what is pending stays, and is processed again a little later."""
        self.waiting.refusals += 1
        self.waiting.retry_at_s = now_s + 0.5
        for stream in self.spec.inputs:
            bus.make_room(stream, drop_unread=False)
        bus.make_room(self.spec.output, drop_unread=self.spec.camera.live and self.waiting.refusals > 1)

    def failed(self, bus: Bus, error: BaseException, now_s: float) -> None:
        """Leave in Redis what is pending and try again later, from the saved state."""
        self.waiting.failures += 1
        self.waiting.last_error = f"{type(error).__name__}: {error}"
        self.waiting.retry_at_s = now_s + FAILED_AGAIN.delay_s(self.waiting.failures)
        self.restore(bus.client.hgetall(self.spec.state_key))


def open_tasks(bus: Bus, specs: Sequence[TaskSpec]) -> list[Task]:
    """Tasks with their states as last saved; only those whose leases are still held.

    Creates the cameras' streams and groups where an operator lost them; not those of a camera that was removed just
    now. Raises redis errors as they are.
    """
    together = (specs[start : start + OPENED_AT_ONCE] for start in range(0, len(specs), OPENED_AT_ONCE))
    return [task for some in together for task in _open_together(bus, some)]


def _open_together(bus: Bus, specs: Sequence[TaskSpec]) -> list[Task]:
    """In three round trips."""
    results = bus.commit_all([bus.make_commit(s.lease, also=s.camera.group_commands(bus.keys)) for s in specs])
    for result in results:
        if isinstance(result, redis.ResponseError):
            raise result
    tasks = [Task(s) for s, result in zip(specs, results, strict=True) if not isinstance(result, LeaseLost)]
    with bus.client.pipeline(transaction=False) as pipe:
        for task in tasks:
            pipe.hgetall(task.spec.state_key)
        for task, saved in zip(tasks, pipe.execute(), strict=True):
            task.restore(saved)
    inputs = [(stream, task) for task in tasks for stream in task.spec.inputs]
    oldest = bus.oldest_pending([(stream, task.spec.id.stage) for stream, task in inputs])
    for (stream, task), pending in zip(inputs, oldest, strict=True):
        if pending is None:
            task.reading.recovering.discard(stream)
    return tasks


def _without_views(state: State, ready: Ready) -> State:
    """The state without views of pixels: their memory is used again as soon as their entry is acknowledged."""
    seen = [p.message.pixels for p in ready.pending.values() if isinstance(p.message, Snippet)]
    return {k: v.copy() if any(np.may_share_memory(v, p) for p in seen) else v for k, v in state.items()}


def state_owner(spec: CameraSpec, stage: str) -> str:
    """Equal for those that can go on with each other's state.

    Alerting goes on under changed settings: an open alert must be closed, and a run's account go on.
    """
    return stage if stage == "alerting" else processor_key(spec, stage)
