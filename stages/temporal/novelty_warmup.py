"""The first minutes of an adaptive camera: what moves is collected in bounded memory, then fitted once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pipeline.messages import Features
from stages.stage import State
from stages.temporal.novelty_cells import frame_slices
from stages.temporal.novelty_fit import Piece, fit_cells

SECONDS = 20.0
FRAMES = 150
"""A warm-up takes at least this long and this many frames,"""
CELLS = 3_000
"""and this many moving cells;"""
PATIENCE_S = 600.0
"""after so long with fewer, the camera watches a still place, and whatever moves is odd."""
HELD_CELLS, HELD_FRAMES = 12_000, 4_096
"""At most so much is collected; of more, every 2nd, 4th, ... frame."""
BANK = 1_000
BLOCKS = 4
"""Stretches of time, each held out once."""
COLLECTED = ("values", "places", "counts", "clocks")


def collect(features: Features, clock_s: np.ndarray, state: State) -> State:
    """What was collected, with a snippet more. Frame i of it is the camera's frame i x `every`.

    Arrays: `values` float16 (N, D), `places` int16 (N, 2), and for each frame `counts` of its cells and `clocks`.
    """
    assert features.cells is not None
    every, frames = int(state.get("every", 1)), int(state.get("frames", 0))
    fresh = [t for t in range(len(features.picked)) if (frames + t) % every == 0]
    slices = frame_slices(features)
    rows = np.concatenate([np.arange(*slices[t]) for t in fresh] or [np.zeros(0, int)])
    new = (
        features.values[rows].astype(np.float16),
        features.cells[rows, 1:],
        np.array([slices[t][1] - slices[t][0] for t in fresh], np.int32),
        clock_s[fresh],
    )
    held = [np.concatenate([state[k], a]) if k in state else a for k, a in zip(COLLECTED, new, strict=True)]
    while len(held[0]) > HELD_CELLS or len(held[2]) > HELD_FRAMES:
        if len(held[2]) == 1:
            held[0], held[1], held[2] = held[0][:HELD_CELLS], held[1][:HELD_CELLS], np.minimum(held[2], HELD_CELLS)
            break
        cells = np.repeat(np.arange(len(held[2])) % 2 == 0, held[2])
        held = [held[0][cells], held[1][cells], held[2][::2], held[3][::2]]
        every *= 2
    return dict(zip(COLLECTED, held, strict=True)) | {
        "every": np.array(every),
        "frames": np.array(frames + len(features.picked)),
        "cells": np.array(int(state.get("cells", 0)) + len(features.values)),
    }


def enough(collected: State, clock_s: float) -> bool:
    """Whether there is enough to learn from."""
    return clock_s >= SECONDS and int(collected["frames"]) >= FRAMES and int(collected["cells"]) >= CELLS


def fit_collected(collected: State, grid: tuple[int, int]) -> dict[str, np.ndarray]:
    """The model that the collected frames teach: arrays as `fit_cells` makes them. Raises ValueError as it does."""
    counts = collected["counts"]
    frame = np.repeat(np.arange(len(counts)), counts)
    edges = np.linspace(0, len(counts), BLOCKS + 1).astype(int).tolist()
    footage = []
    for block, (a, b) in enumerate(pairwise(edges)):
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
    return fit_cells(footage, samples=HELD_CELLS, size=BANK)
