"""The first minutes of an adaptive camera: what moves is collected in bounded memory, then fitted once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stages.messages import Features
from stages.stage import State
from stages.temporal.novelty.fit_arrays import Piece, learn_cells
from stages.temporal.novelty.oddness import frame_slices

SECONDS = 20.0
FRAMES = 150
"""A warm-up takes at least so many seconds and frames in which something moves,"""
CELLS = 3_000
"""and this many moving cells;"""
LONGEST_STEP_S = 1.0
"""A frame stands for no more seconds than this, however long ago the one before was."""
PATIENCE_S = 600.0
"""after so long with fewer, the camera watches a still place, and whatever moves is odd."""
HELD_CELLS, HELD_FRAMES = 12_000, 4_096
"""At most so much is collected; of more, every 2nd, 4th, ... frame in which something moves."""
BANK = 1_000
BLOCKS = 4
"""Stretches of the frames in which something moves, each held out once."""
MOST_CELLS = HELD_CELLS // BLOCKS
"""Of one frame; of more, evenly chosen ones. So at least 3 frames are held when there were as many."""
COLLECTED = ("values", "places", "counts", "clocks")


def collect(features: Features, clock_s: np.ndarray, state: State) -> State:
    """What was collected, with a snippet more. Quiet frames are left out, or they would crowd out the others.

    Arrays: `values` float16 (N, D), `places` int16 (N, 2), and for each held frame `counts` of its cells and `clocks`:
    held frame i is the camera's moving frame i x `every`. `frames`, `moved_s`, `cells`: all that moved so far.
    """
    assert features.cells is not None
    every, frames = int(state.get("every", 1)), int(state.get("frames", 0))
    slices = frame_slices(features)
    moving = [t for t, (a, b) in enumerate(slices) if b > a]
    steps_s = np.minimum(np.diff(clock_s, prepend=float(state.get("clock_s", clock_s[0]))), LONGEST_STEP_S)
    fresh = [t for n, t in enumerate(moving) if (frames + n) % every == 0]
    chosen = [_evenly(*slices[t]) for t in fresh]
    rows = np.concatenate(chosen or [np.zeros(0, int)])
    new = (
        features.values[rows].astype(np.float16),
        features.cells[rows, 1:],
        np.array([len(own) for own in chosen], np.int32),
        clock_s[fresh],
    )
    held = [np.concatenate([state[k], a]) if k in state else a for k, a in zip(COLLECTED, new, strict=True)]
    while len(held[0]) > HELD_CELLS or len(held[2]) > HELD_FRAMES:
        cells = np.repeat(np.arange(len(held[2])) % 2 == 0, held[2])
        held = [held[0][cells], held[1][cells], held[2][::2], held[3][::2]]
        every *= 2
    return dict(zip(COLLECTED, held, strict=True)) | {
        "every": np.array(every),
        "frames": np.array(frames + len(moving)),
        "moved_s": np.array(float(state.get("moved_s", 0)) + float(steps_s[moving].sum())),
        "cells": np.array(int(state.get("cells", 0)) + len(features.values)),
    }


def _evenly(a: int, b: int) -> np.ndarray:
    """At most MOST_CELLS of the indices from a to b, rising."""
    return np.arange(a, b) if b - a <= MOST_CELLS else np.linspace(a, b - 1, MOST_CELLS).astype(int)


def enough(collected: State) -> bool:
    """Whether so much has moved that there is something to learn from, held out too: how long it took is no matter."""
    moved_s, frames, cells = (float(collected[k]) for k in ("moved_s", "frames", "cells"))
    return moved_s >= SECONDS and frames >= FRAMES and cells >= CELLS


def fit_collected(collected: State, grid: tuple[int, int]) -> tuple[dict[str, np.ndarray], State]:
    """The model that enough collected frames teach, as `fit_cells` makes it, and the pooled evidence at their end."""
    counts = collected["counts"]
    frame = np.repeat(np.arange(len(counts)), counts)
    edges = np.linspace(0, len(counts), BLOCKS + 1).astype(int).tolist()
    footage = []
    for block, (a, b) in enumerate((a, b) for a, b in pairwise(edges) if b > a):
        own = (frame >= a) & (frame < b)
        cells = np.column_stack([frame[own] - a, collected["places"][own]]).astype(np.int16)
        features = Features(
            camera="warm-up",
            run_ms=0,
            seq=block,
            first_frame=a,
            times_s=collected["clocks"][a:b].astype(np.float64),
            picked=np.arange(b - a, dtype=np.int32),
            extractor="",
            values=collected["values"][own].astype(np.float32),
            cells=cells,
            grid=grid,
        )
        footage.append(Piece(clip=0, fold=block, features=features))
    return learn_cells(footage, samples=HELD_CELLS, size=BANK)
