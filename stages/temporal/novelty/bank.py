"""A memory bank: a few samples that stand for many, and how far something is from them."""

from __future__ import annotations

import numpy as np

NEAREST = 3
"""Distances are means over this many nearest members of the bank."""
REPEAT = 1e-12
"""A sample this close to a chosen one is a repeat: squared distance, over that of the sample farthest from the mean."""
CANCELS = 1e-5
"""A squared distance below this share of the query's own square is mostly rounding, where it comes of products."""


def kcentre(samples: np.ndarray, size: int) -> np.ndarray:
    """Indices of at most `size` of the float32 (N, D) samples that cover them all: greedy k-centre.

    Gonzalez 1985, as in PatchCore (Roth et al., CVPR 2022): always add the sample farthest from those chosen.
    Starts from the sample farthest from the mean, and stops early when only repeats are left. Distances are sums of
    squared differences, so equal samples are at zero from each other on every processor; no product of BLAS is in it.
    """
    spread = _squares(samples - samples.mean(0))
    far = int(np.argmax(spread))
    repeat = REPEAT * float(spread[far])
    gaps = np.full(len(samples), np.inf, np.float32)
    chosen: list[int] = []
    while len(chosen) < min(size, len(samples)):
        chosen.append(far)
        np.minimum(gaps, _squares(samples - samples[far]), out=gaps)
        far = int(np.argmax(gaps))
        if gaps[far] <= repeat:
            break
    return np.array(chosen, np.intp)


def mean_distance(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """float32 (N,): mean distance of each (N, D) query to its 3 nearest in the bank (M > 0, D), to all if M < 3.

    Zero from equal members. Needs N x M floats: give it one frame's cells at a time.
    """
    table = _table(queries, bank)
    few = min(NEAREST, len(bank))
    own = _squares(queries)
    nearest = np.argpartition(table, few - 1, axis=1)[:, :few]
    least = np.take_along_axis(table, nearest, axis=1) + own[:, None]
    row, column = np.nonzero(least <= CANCELS * own[:, None])
    least[row, column] = _squares(queries[row] - bank[nearest[row, column]])
    return np.sqrt(least).mean(axis=1)


def closest(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Index (N,) of the nearest member of the bank (M > 0, D) for each query (N, D)."""
    return _table(queries, bank).argmin(axis=1)


def _table(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Squared distances float32 (N, M), each row short of its query's own square."""
    return _squares(bank) - 2 * (queries @ bank.T)


def _squares(rows: np.ndarray) -> np.ndarray:
    """Squared lengths float32 (N,) of the rows (N, D)."""
    return np.einsum("nd,nd->n", rows, rows)
