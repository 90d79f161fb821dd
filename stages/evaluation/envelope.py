"""A long series in few points, without losing a peak."""

from __future__ import annotations

import numpy as np


def envelope(times_s: np.ndarray, values: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The highest of values float32 (N,) in each group of consecutive frames, NaN where none of it was scored.

    Returns the middle time of each group float64 (M,), the values float32 (M,) and the frames in a group; M <= points.
    Groups hold equally many frames, not seconds, so a variable frame rate leaves no group empty.
    """
    # A clock that steps back would draw a line that does; frames stay where they were decoded.
    times_s = np.maximum.accumulate(times_s)
    size = max(-(-len(values) // points), 1)
    if size == 1:
        return times_s, values, 1
    starts = np.arange(0, len(values), size)
    ends = np.append(starts[1:], len(values)) - 1
    return (times_s[starts] + times_s[ends]) / 2, np.fmax.reduceat(values, starts), size
