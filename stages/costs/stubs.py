"""Stubs of stages: their outputs for a sample, replayed, so that what is measured is the cost of the bus alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.messages import End, Features, Gap, Message, Scores, Snippet
from stages.stage import Inputs, Result, State, as_array


@dataclass(frozen=True, slots=True, eq=False)
class StageOutput:
    """What a stage made of one snippet of the sample."""

    made: Features | Scores
    state: State


@dataclass(frozen=True, slots=True, eq=False)
class SampleOutputs:
    """Snippets of a sample and every stage's outputs for them (`features:motion`, `temporal:novelty`)."""

    snippets: Sequence[Snippet]
    outputs: Mapping[str, Sequence[StageOutput]]


def looped(
    snippets: Sequence[Snippet], *, camera: str, run_ms: int, fps: float, live: bool = True
) -> Iterator[Snippet]:
    """The snippets without end, as one run of a camera with `fps` frames per second; `made_ms` is the caller's."""
    first, seq = 0, 0
    while True:
        snippet = snippets[seq % len(snippets)]
        frames = len(snippet.times_s)
        times_s = (first + np.arange(frames)) / fps
        yield replace(
            snippet, camera=camera, run_ms=run_ms, seq=seq, first_frame=first, times_s=times_s, live=live, prior=None
        )  # fmt: skip
        first, seq = first + frames, seq + 1


class StubProcessor:
    """A features or temporal stage with canned outputs: what is left is the cost of moving messages."""

    def __init__(self, outputs: Sequence[StageOutput], model: str = "") -> None:
        """`model`: the name of a temporal model in the camera's configuration."""
        self._outputs = outputs
        self._model = model

    def run(self, batch: Sequence[tuple[Inputs, State]]) -> list[Result]:
        return [self._one(next(iter(inputs.values()))) for inputs, _ in batch]

    def _one(self, message: Message) -> Result:
        if isinstance(message, Gap | End):
            return Result([message], {})
        output = self._outputs[message.seq % len(self._outputs)]
        made = replace(output.made, **message.header())
        after = {"_run_ms": as_array(message.run_ms), "_next_frame": as_array(message.next_frame)}
        return Result([made], output.state | after)
