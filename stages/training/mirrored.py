"""Footage seen in a mirror: as likely as the original, so a second example for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stages.features.registry import Extractor
from stages.messages import Features, Snippet
from stages.stage import State


class Mirrored:
    """An extractor whose pictures are swapped left and right first. For training only: its id says so."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.name, self.dim, self.sparse = extractor.name, extractor.dim, extractor.sparse
        self.analysis_height = extractor.analysis_height
        self.id = f"{extractor.id}+mirrored"

    def process(self, batch: Sequence[tuple[Snippet, State]]) -> list[tuple[list[Features], State]]:
        """The features of each snippet's mirror image."""
        return self._extractor.process(
            [(replace(snippet, pixels=snippet.pixels[:, :, ::-1].copy()), state) for snippet, state in batch]
        )

    def finish(self, state: State) -> tuple[list[Features], State]:
        return self._extractor.finish(state)
