"""How a predicted frame is scored: by the whole picture, by its worst square, or square by square and by where it is.

PSNR of the whole picture is published. The other two are ours: a bicycle is a hundredth of the picture, and whoever
walks near the camera is predicted worse than whoever walks far away. What is normal where is measured as in `novelty`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.stage import State
from stages.temporal.future_frame.unet import psnr
from stages.temporal.novelty.oddness import PlaceStats, oddness, pool

LEAST_CELL_ERROR = 1e-6
"""Mean squared error of a square at which its PSNR stops: 60 dB."""
SQUARES = 8, 24
"""A square is the first part of the picture's height, and the next one begins the second part of it further on."""


class ErrorScorer(Protocol):
    """Compares predicted frames with real ones, then makes scores of what it saw."""

    @property
    def place_sums(self) -> np.ndarray | None:
        """What a checkpoint must keep of normal footage: float64 (3, rows, columns)."""
        ...

    def meta(self) -> dict:
        """What a checkpoint keeps as `score`."""
        ...

    def errors(self, predicted: Tensor, real: Tensor, before: Tensor) -> Tensor:
        """Of frames (B, C, H, W) in [-1, 1]; `before` are the real ones one step earlier -> float32 (B, ...) in dB."""
        ...

    def scores(self, errors: np.ndarray, times_s: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Errors (T, ...) of a run's next predicted frames -> raw float32 (T,), and what to remember."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureScorer:
    """-PSNR of the picture, or of its worst square."""

    patch_px: int = 0
    """As in `psnr`."""

    @property
    def place_sums(self) -> None:
        return None

    def meta(self) -> dict:
        return {"by": "picture", "patch_px": self.patch_px}

    def errors(self, predicted: Tensor, real: Tensor, before: Tensor) -> Tensor:
        return -psnr(predicted, real, self.patch_px)

    def scores(self, errors: np.ndarray, times_s: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        return errors, {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Squares:
    """The squares that a picture is scored by."""

    window_px: int
    stride_px: int
    least_change: float = 2e-4
    """Mean squared change (images in [0, 1]) since the frame before, under which nothing happens in a square."""

    def __post_init__(self) -> None:
        if not 1 <= self.stride_px <= self.window_px or self.least_change < 0:
            raise ValueError(f"need 1 <= stride_px <= window_px and least_change of 0 or more, got {self}")

    @classmethod
    def of_height(cls, height: int) -> Squares:
        """Of the usual size for pictures of this height."""
        window, stride = (max(1, round(height / part)) for part in SQUARES)
        return cls(window_px=window, stride_px=stride)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns."""
        if min(height, width) < self.window_px:
            raise ValueError(f"window_px must be at most {min(height, width)}, got {self.window_px}")
        return (height - self.window_px) // self.stride_px + 1, (width - self.window_px) // self.stride_px + 1

    def errors(self, predicted: Tensor, real: Tensor, before: Tensor) -> Tensor:
        """-PSNR of each square, (B, rows, columns); -inf where nothing happens."""
        decibels = 10 * torch.log10(self._mean_square(predicted - real).clamp_min(LEAST_CELL_ERROR))
        return decibels.masked_fill(self._mean_square(real - before) < self.least_change, -torch.inf)

    def _mean_square(self, difference: Tensor) -> Tensor:
        squared = (difference / 2).square().mean(1, keepdim=True)
        return F.avg_pool2d(squared, self.window_px, self.stride_px)[:, 0]


class PlaceScorer:
    """How many deviations worse than normal at their place the worst squares are, over half a second.

    State: as of `novelty.oddness.pool`.
    """

    def __init__(self, squares: Squares, place_sums: np.ndarray) -> None:
        """`place_sums`: see `place_sums_of`."""
        self._squares, self.place_sums = squares, place_sums
        self._mean, self._deviation = PlaceStats(place_sums).levels()

    def meta(self) -> dict:
        squares = self._squares
        return {
            "by": "place", "window_px": squares.window_px, "stride_px": squares.stride_px,
            "least_change": squares.least_change,
        }  # fmt: skip

    def errors(self, predicted: Tensor, real: Tensor, before: Tensor) -> Tensor:
        return self._squares.errors(predicted, real, before)

    def scores(self, errors: np.ndarray, times_s: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        return pool(oddness(errors, self._mean, self._deviation), times_s, state)


def place_sums_of(errors: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (3, rows, columns) out of the errors (T, rows, columns) of normal clips: count, sum, sum of squares."""
    parts = []
    for maps in errors:
        frames, rows, columns = np.nonzero(np.isfinite(maps))
        parts.append(PlaceStats.of(maps.shape[1:], np.stack([rows, columns], 1), maps[frames, rows, columns]))
    return PlaceStats.total(parts, errors[0].shape[1:]).sums
