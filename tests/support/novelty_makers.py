"""Made features of walkers on a grid, for the novelty tests: no pixels, milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.messages import Features, Scores
from stages.stage import State

GRID = (12, 20)
WALK = np.array([1.0, 0.1, 0, 0, 0, 0, 0, 0, 1.1, 1.2, 0.9], np.float32)
RIDE = np.array([0, 0, 0, 0.3, 3.0, 0.3, 0, 0, 3.6, 3.7, 1.0], np.float32)
"""What a cell of a walker and of somebody riding the other way looks like."""


def snippet(index: int, seed: int, *, rider: bool = False, walkers: int = 4, fps: float = 10.0, run_ms: int = 1):
    """Snippet `index` of a run: walkers of 6 cells crossing rows 4 to 7, and perhaps a rider of 12 cells."""
    draw = np.random.default_rng([seed, index])
    values, cells = [], []
    for t in range(16):
        for w in range(walkers):
            place = np.array([4 + w % 3, (3 * w + index + t // 8) % (GRID[1] - 2)])
            values.append(WALK * draw.normal(1, 0.1, (6, 11)) + draw.normal(0, 0.02, (6, 11)))
            cells.append([[t, place[0] + r, place[1] + c] for r in range(2) for c in range(3)])
        if rider:
            values.append(RIDE * draw.normal(1, 0.1, (12, 11)))
            cells.append([[t, 4 + r, 6 + c] for r in range(3) for c in range(4)])
    return features(
        index,
        values=np.concatenate(values or [np.zeros((0, 11))]).astype(np.float32),
        cells=np.concatenate(cells or [np.zeros((0, 3))]).astype(np.int16),
        fps=fps,
        run_ms=run_ms,
    )


def features(
    index: int,
    values: np.ndarray,
    cells: np.ndarray | None = None,
    *,
    extractor: str = "made@1",
    fps: float = 10.0,
    run_ms: int = 1,
    count: int = 16,
) -> Features:
    """Features number `index` of a run of snippets of `count` frames."""
    return Features(
        camera="yard",
        run_ms=run_ms,
        seq=index,
        first_frame=index * count,
        times_s=(index * count + np.arange(count)) / fps,
        picked=np.arange(count, dtype=np.int32),
        extractor=extractor,
        values=values,
        cells=cells,
        grid=None if cells is None else GRID,
    )


def clip(seed: int, snippets: int = 6, **how) -> list[Features]:
    """A run of walkers."""
    return [snippet(i, seed, **how) for i in range(snippets)]


def watch(model, run: Sequence[Features], state: State | None = None) -> tuple[list[Scores], State]:
    """Scores of a run, snippet by snippet, and the state after it."""
    state = state or {}
    out: list[Scores] = []
    for f in run:
        [(scores, state)] = model.process([(f, state)])
        out += scores
    return out, state


def raw(scores: Sequence[Scores]) -> np.ndarray:
    """All raw scores of a run."""
    return np.concatenate([s.raw for s in scores])
