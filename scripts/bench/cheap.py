"""A cheap extractor for the benchmark: what is left to measure is what moving messages costs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.bench import footage
from stages.features.registry import EXTRACTORS, HEIGHTS
from stages.messages import Features, Snippet
from stages.stage import State

HOOK = "from scripts.bench import cheap; cheap.register()\n"


class Means:
    """A snippet's mean colours, on a grid of 2 by 2."""

    name, id, dim, sparse, analysis_height = "means", "means@bench", 12, False, 54

    def process(self, batch: Sequence[tuple[Snippet, State]]) -> list[tuple[list[Features], State]]:
        """Features of each snippet."""
        return [([Features(**s.header(), extractor=self.id, values=means(s.pixels))], {}) for s, _ in batch]

    def finish(self, state: State) -> tuple[list[Features], State]:
        """Nothing is remembered."""
        return [], {}


def means(pixels: np.ndarray) -> np.ndarray:
    """float32 (12,): of uint8 (T, H, W, 3)."""
    _, h, w, _ = pixels.shape
    return np.concatenate(
        [pixels[:, y : y + h // 2, x : x + w // 2].mean((0, 1, 2)) for y in (0, h // 2) for x in (0, w // 2)]
    ).astype(np.float32)


def register() -> None:
    """Make `means` known in this process."""
    EXTRACTORS["means"], HEIGHTS["means"] = "scripts.bench.cheap", 54


def build(name: str = "means", device: str = "cpu", precision: str = "fp32") -> Means:
    """The extractor."""
    return Means()


def checkpoint(work: Path) -> Path:
    """`novelty` on `means`, fitted on tiny pictures."""
    from pipeline.cli.fit import fit_checkpoint

    register()
    path = work / "cheap.safetensors"
    if not path.exists():
        fit_checkpoint([str(footage.tiny(work, 640))], path, "means")
    return path


def python_path(work: Path) -> str:
    """A PYTHONPATH under which every process of `oddwatch` knows `means`."""
    folder = work / "hook"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HOOK)
    return os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
