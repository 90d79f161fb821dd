"""Raw scores of one or several models -> one score in [0, 1] per decoded frame: calibrated, then fused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from stages.messages import REFERENCE_LEVELS, Fused, Scores, Span

MEDIAN, HIGHEST = 0.15, 0.5
"""Calibrated value of the median and of the highest score of normal footage."""
RAREST = 0.0005
"""Share of normal footage taken to be above its highest score: sets the slope between the 0.999 quantile and 1."""
NOISE = 1e-4
"""A spread below this share of the largest reference value is rounding noise, no scale to measure oddness by."""

_UPPER = REFERENCE_LEVELS >= 0.5
_SURPRISE = np.log10(0.5 / np.maximum(1 - REFERENCE_LEVELS[_UPPER], RAREST))
_KNOTS = MEDIAN + (HIGHEST - MEDIAN) * _SURPRISE / _SURPRISE[-1]


def fuse_models(
    scores: Mapping[str, Scores], names: Iterable[str], how: Literal["mean", "max"], weights: Mapping[str, float]
) -> Fused:
    """One id's scores by model -> calibrated and fused, per decoded frame. `names`: the columns that it is to have."""
    first = next(iter(scores.values()))
    frames = len(first.times_s)
    absent = np.full(frames, np.nan, np.float32)
    raw = {name: absent for name in sorted(names)}
    calibrated: dict[str, np.ndarray] = dict(raw)
    for name, s in sorted(scores.items()):
        raw[name] = expand(s.raw, s.picked, frames)
        calibrated[name] = expand(calibrate(s.raw, s.reference), s.picked, frames)
    # A model that warms up decides nothing as long as one that does not is there.
    voters = [name for name in scores if weights.get(name, 1.0) > 0] or list(scores)
    decided = [name for name in voters if not scores[name].provisional]
    score = fuse({name: calibrated[name] for name in decided or voters}, how, weights)
    return Fused(
        **Span.header(first),
        score=score.astype(np.float32),
        raw=raw,
        calibrated={name: column.astype(np.float32) for name, column in calibrated.items()},
        provisional=not decided,
    )


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


def _spread(reference: np.ndarray) -> float:
    q: dict[float, float] = dict(
        zip(REFERENCE_LEVELS.tolist(), np.asarray(reference, np.float64).tolist(), strict=True)
    )
    noise = NOISE * max(map(abs, q.values()))
    spreads = (q[0.99] - q[0.5], q[1.0] - q[0.5], q[1.0] - q[0.0])
    return next((spread for spread in spreads if spread > noise), abs(q[1.0]) or 1.0)
