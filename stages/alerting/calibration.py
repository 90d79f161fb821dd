"""Raw scores -> [0, 1], by what the model says of normal footage."""

from __future__ import annotations

import numpy as np

from stages.messages import REFERENCE_LEVELS

MEDIAN, HIGHEST = 0.15, 0.5
"""Calibrated value of the median and of the highest score of normal footage."""
RAREST = 0.0005
"""Share of normal footage taken to be above its highest score: sets the slope between the 0.999 quantile and 1."""
NOISE = 1e-4
"""A spread below this share of the largest reference value is rounding noise, no scale to measure oddness by."""

_UPPER = REFERENCE_LEVELS >= 0.5
_SURPRISE = np.log10(0.5 / np.maximum(1 - REFERENCE_LEVELS[_UPPER], RAREST))
_KNOTS = MEDIAN + (HIGHEST - MEDIAN) * _SURPRISE / _SURPRISE[-1]


def calibrate(raw: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Raw scores (T,) -> float64 (T,) in (0, 1), rising with raw; NaN where raw or the reference is not finite.

    Three pieces, so that a number means the same for every model and camera:
    - from the median of normal (0.15) to its highest score (0.5) by rank, in equal steps of log10(1 - level): the
      0.9, 0.99 and 0.999 quantiles are 0.23, 0.35 and 0.47 whatever the distribution's shape;
    - above, where ranks say nothing, by distance: u = (raw - highest) / spread gives 1 - 0.5 / (1 + u), where
      spread = q0.99 - q0.5 is the width of normal, outliers left out. One spread beyond is 0.75, four are 0.9.
      The tail is algebraic: a logistic would round to 1 in float32 from some 17 spreads, this one from millions;
    - below the median likewise towards 0.

    It rises everywhere, so one model's ROC-AUC is that of its raw scores (up to float32 rounding of near-equal ones).
    A value that several quantiles share takes the lowest of theirs: where half of normal is exactly 0, 0 is 0.15.
    Without any spread (constant references) |highest| is the unit, or 1 if that is 0.
    """
    raw = np.asarray(raw, np.float64)
    if not np.isfinite(reference).all():
        return np.full(raw.shape, np.nan)
    quantiles = np.maximum.accumulate(np.asarray(reference, np.float64)[_UPPER])
    median, highest = quantiles[0], quantiles[-1]
    spread = _spread(reference)
    at, first = np.unique(quantiles, return_index=True)
    body = np.interp(raw, at, _KNOTS[first])
    above = 1 - 0.5 / (1 + np.maximum(raw - highest, 0) / spread)
    below = MEDIAN / (1 + np.maximum(median - raw, 0) / spread)
    out = np.where(raw > highest, above, np.where(raw < median, below, body))
    return np.where(np.isfinite(raw), out, np.nan)


def _spread(reference: np.ndarray) -> float:
    q: dict[float, float] = dict(
        zip(REFERENCE_LEVELS.tolist(), np.asarray(reference, np.float64).tolist(), strict=True)
    )
    noise = NOISE * max(map(abs, q.values()))
    spreads = (q[0.99] - q[0.5], q[1.0] - q[0.5], q[1.0] - q[0.0])
    return next((spread for spread in spreads if spread > noise), abs(q[1.0]) or 1.0)
