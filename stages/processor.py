"""What a worker does with the messages of one id: run a stage on them, and say what to publish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stages.messages import End, Gap, Message
from stages.stage import Stage, State, as_array, number

Inputs = Mapping[str, Message]
"""Input stream kind -> message; all of one id."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Messages for the output stream, the state to save, and further commands for the same transaction."""

    messages: Sequence[Message]
    state: State
    also: Callable[[Any, Any], None] | None = None


class Processor(Protocol):
    """The part of a worker that differs between stages."""

    def run(self, batch: Sequence[tuple[Inputs, State]]) -> list[Result]:
        """One result per item. Raises whatever the stage raises."""
        ...


class StageProcessor:
    """Runs a one-input stage, and tells it when a run ends or frames are missing."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def run(self, batch: Sequence[tuple[Inputs, State]]) -> list[Result]:
        owed: list[list[Message]] = []
        states: list[State] = []
        todo: list[int] = []
        for position, (inputs, saved) in enumerate(batch):
            message = next(iter(inputs.values()))
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
            owed.append(out)
            states.append(state)
        processed = self._stage.process([(next(iter(batch[i][0].values())), states[i]) for i in todo]) if todo else []
        for position, (outputs, state) in zip(todo, processed, strict=True):
            owed[position].extend(outputs)
            states[position] = state
        return [
            Result(out, state | {"_run_ms": as_array(m.run_ms), "_next_frame": as_array(m.next_frame)})
            for out, state, m in zip(owed, states, (next(iter(t.values())) for t, _ in batch), strict=True)
        ]


def give_up(work: Processor, inputs: Inputs, state: State, why: str) -> Result:
    """What to publish in place of messages that no attempt could process: a gap, or what says that frames end."""
    message = next(iter(inputs.values()))
    if isinstance(message, Gap | End):
        return work.run([(inputs, state)])[0]
    header = {k: v for k, v in message.header().items() if k not in ("picked", "thumb")}
    gap = Gap(**header, cause="failed", detail=why[:200])
    return work.run([({kind: gap for kind in inputs}, state)])[0]
