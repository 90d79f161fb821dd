"""A lane: one camera in one stage, as held by the worker that has its lease."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.bus import Bus, Entry, Id, parse_id
from pipeline.codec import State, decode, decode_state, encode_state
from pipeline.messages import Message
from pipeline.spec import CameraSpec
from pipeline.work import Turn

ZERO: Id = (0, 0)


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


def turn_of(due: Due) -> Turn:
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
    work_key: str
    """Says which stage with which settings does the work (`work_key`)."""
    state: State = field(default_factory=dict)
    last: Id = ZERO
    heads: dict[str, Head] = field(default_factory=dict)
    recovering: set[str] = field(default_factory=set)
    """Inputs whose pending entries must be read before new ones."""
    retry_at_s: float = 0.0
    failures: int = 0
    last_error: str = ""
    next_look_s: float = 0.0
    """When a lane without news looks for entries that a former holder was given after it had lost the lease."""
    blocked: bool = False
    """The output is full of what its readers have not yet acknowledged (archives only)."""
    bound: int = 4096

    @classmethod
    def open(cls, bus: Bus, spec: CameraSpec, stage: str, token: str) -> Lane:
        """A lane with its state as last saved. Creates the camera's streams and groups where an operator lost them.

        Raises LeaseLost: a camera that was removed just now must not get its streams back.
        """
        keys, camera = bus.keys, spec.camera
        lane = cls(
            spec=spec,
            stage=stage,
            lease=(keys.lease(camera, stage), token),
            inputs=[keys.stream(camera, kind) for kind in spec.inputs(stage)],
            output=keys.stream(camera, spec.output(stage)),
            state_key=keys.state(camera, stage),
            work_key=work_key(spec, stage),
        )
        bus.settle(lane.lease, also=lambda pipe: spec.queue_groups(pipe, keys))
        lane.reload(bus)
        return lane

    def reload(self, bus: Bus) -> None:
        """Forget what is in memory and continue from what Redis knows: after any doubt about the last settlement."""
        saved: dict[bytes, bytes] = bus.client.hgetall(self.state_key)
        self.last = parse_id(saved.get(b"last", b"0-0"))
        # What another model or another configuration remembered means nothing to this one.
        self.state = decode_state(saved) if saved.get(b"by", b"").decode() == self.work_key else {}
        self.heads.clear()
        self.recovering = set(self.inputs)
        self.blocked = False

    def save_into(self, pipe: Any, state: State, last: Id) -> None:
        """Queue the state as the outcome of settling `last`."""
        pipe.delete(self.state_key)
        pipe.hset(self.state_key, mapping={"last": f"{last[0]}-{last[1]}", "by": self.work_key, **encode_state(state)})

    def put(self, stream: str, entry: Entry, now_s: float, attempts: int = 1) -> bool:
        """Make an entry the head of its stream; False if it holds no message (trimmed, or not one)."""
        try:
            message = decode(entry.fields) if entry.fields else None
        except ValueError as error:
            self.last_error = str(error)
            message = None
        if message is None:
            return False
        self.heads[stream] = Head(entry, message, now_s, attempts)
        return True

    def look_again(self) -> None:
        """Read what is pending before anything new; what is at hand stays."""
        self.recovering = set(self.inputs) - set(self.heads)

    def wants(self, now_s: float) -> list[str]:
        """Streams to read a new entry from now."""
        if self.blocked or now_s < self.retry_at_s:
            return []
        return [s for s in self.inputs if s not in self.heads and s not in self.recovering]

    def follows(self, entry: Entry) -> bool:
        """Whether an entry is the very next one after what was settled last."""
        return entry.id == (self.last[0], self.last[1] + 1)

    def due(self, now_s: float) -> Due:
        """The heads that share the smallest id, once no other input can still bring it; else nothing.

        An input whose head is already beyond that id does not have it. A live camera waits for a silent input
        only `join_wait_s`: one slow model must not hold up the alerts of the others.
        """
        if not self.heads or now_s < self.retry_at_s:
            return {}
        first = min(head.entry.id for head in self.heads.values())
        due = {s: h for s, h in self.heads.items() if h.entry.id == first}
        if len(self.heads) < len(self.inputs):
            waited = now_s - min(h.since_s for h in due.values())
            if not self.spec.live or waited < self.spec.join_wait_s:
                return {}
        return due

    def fail(self, bus: Bus, error: BaseException, now_s: float) -> None:
        """Leave the heads pending and try again later, from the saved state."""
        self.failures += 1
        self.last_error = f"{type(error).__name__}: {error}"
        self.retry_at_s = now_s + min(5.0, 0.1 * 2**self.failures)
        self.reload(bus)


def work_key(spec: CameraSpec, stage: str) -> str:
    """Equal for lanes that one stage object can serve together."""
    head, _, name = stage.partition(":")
    if head == "features":
        return stage
    return f"{stage} {spec.models[name].model_dump_json()}" if head == "temporal" else f"{stage} {spec.config_hash}"
