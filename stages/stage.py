"""The seam between the runtime and what is done to messages: the stage, and the processor that runs it for a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from stages.messages import End, Gap, Message, Picked

State = dict[str, np.ndarray]
"""Everything a stage remembers of one camera: named arrays (numbers as 0-d arrays). {} is a fresh start.

The runtime saves it in the same transaction that publishes the output, so a stage killed at any
moment continues exactly where its last published output left it. Keep it small and bounded.
"""

In = TypeVar("In", bound=Picked, contravariant=True)
Out = TypeVar("Out", bound=Picked)


class Stage(Protocol[In, Out]):
    """Turns messages into messages. Pure: no Redis, no clock, no environment; the same input gives the same bytes.

    Raising means: this message cannot be processed. The runtime retries it, then buries it.
    """

    def process(self, batch: Sequence[tuple[In, State]]) -> list[tuple[list[Out], State]]:
        """For each (message, state of its camera): the outputs now due, and the new state.

        A batch holds at most one message of a camera. Outputs keep the header of the message they belong to
        (`Features(**snippet.header(), ...)`). A model with look-ahead returns none at first and older ones later.
        Must not change the state it was given. An item's result must not depend on its neighbours.
        """
        ...

    def finish(self, state: State) -> tuple[list[Out], State]:
        """The run ended, or the next frames are missing: the outputs still to come, and the state that may live on.

        What is temporal (a previous frame, a window) must go; what was learned of the camera may stay.
        """
        ...


def number(state: State, name: str, default: int = -1) -> int:
    """A whole number kept in a state."""
    return int(state[name]) if name in state else default


def as_array(value: int) -> np.ndarray:
    """A whole number as a state keeps it."""
    return np.asarray(value, np.int64)


Inputs = Mapping[str, Message]
"""Input stream kind -> message; all of one id."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Messages for the output stream, and the state to save in the same step."""

    messages: Sequence[Message]
    state: State
    also: Callable[[Any], Sequence[tuple]] | None = None
    """Further Redis commands of that step, given the names of keys; only for what is no stream of messages."""


class Processor(Protocol):
    """What a worker runs for its tasks: the part of it that differs between stages."""

    def run(self, batch: Sequence[tuple[Inputs, State]]) -> list[Result]:
        """One result per item. Raises whatever the stage raises."""
        ...


class StageProcessor:
    """Runs a one-input stage, and tells it when a run ends or frames are missing."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def run(self, batch: Sequence[tuple[Inputs, State]]) -> list[Result]:
        messages = [next(iter(inputs.values())) for inputs, _ in batch]
        outputs: list[list[Message]] = []
        states: list[State] = []
        todo: list[int] = []
        for position, (message, (_, saved)) in enumerate(zip(messages, batch, strict=True)):
            state = {k: v for k, v in saved.items() if not k.startswith("_")}
            out: list[Message] = []
            is_control = isinstance(message, Gap | End)
            continues = (number(saved, "_run_ms"), number(saved, "_next_frame")) == (
                message.run_ms,
                message.first_frame,
            )
            if saved and (is_control or not continues):
                finished, state = self._stage.finish(state)
                out.extend(finished)
            if is_control:
                out.append(message)
            else:
                todo.append(position)
            outputs.append(out)
            states.append(state)
        processed = self._stage.process([(messages[i], states[i]) for i in todo]) if todo else []
        for position, (out, state) in zip(todo, processed, strict=True):
            outputs[position].extend(out)
            states[position] = state
        return [
            Result(out, state | {"_run_ms": as_array(m.run_ms), "_next_frame": as_array(m.next_frame)})
            for out, state, m in zip(outputs, states, messages, strict=True)
        ]


def give_up(processor: Processor, inputs: Inputs, state: State, why: str) -> Result:
    """What to publish in place of messages that no attempt could process: a gap, or what says that frames end."""
    message = next(iter(inputs.values()))
    if isinstance(message, Gap | End):
        return processor.run([(inputs, state)])[0]
    header = {k: v for k, v in message.header().items() if k not in ("picked", "thumb")}
    gap = Gap(**header, cause="failed", detail=why[:200])
    return processor.run([({kind: gap for kind in inputs}, state)])[0]
