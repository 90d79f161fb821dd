"""The trailing mean: a score over the last half second, so that one bad frame is not an event."""

from __future__ import annotations

import numpy as np

from pipeline.messages import Features
from stages.stage import State

SECONDS = 0.5
SLACK = 0.001
FRAMES = (5, 30)
"""The mean spans SECONDS, but at least and at most this many frames (fewer at the start of a run)."""


def trail(raw: np.ndarray, features: Features, state: State) -> tuple[np.ndarray, State]:
    """Smoothed float32 (T,) of the raw (T,), and what the next snippet of the run has to know."""
    past = state.get("trail", np.zeros((0, 2)))
    now = np.stack([features.times_s[features.picked], raw.astype(np.float64)], axis=1)
    history = np.concatenate([past, now])
    smooth = np.empty(len(raw), np.float32)
    for i in range(len(raw)):
        upto = history[: len(past) + i + 1]
        recent = int((upto[-FRAMES[1] :, 0] > upto[-1, 0] - SECONDS + SLACK).sum())
        smooth[i] = upto[-max(recent, FRAMES[0]) :, 1].mean()
    return smooth, {"trail": history[-FRAMES[1] :]}
