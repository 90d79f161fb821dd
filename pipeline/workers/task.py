"""A lane: one camera in one stage, as held by the worker that has its lease."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import redis

from pipeline.bus.codec import Entry, EntryId, decode, decode_state, encode_state, parse_id
from pipeline.bus.commit import hset
from pipeline.bus.keys import Keys
from pipeline.bus.raw import Command
from pipeline.bus.streams import Bus
from pipeline.cameras.spec import CameraSpec
from stages.errors import LeaseLost
from stages.messages import Message, Snippet
from stages.stage import Inputs, State

ZERO: EntryId = (0, 0)


@dataclass(slots=True, eq=False)
class Head:
    """The next unsettled entry of one input stream."""

    entry: Entry
    message: Message
    since_s: float
    attempts: int = 1
    """How often work on it began, this time included."""


Due = dict[str, Head]
"""Stream -> its head; all of one id."""


def entry_of(due: Due) -> Entry:
    """One of them: their ids are equal."""
    return next(iter(due.values())).entry


def attempts_of(due: Due) -> int:
    """How often work on them began, this time included."""
    return max(head.attempts for head in due.values())


def inputs_of(due: Due) -> Inputs:
    """What the stage is given."""
    return {stream.partition("}:")[2]: head.message for stream, head in due.items()}


@dataclass(slots=True, eq=False)
class Lane:
    """Input heads, the stage's state after the last settled id, and why it may be waiting."""

    spec: CameraSpec
    stage: str
    lease: tuple[str, str]
    """(key, token)."""
    inputs: list[str]
    """Full names of the streams it reads; the group is the stage's name."""
    output: str
    state_key: str
    work: str
    """Its `processor_key`."""
    made_by: str
    """Says whose memory `state` is (`memory_key`)."""
    state: State = field(default_factory=dict)
    last: EntryId = ZERO
    heads: dict[str, Head] = field(default_factory=dict)
    ahead: dict[str, Entry] = field(default_factory=dict)
    """Entries that are next after the heads, where they are known already."""
    late: set[str] = field(default_factory=set)
    """Inputs that are not waited for any more (live only)."""
    _unjoined: deque[tuple[EntryId, float]] = field(default_factory=lambda: deque(maxlen=256))
    """What went on without the late inputs, and when it had come."""
    recovering: set[str] = field(default_factory=set)
    """Inputs whose pending entries must be read before new ones."""
    retry_at_s: float = 0.0
    failures: int = 0
    last_error: str = ""
    refusals: int = 0
    """How often Redis had no memory for the outcome at hand."""
    next_look_s: float = 0.0
    """When a lane without news looks for entries that a former holder was given after it had lost the lease."""
    blocked: bool = False
    """The output is full of what its readers have not yet acknowledged (archives only)."""
    bound: int = 4096

    @classmethod
    def of(cls, keys: Keys, spec: CameraSpec, stage: str, token: str) -> Lane:
        """A lane that is not yet open."""
        camera = spec.camera
        return cls(
            spec=spec,
            stage=stage,
            lease=(keys.lease(camera, stage), token),
            inputs=[keys.stream(camera, kind) for kind in spec.inputs(stage)],
            output=keys.stream(camera, spec.output(stage)),
            state_key=keys.state(camera, stage),
            work=processor_key(spec, stage),
            made_by=memory_key(spec, stage),
        )

    def reload(self, bus: Bus) -> None:
        """Forget what is in memory and continue from what Redis knows: after any doubt about the last commit."""
        self._restore(bus.client.hgetall(self.state_key))

    def _restore(self, saved: Mapping[bytes, bytes]) -> None:
        self.last = parse_id(saved.get(b"last", b"0-0"))
        # What another model remembered means nothing to this one.
        self.state = decode_state(saved) if saved.get(b"by", b"").decode() == self.made_by else {}
        self.heads.clear()
        self.ahead.clear()  # they are pending
        self.recovering = set(self.inputs)
        self.blocked = False

    def saving(self, state: State, last: EntryId) -> tuple[Command, Command]:
        """The commands that save the state as it is after `last`."""
        fields = {"last": f"{last[0]}-{last[1]}", "by": self.made_by, **encode_state(state)}
        return ("DEL", self.state_key), hset(self.state_key, fields)

    def put(
        self, stream: str, entry: Entry, now_s: float, attempts: int = 1, *,
        read: Callable[[Mapping[bytes, bytes]], Message] = decode,
    ) -> bool:  # fmt: skip
        """Make an entry the head of its stream; False if it holds no message (trimmed, or not one)."""
        try:
            message = read(entry.fields) if entry.fields else None
        except ValueError as error:
            self.last_error = str(error)
            message = None
        if message is None:
            return False
        self.heads[stream] = Head(entry, message, now_s, attempts)
        self.late.discard(stream)
        return True

    def look_again(self) -> None:
        """Read what is pending before anything new; what is at hand stays."""
        self.recovering = set(self.inputs) - set(self.heads)

    def wants(self, now_s: float) -> list[str]:
        """Streams to read a new entry from now."""
        if self.blocked or now_s < self.retry_at_s:
            return []
        return [s for s in self.inputs if s not in self.heads and s not in self.recovering]

    @property
    def reads_ahead(self) -> bool:
        """Whether the next entries are read with the commit of the heads.

        Not a camera's: there they have not come yet. Not before all that is pending has been settled: it would never
        end. Not where a message gets only one or two attempts: being read is one, should the worker stop after it.
        """
        return not self.spec.live and not self.recovering and self.spec.max_deliveries > 2

    def follows(self, entry: Entry) -> bool:
        """Whether an entry is the very next one after what was settled last."""
        return entry.id == (self.last[0], self.last[1] + 1)

    def due(self, now_s: float) -> Due:
        """The heads that share the smallest id, once no other input can still bring it; else nothing.

        An input whose head is already beyond that id does not have it. A live camera waits for a silent input
        only `join_wait_s`, and then no more until it keeps up again: one slow or dead model must not hold up the
        alerts of the others.
        """
        if not self.heads or now_s < self.retry_at_s:
            return {}
        first = min(head.entry.id for head in self.heads.values())
        due = {s: h for s, h in self.heads.items() if h.entry.id == first}
        awaited = set(self.inputs) - set(self.heads) - self.late
        if awaited:
            if not self.spec.live or now_s - came_s(due) < self.spec.join_wait_s:
                return {}
            self.late |= awaited
        return due

    def came_too_late(self, stream: str, entry: Entry, now_s: float) -> None:
        """Note an entry that was settled without this input; waiting for it might have been enough by now."""
        if any(e == entry.id and now_s - came_s < self.spec.join_wait_s for e, came_s in self._unjoined):
            self.late.discard(stream)

    def settled(self, due: Due, state: State) -> None:
        """Go on behind what Redis has taken."""
        self.state, self.last = _without_views(state, due), entry_of(due).id
        self.failures, self.refusals, self.last_error = 0, 0, ""
        if self.late:
            self._unjoined.append((self.last, came_s(due)))
        for stream in due:
            del self.heads[stream]

    def make_room(self, bus: Bus, now_s: float) -> None:
        """Redis is full and has done nothing: the heads stay, and are processed again a little later."""
        self.refusals += 1
        self.retry_at_s = now_s + 0.5
        for stream in self.inputs:
            bus.make_room(stream, drop_unread=False)
        bus.make_room(self.output, drop_unread=self.spec.live and self.refusals > 1)

    def fail(self, bus: Bus, error: BaseException, now_s: float) -> None:
        """Leave the heads pending and try again later, from the saved state."""
        self.failures += 1
        self.last_error = f"{type(error).__name__}: {error}"
        self.retry_at_s = now_s + min(5.0, 0.1 * 2**self.failures)
        self.reload(bus)


def open_lanes(bus: Bus, lanes: Sequence[Lane]) -> list[Lane]:
    """Open lanes with their states as last saved, in three round trips; returns those whose leases are still held.

    Creates the cameras' streams and groups where an operator lost them; not those of a camera that was removed just
    now. Raises redis errors as they are.
    """
    outcomes = bus.commit_all([bus.make_commit(lane.lease, also=lane.spec.group_commands(bus.keys)) for lane in lanes])
    for outcome in outcomes:
        if isinstance(outcome, redis.ResponseError):
            raise outcome
    ours = [lane for lane, outcome in zip(lanes, outcomes, strict=True) if not isinstance(outcome, LeaseLost)]
    with bus.client.pipeline(transaction=False) as pipe:
        for lane in ours:
            pipe.hgetall(lane.state_key)
        for lane, saved in zip(ours, pipe.execute(), strict=True):
            lane._restore(saved)
    readers = [(stream, lane) for lane in ours for stream in lane.inputs]
    oldest = bus.oldest_pending([(stream, lane.stage) for stream, lane in readers])
    for (stream, lane), pending in zip(readers, oldest, strict=True):
        if pending is None:
            lane.recovering.discard(stream)
    return ours


def _without_views(state: State, due: Due) -> State:
    """The state without views of pixels: their memory is used again as soon as their entry is acknowledged."""
    seen = [head.message.pixels for head in due.values() if isinstance(head.message, Snippet)]
    return {k: v.copy() if any(np.may_share_memory(v, p) for p in seen) else v for k, v in state.items()}


def came_s(due: Due) -> float:
    """When the first of them was read."""
    return min(head.since_s for head in due.values())


def memory_key(spec: CameraSpec, stage: str) -> str:
    """Equal for those that can go on with each other's state.

    Alerting goes on under changed settings: an open alert must be closed, and a run's account go on.
    """
    return stage if stage == "alerting" else processor_key(spec, stage)


def processor_key(spec: CameraSpec, stage: str) -> str:
    """Equal for lanes that one stage object can serve together."""
    head, _, name = stage.partition(":")
    if head == "features":
        return stage
    return f"{stage} {spec.models[name].model_dump_json()}" if head == "temporal" else f"{stage} {spec.config_hash}"
