"""How odd features are: distance to a bank of normal ones, in deviations from what is normal at the place, then pooled.

Sparse features: each moving cell is judged by where it is; the evidence is pooled over half a second and over
neighbours, and the top cells make the score of a frame. Noise flickers and stands alone; a thing that is odd stays so
from frame to frame and covers several cells. Dense features: a snippet's vector is judged, and held over its frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from stages.messages import Features
from stages.pace import holes, pace_of, saved_pace
from stages.stage import State

NEAREST = 3
"""Distances are means over this many nearest members of the bank."""
REPEAT = 1e-12
"""A sample this close to a chosen one is a repeat: squared distance, over that of the sample farthest from the mean."""
CANCELS = 1e-5
"""A squared distance below this share of the query's own square is mostly rounding, where it comes of products."""
STILL = -1.0
"""What a cell in which nothing moves adds: less than one with ordinary motion."""
KNEE = 4.0
"""Deviations above which oddness grows by its logarithm: no one cell rules a frame, yet nothing saturates."""
NEAR = 1.0
"""Distance between places a grid height apart: as much as this many deviations in every value."""
BOX = 7
"""Cells: what is normal at a place is learned from a square of this width around it."""
PRIOR = 20.0
"""Cells' worth of belief that a place is like all others."""
POOL_S = 0.5
POOL_FRAMES = (5, 30)
"""The memory of the moving mean: POOL_S, but at least and at most this many frames."""
TOP_CELLS = 15
"""A frame's score is the mean of this many of its oddest cells."""


@dataclass(frozen=True, eq=False)
class Scale:
    """How values and positions become comparable coordinates."""

    mean: np.ndarray
    deviation: np.ndarray
    rows: int

    @classmethod
    def of(cls, values: np.ndarray, rows: int) -> Scale:
        """From normal values (N, D) on a grid of `rows` rows; a value that never varies is left as it is."""
        deviation = values.std(axis=0, dtype=np.float64)
        return cls(
            values.mean(axis=0, dtype=np.float64).astype(np.float32),
            np.where(deviation > 1e-6, deviation, 1).astype(np.float32),
            rows,
        )

    def __call__(self, values: np.ndarray, places: np.ndarray) -> np.ndarray:
        """float32 (N, D + 2): standardised values over sqrt(D), then place [row, column] as parts of the height."""
        shape = (values - self.mean) / (self.deviation * np.float32(np.sqrt(values.shape[1])))
        return np.concatenate([shape, places * np.float32(NEAR / self.rows)], axis=1, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class PlaceStats:
    """Sums of held-out normal distances at each cell of the grid, from which its own mean and deviation follow."""

    sums: np.ndarray
    """float64 (3, rows, columns): count, sum and sum of squares."""

    @classmethod
    def of(cls, grid: tuple[int, int], places: np.ndarray, distances: np.ndarray) -> PlaceStats:
        """From distances (N,) at places int (N, 2)."""
        at = places[:, 0].astype(np.intp) * grid[1] + places[:, 1]
        exact = distances.astype(np.float64)
        weights = (None, exact, exact * exact)
        return cls(np.stack([np.bincount(at, w, grid[0] * grid[1]) for w in weights]).reshape(3, *grid))

    @classmethod
    def total(cls, parts: Sequence[PlaceStats], grid: tuple[int, int]) -> PlaceStats:
        """Of footage in several parts."""
        return cls(sum((part.sums for part in parts), np.zeros((3, *grid))))

    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation float32 (rows, columns) around each cell, shrunk to the whole picture's."""
        total = self.sums.sum(axis=(1, 2))
        overall = total / max(total[0], 1)
        around = _box(self.sums) + PRIOR * overall[:, None, None]
        mean = around[1] / np.maximum(around[0], 1e-9)
        deviation = np.sqrt(np.maximum(around[2] / np.maximum(around[0], 1e-9) - mean * mean, 0))
        floor = 0.25 * np.sqrt(max(overall[2] - overall[1] ** 2, 0)) + 1e-3
        return mean.astype(np.float32), np.maximum(deviation, floor).astype(np.float32)


def _box(sums: np.ndarray) -> np.ndarray:
    """Sums over the BOX x BOX cells around each, fewer at the edges."""
    reach = BOX // 2
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (reach + 1, reach)
        run = np.cumsum(np.pad(sums, pad), axis=axis)
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(BOX, None), slice(None, -BOX)
        sums = run[tuple(ahead)] - run[tuple(behind)]
    return sums


def distances(features: Features, scale: Scale, bank: np.ndarray) -> np.ndarray:
    """float32 (N,): distance of each active cell to the bank, frame by frame, so that snippets may be cut anywhere."""
    places = places_on(features, scale.rows)
    queries = scale(features.values, places)
    parts = [mean_distance(queries[a:b], bank) for a, b in frame_slices(features) if b > a]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def places_on(features: Features, rows: int) -> np.ndarray:
    """int16 (N, 2): [row, column] of each active cell, scaled to a grid of `rows` rows."""
    assert features.cells is not None
    assert features.grid is not None
    places = features.cells[:, 1:]
    return places if features.grid[0] == rows else places * rows // features.grid[0]


def frame_slices(features: Features) -> list[tuple[int, int]]:
    """For each kept frame the range of its active cells. Raises ValueError if cells are not in frame order."""
    assert features.cells is not None
    frames = features.cells[:, 0]
    if np.any(np.diff(frames) < 0):
        raise ValueError("the active cells of a snippet must be ordered by frame")
    edges = np.searchsorted(frames, np.arange(len(features.picked) + 1))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def odd_maps(features: Features, far: np.ndarray, levels: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """float32 (T, rows, columns): how odd each cell is at its place, given its distance; STILL where nothing moves."""
    assert features.cells is not None
    mean, deviation = levels
    maps = np.full((len(features.picked), *mean.shape), STILL, np.float32)
    at = at_on(features, mean.shape)
    maps[features.cells[:, 0], at[0], at[1]] = oddness(far, mean[at], deviation[at])
    return maps


def at_on(features: Features, grid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the active cells on a model's grid; what lies beyond its right edge counts as at it."""
    row, column = places_on(features, grid[0]).T
    return row, np.minimum(column, grid[1] - 1)


def oddness(far: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Distances in deviations from the mean, bounded below by STILL and bent at KNEE."""
    z = np.maximum((far - mean) / deviation, np.float32(STILL))
    return np.where(z > KNEE, KNEE * (1 + np.log(np.maximum(z, KNEE) / KNEE)), z).astype(np.float32)


def coordinates(values: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Vectors float32 (N, D), standardised over sqrt(D)."""
    return ((values - mean) / (deviation * np.float32(np.sqrt(values.shape[1])))).astype(np.float32)


def snippet_oddness(
    values: np.ndarray, mean: np.ndarray, deviation: np.ndarray, bank: np.ndarray, level: np.ndarray
) -> np.ndarray:
    """float32 0-d: oddness of a snippet's vector (D,); `level` is [mean, deviation] of held-out normal distances."""
    far = mean_distance(coordinates(values[None], mean, deviation), bank)
    return oddness(far, level[0], level[1])[0]


def held_map(odd: np.ndarray, features: Features) -> np.ndarray:
    """float32 (T, 1, 1): a snippet's oddness, held over its frames."""
    return np.full((len(features.picked), 1, 1), odd, np.float32)


def pool(maps: np.ndarray, times_s: np.ndarray, state: State) -> tuple[np.ndarray, State]:
    """Scores float32 (T,) of maps float32 (T, rows, columns) taken at `times_s`, and what the next snippet must know.

    Causal; a run, and what follows a hole in time (stages.pace), starts as the plain mean of what there is. A map
    of one cell is its own score.
    """
    mean = state.get("map")
    seen, last_s = int(state.get("seen", 0)), float(state.get("last_s", 0))
    if mean is None or mean.shape != maps.shape[1:]:
        mean, seen = np.zeros(maps.shape[1:], np.float32), 0
    scores = np.empty(len(maps), np.float32)
    anew, pace = holes(times_s, last_s if seen else None, pace_of(state))
    for t, (now, at_s) in enumerate(zip(maps, times_s.tolist(), strict=True)):
        seen = 0 if anew[t] else seen
        mean = mean + np.float32(max(weight(at_s - last_s), 1 / (seen + 1))) * (now - mean)
        seen, last_s = min(seen + 1, POOL_FRAMES[1]), at_s
        scores[t] = _top(mean)
    return scores, {"map": mean, "seen": np.array(seen), "last_s": np.array(last_s)} | saved_pace(pace)


def weight(step_s: float) -> float:
    """Of the newest frame in the moving mean, when it comes `step_s` after the one before."""
    frames = np.clip(POOL_S / step_s, *POOL_FRAMES) if step_s > 0 else POOL_FRAMES[1]
    return float(2 / (frames + 1))


def _top(mean: np.ndarray) -> float:
    if mean.size <= TOP_CELLS:
        return float(mean.mean(dtype=np.float64))
    smooth = cv2.blur(mean, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return float(np.partition(smooth, -TOP_CELLS, axis=None)[-TOP_CELLS:].mean(dtype=np.float64))


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
    least = np.partition(table, few - 1, axis=1)[:, :few] + own[:, None]
    for row in np.flatnonzero((least <= CANCELS * own[:, None]).any(axis=1)):
        nearest = np.argpartition(table[row], few - 1)[:few]
        exact = _squares(queries[row] - bank[nearest])
        rounded = table[row, nearest] + own[row]
        least[row] = np.where(rounded <= CANCELS * own[row], exact, rounded)
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
