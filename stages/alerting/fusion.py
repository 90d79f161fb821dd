"""Several calibrated models -> one score per decoded frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np


def expand(values: np.ndarray, picked: np.ndarray, frames: int) -> np.ndarray:
    """Values (T,) of kept frames -> (N,) of all decoded ones.

    A skipped frame takes the value of the last kept frame before it; those before the first take the first's.
    """
    kept = np.searchsorted(picked, np.arange(frames), side="right") - 1
    return values[np.maximum(kept, 0)]


def fuse(calibrated: Mapping[str, np.ndarray], how: Literal["mean", "max"], weights: Mapping[str, float]) -> np.ndarray:
    """Calibrated scores (N,) by model -> fused float64 (N,); NaN where no model with a weight has a score.

    `mean` averages odds c / (1 - c). Above a model's highest normal score its odds are 1 + 2u, u the distance in
    spreads of normal: so this is the sum of standardised distances that the literature fuses with. A one-class model
    that sees nothing is no evidence against what another one sees, so a strong score stands alone; a slight one
    needs company: (0.6, 0.6) -> 0.60, (0.6, 0.15) -> 0.46, (0.95, 0.15) -> 0.91.
    `max` takes the oddest. It misses least and adds up every model's false alarms. One model alone is itself in both.
    """
    names = [name for name in calibrated if weights.get(name, 1.0) > 0]
    if not names:
        return np.full(len(next(iter(calibrated.values()))), np.nan)
    columns = np.stack([np.asarray(calibrated[name], np.float64) for name in names])
    known = np.isfinite(columns)
    highest = np.where(known, columns, -1.0).max(0)
    out = highest
    if how == "mean" and len(names) > 1:
        weight = np.array([[weights.get(name, 1.0)] for name in names]) * known
        odds = np.where(known, columns, 0) / np.maximum(1 - np.where(known, columns, 0), 1e-12)
        mean = (weight * odds).sum(0) / np.maximum(weight.sum(0), np.finfo(float).tiny)
        out = np.where(known.sum(0) == 1, highest, mean / (1 + mean))
    return np.where(known.any(0), out, np.nan)
