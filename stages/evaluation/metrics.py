"""Figures about scores: how well they rank, how often they cry wolf, how late they are. Pure functions.

A frame that was not scored (NaN) is left out of a ranking and counted; it never passes for a normal one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.files.manifest import Interval

ROC_POINTS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How well scores separate anomalous frames from normal ones; None, with the reason, where that has no meaning."""

    roc_auc: float | None
    average_precision: float | None
    """By sklearn's average_precision_score: the trapezoid over a PR curve is too kind when scores tie."""
    frames: int
    """Scored frames that were ranked."""
    anomalous_frames: int
    reason: str = ""


def rank(truth: np.ndarray, score: np.ndarray) -> Ranking:
    """Frame-level ROC-AUC and AP of score float32 (N,) against truth bool (N,); NaN scores are left out."""
    # Importing it takes longer than scoring a short clip, and only footage with ground truth needs it.
    from sklearn.metrics import average_precision_score, roc_auc_score

    scored = ~np.isnan(score)
    truth, score = truth[scored], score[scored]
    positive = int(truth.sum())
    reason = ""
    if not len(truth):
        reason = "no frame with ground truth was scored"
    elif positive in (0, len(truth)):
        reason = f"all {len(truth)} scored frames are {'anomalous' if positive else 'normal'}: nothing to rank"
    if reason:
        return Ranking(
            roc_auc=None, average_precision=None, frames=len(truth), anomalous_frames=positive, reason=reason
        )
    finite = np.nan_to_num(score.astype(np.float64))
    return Ranking(
        roc_auc=float(roc_auc_score(truth, finite)),
        average_precision=float(average_precision_score(truth, finite)),
        frames=len(truth),
        anomalous_frames=positive,
    )


def roc_points(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """False and true positive rates, float64 (at most ROC_POINTS,), for drawing; None where `rank` has no AUC."""
    from sklearn.metrics import roc_curve

    scored = ~np.isnan(score)
    if len(np.unique(truth[scored])) < 2:
        return None
    false_rate, true_rate, _ = roc_curve(truth[scored], np.nan_to_num(score[scored].astype(np.float64)))
    # Spread along the curve, not along its points, which crowd where scores do.
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(false_rate), np.diff(true_rate)))])
    at = np.unique(np.searchsorted(along, np.linspace(0, along[-1], ROC_POINTS)).clip(max=len(along) - 1))
    return false_rate[at], true_rate[at]


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of those that have a value; None if none has."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def minmax(score: np.ndarray) -> np.ndarray:
    """One video's scores stretched to 0 .. 1, float32 (N,), as one-class papers do; all 0 if they never change."""
    if np.isnan(score).all():
        return score
    low, high = float(np.nanmin(score)), float(np.nanmax(score))
    return ((score - low) / (high - low if high > low else 1.0)).astype(np.float32)


def truth_mask(intervals: Sequence[Interval], frames: int) -> np.ndarray:
    """bool (frames,): True inside the intervals (both ends inside), which are clipped to the video."""
    mask = np.zeros(frames, dtype=bool)
    for first, last in intervals:
        mask[first : last + 1] = True
    return mask


def runs_of(mask: np.ndarray) -> list[Interval]:
    """The stretches of True in bool (N,), as [first, last] frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def scored_seconds(times_s: np.ndarray, score: np.ndarray) -> float:
    """Seconds of footage that was scored: a frame lasts until the next one, the last as long as the median."""
    if not len(times_s):
        return 0.0
    # In place, for it may be a day.
    lasting = np.zeros(len(times_s))
    steps = np.subtract(times_s[1:], times_s[:-1], out=lasting[:-1])
    np.maximum(steps, 0, out=steps)
    usual = float(np.median(steps)) if len(steps) else 0.0
    # A jump in a file's clock is not footage: no frame counts for more than ten usual ones.
    np.minimum(steps, 10 * usual, out=steps)
    lasting[-1] = usual
    return float(lasting[~np.isnan(score)].sum())


def kept_every(times_s: np.ndarray, fps: float | None) -> float:
    """Decoded frames for each one that is kept at `fps`; 1 where all are."""
    steps = np.diff(times_s)
    usual_s = float(np.median(steps)) if len(steps) else 0.0
    return max(1.0, 1 / (usual_s * fps)) if fps and usual_s > 0 else 1.0


def alert_spans(alerts: Sequence[Mapping]) -> list[Interval]:
    """The [first, last] frames of each alert; of the messages of one alert (same id) the last counts."""
    latest = {alert.get("id", i): alert for i, alert in enumerate(alerts)}
    return [(int(alert["start_frame"]), int(alert["end_frame"])) for alert in latest.values()]


def false_spans(spans: Sequence[Interval], truth: np.ndarray) -> int:
    """How many of the [first, last] spans touch no anomalous frame."""
    return sum(not truth[first : last + 1].any() for first, last in spans)


def normal_under(spans: Sequence[Interval], truth: np.ndarray, score: np.ndarray) -> tuple[int, int]:
    """How many scored normal frames lie in the spans, and how many there are."""
    normal = ~truth & ~np.isnan(score)
    return int((normal & truth_mask(spans, len(truth))).sum()), int(normal.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What became of one anomalous interval."""

    outcome: str
    """`found`, `missed`, or `not scored`: no frame of it has a score, so nobody can tell."""
    delay_s: float | None = None
    """From its first frame to its first frame at or above the threshold."""
    known_after_s: float | None = None
    """The same, to the moment at which that frame's score could be known live."""


def detect(
    interval: Interval,
    times_s: np.ndarray,
    score: np.ndarray,
    threshold: float,
    *,
    snippet_frames: int = 1,
    lookahead_frames: int = 0,
) -> Detection:
    """Whether and how late scores float32 (N,) reach the threshold within [first, last] frames.

    A score is known at the end of its snippet of `snippet_frames` decoded frames, plus the look-ahead.
    """
    first, last = interval
    inside = score[first : last + 1]
    if np.isnan(inside).all():
        return Detection(outcome="not scored")
    above = np.flatnonzero(inside >= threshold)
    if not len(above):
        return Detection(outcome="missed")
    hit = first + int(above[0])
    known = (hit // snippet_frames + 1) * snippet_frames - 1 + lookahead_frames
    start_s = float(times_s[first])
    return Detection(
        outcome="found",
        delay_s=float(times_s[hit]) - start_s,
        known_after_s=float(times_s[min(known, len(times_s) - 1)]) - start_s,
    )
