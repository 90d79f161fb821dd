"""From a map of odd cells to one score: evidence is pooled over half a second and over neighbours, then the top counts.

Noise flickers and stands alone; a thing that is odd stays so from frame to frame and covers several cells.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.stage import State

SECONDS = 0.5
FRAMES = (5, 30)
"""The memory of the moving mean: SECONDS, but at least and at most this many frames."""
TOP = 15
"""A frame's score is the mean of this many of its oddest cells."""


def pool(maps: np.ndarray, times_s: np.ndarray, state: State) -> tuple[np.ndarray, State]:
    """Scores float32 (T,) of maps float32 (T, rows, columns) taken at `times_s`, and what the next snippet must know.

    Causal; a run starts as the plain mean of what there is. A map of one cell is its own score.
    """
    mean = state.get("map")
    seen, last_s = int(state.get("seen", 0)), float(state.get("last_s", 0))
    if mean is None or mean.shape != maps.shape[1:]:
        mean, seen = np.zeros(maps.shape[1:], np.float32), 0
    scores = np.empty(len(maps), np.float32)
    for t, (now, at_s) in enumerate(zip(maps, times_s.tolist(), strict=True)):
        mean = mean + np.float32(max(weight(at_s - last_s), 1 / (seen + 1))) * (now - mean)
        seen, last_s = min(seen + 1, FRAMES[1]), at_s
        scores[t] = _top(mean)
    return scores, {"map": mean, "seen": np.array(seen), "last_s": np.array(last_s)}


def weight(step_s: float) -> float:
    """Of the newest frame in the moving mean, when it comes `step_s` after the one before."""
    frames = np.clip(SECONDS / step_s, *FRAMES) if step_s > 0 else FRAMES[1]
    return float(2 / (frames + 1))


def _top(mean: np.ndarray) -> float:
    if mean.size <= TOP:
        return float(mean.mean(dtype=np.float64))
    smooth = cv2.blur(mean, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return float(np.partition(smooth, -TOP, axis=None)[-TOP:].mean(dtype=np.float64))
