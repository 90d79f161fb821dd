"""Novelty of sparse features: distance of each moving cell to a bank of normal ones, judged by where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.messages import Features
from stages.temporal.novelty.bank import mean_distance

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
class PlaceLevels:
    """Sums of held-out normal distances at each cell of the grid, from which its own mean and deviation follow."""

    sums: np.ndarray
    """float64 (3, rows, columns): count, sum and sum of squares."""

    @classmethod
    def of(cls, grid: tuple[int, int], places: np.ndarray, distances: np.ndarray) -> PlaceLevels:
        """From distances (N,) at places int (N, 2)."""
        at = places[:, 0].astype(np.intp) * grid[1] + places[:, 1]
        exact = distances.astype(np.float64)
        weights = (None, exact, exact * exact)
        return cls(np.stack([np.bincount(at, w, grid[0] * grid[1]) for w in weights]).reshape(3, *grid))

    @classmethod
    def total(cls, parts: Sequence[PlaceLevels], grid: tuple[int, int]) -> PlaceLevels:
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
