"""Detectors of objects: the seam, and what is known of a kind before it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stages.errors import ConfigError
from stages.plugins import Plugins, load


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes:
    """What is seen in one picture, strongest first."""

    places: np.ndarray
    """float32 (N, 4): x0, y0, x1, y1 in parts of the picture, 0 <= x0 < x1 <= 1 from its left, y from its top."""
    scores: np.ndarray
    """float32 (N,): in (0, 1], falling."""
    classes: np.ndarray
    """int32 (N,): indices into `Detector.classes`."""

    def __post_init__(self) -> None:
        n = len(self.scores)
        shapes = (self.places.shape, self.scores.shape, self.classes.shape)
        if shapes != ((n, 4), (n,), (n,)):
            raise ValueError(f"need places (N, 4), scores (N,) and classes (N,), got {shapes}")
        if [str(a.dtype) for a in (self.places, self.scores, self.classes)] != ["float32", "float32", "int32"]:
            raise ValueError("places and scores must be float32, classes int32")
        low, high = self.places[:, :2], self.places[:, 2:]
        if not ((low >= 0) & (low < high) & (high <= 1)).all():
            raise ValueError("places must be x0 < x1 and y0 < y1 in parts of the picture, 0 to 1")
        if not ((self.scores > 0) & (self.scores <= 1)).all() or (np.diff(self.scores) > 0).any():
            raise ValueError("scores must lie in (0, 1] and fall")


class Detector(Protocol):
    """Pure: the same pictures give the same boxes, and a picture's do not depend on its neighbours."""

    name: str
    """That of its kind."""
    id: str
    """`name@hash`: the hash changes whenever the same pixels may give other boxes."""
    classes: tuple[str, ...]
    """Names of what it tells apart, in English, small letters."""

    def detect(self, pixels: np.ndarray) -> list[Boxes]:
        """The boxes of each of the pictures uint8 (T, H, W, 3) RGB, of any size."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorKind:
    """What is known of a detector without building it."""

    name: str
    build: str
    """`module:function`, called as `(name, device)`, gives the Detector. Raises WeightsError if weights are absent."""
    analysis_height: int
    """Picture height in pixels that it wants from the decoder; it must take others too."""
    weights: bool = False
    """It needs weights that are installed apart."""


DETECTORS = Plugins("oddwatch.detectors", "detector", DetectorKind)


def build_detector(name: str, device: str = "cpu") -> Detector:
    """The detector called `name`. Raises ConfigError listing those there are, WeightsError if weights are absent."""
    detector: Detector = load(DETECTORS.get(name).build)(name, device)
    if detector.name != name or not detector.id.startswith(f"{name}@"):
        raise ConfigError(f"detector {name!r} calls itself {detector.name!r}, id {detector.id!r}; update its package")
    return detector
