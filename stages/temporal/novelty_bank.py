"""A memory bank: a few samples that stand for many, and how far something is from them."""

from __future__ import annotations

import numpy as np

NEAREST = 3
"""Distances are means over this many nearest members of the bank."""


def kcentre(samples: np.ndarray, size: int) -> np.ndarray:
    """Indices of at most `size` of the float32 (N, D) samples that cover them all: greedy k-centre.

    Gonzalez 1985, as in PatchCore (Roth et al., CVPR 2022): always add the sample farthest from those chosen.
    Starts from the sample farthest from the mean, and stops early when only repeats are left.
    """
    squares = np.einsum("nd,nd->n", samples, samples)
    far = int(np.argmax(np.einsum("nd,nd->n", samples - samples.mean(0), samples - samples.mean(0))))
    gaps = np.full(len(samples), np.inf, np.float32)
    chosen: list[int] = []
    while len(chosen) < min(size, len(samples)):
        chosen.append(far)
        np.minimum(gaps, squares + squares[far] - 2 * (samples @ samples[far]), out=gaps)
        gaps[far] = 0
        far = int(np.argmax(gaps))
        if gaps[far] <= 1e-6:
            break
    return np.array(chosen, np.intp)


def mean_distance(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """float32 (N,): mean distance of each (N, D) query to its 3 nearest in the bank (M > 0, D), to all if M < 3.

    Needs N x M floats: give it one frame's cells at a time.
    """
    table = _table(queries, bank)
    few = min(NEAREST, len(bank))
    own = np.einsum("nd,nd->n", queries, queries)
    least = np.partition(table, few - 1, axis=1)[:, :few] + own[:, None]
    return np.sqrt(np.maximum(least, 0)).mean(axis=1)


def closest(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Index (N,) of the nearest member of the bank (M > 0, D) for each query (N, D)."""
    return _table(queries, bank).argmin(axis=1)


def _table(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Squared distances float32 (N, M), each row short of its query's own square."""
    return np.einsum("md,md->m", bank, bank) - 2 * (queries @ bank.T)
