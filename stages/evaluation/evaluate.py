"""Scores and alerts of a manifest's videos against its ground truth: `metrics.json`.

*causal*: scores as emitted, one scale for all videos. *paper*: as each model's paper has it. Future-frame scores are
stretched to 0 .. 1 in each video before the videos are ranked together, and the first frames, which nothing predicts,
are left out. That needs the whole video, so no live system can reach it. (What else papers do, they do when scoring:
see stages/temporal/weak/whole_video.py.) Whatever has a threshold in it (false alarms, events, delays) never uses
stretched scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from stages.errors import UsageError
from stages.evaluation.metrics import (
    Detection,
    Ranking,
    alert_spans,
    detect,
    false_spans,
    kept_every,
    mean_of,
    minmax,
    normal_under,
    rank,
    roc_points,
    runs_of,
    scored_seconds,
    truth_mask,
)
from stages.files.atomic import write_whole
from stages.files.manifest import Interval, ManifestEntry
from stages.files.scores_csv import ScoresTable

Mode = Literal["causal", "paper"]
Curve = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metrics:
    """What `oddwatch evaluate` found. Rates without meaning are None, and `reason` says why."""

    mode: Mode
    roc_auc: float | None
    """Micro: over the frames of all videos together."""
    average_precision: float | None
    reason: str
    false_alarms_per_hour: float | None
    """Alerts that touch no anomalous frame, per hour of scored footage; None without a threshold."""
    threshold: float | None
    macro: dict
    """Mean over the videos that hold both kinds of frames: no long video dominates."""
    abnormal_only: dict
    """Micro, over the videos that hold an anomaly."""
    models: dict[str, dict]
    """The same rankings for each model's raw scores; of several models also what each alone would have raised."""
    coverage: dict
    false_alarms: dict
    events: dict
    per_video: dict[str, dict]
    excluded: list[dict]
    """Videos that could not be evaluated, each with the reason."""
    notes: list[str]
    curves: dict[str, Curve] = field(repr=False)
    """`score` and each model -> points of its micro ROC curve; not in the JSON."""
    over_seeds: dict | None = None
    """Mean and deviation of each figure over the models, where these differ by their seed."""

    def to_json(self) -> dict:
        """`metrics.json` as a dict of plain values."""
        seeds = {} if self.over_seeds is None else {"over_seeds": self.over_seeds}
        return {name: getattr(self, name) for name in JSON_KEYS} | seeds


JSON_KEYS = (
    "roc_auc", "average_precision", "false_alarms_per_hour", "mode", "reason", "threshold", "macro", "abnormal_only",
    "models", "coverage", "false_alarms", "events", "per_video", "excluded", "notes",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Judged:
    """One video with ground truth and scores."""

    name: str
    table: ScoresTable
    truth: np.ndarray
    """bool (N,)."""
    intervals: list[Interval]
    spans: list[Interval]
    """What was alarmed about: alerts, or runs at or above the threshold."""
    ranked: dict[str, np.ndarray]
    """`score` and each model -> float32 (N,), stretched where that was asked for."""


def evaluate(
    entries: Sequence[ManifestEntry],
    scores_by_video: Mapping[str, ScoresTable],
    alerts_by_video: Mapping[str, Sequence[Mapping]] | None = None,
    threshold: float | None = None,
    mode: Mode = "causal",
    *,
    stretched: Mapping[str, int] | None = None,
    snippet_frames: int = 1,
    fps: float | None = None,
    lookahead_frames: int = 0,
) -> Metrics:
    """Judge the scores of a manifest's videos, found by `ManifestEntry.video`; alerts are dicts as in `alerts.jsonl`.

    Without alerts, a run of frames at or above the threshold counts as one. `stretched` names the models whose raw
    scores are stretched in each video before they are ranked, and how many kept frames at its start they cannot
    predict, which are left out; `score` is stretched where its only model is. A snippet has `snippet_frames` of the
    frames kept at `fps` (None: all). Raises UsageError if no video can be judged.
    """
    judged: list[_Judged] = []
    excluded: list[dict] = []
    notes: list[str] = []
    for entry in entries:
        table = scores_by_video.get(entry.video)
        if reason := _unfit(entry, table):
            excluded.append({"video": entry.video, "reason": reason})
        elif table is not None and entry.truth is not None:
            notes += _beyond(entry, len(table.times_s))
            alerts = None if alerts_by_video is None else alerts_by_video.get(entry.video, ())
            judged.append(_judge(entry, table, alerts, threshold, stretched or {}, fps))
    if not judged:
        reasons = "; ".join(sorted({e["reason"] for e in excluded})) or "the manifest lists none"
        raise UsageError(f"no video can be evaluated ({reasons}); the manifest must give label 0 or anomalies")
    names = sorted({name for video in judged for name in video.table.models})
    per_video = {v.name: _video(v, threshold, snippet_frames, fps, lookahead_frames) for v in judged}
    overall = _rankings(judged, "score")
    false_alarms = _false_alarms(judged, threshold, "run" if alerts_by_video is None else "alert")
    return Metrics(
        mode=mode,
        roc_auc=overall["roc_auc"],
        average_precision=overall["average_precision"],
        reason=overall["reason"],
        false_alarms_per_hour=false_alarms["per_hour"],
        threshold=threshold,
        macro=overall["macro"],
        abnormal_only=overall["abnormal_only"],
        models={name: _rankings(judged, name) for name in names},
        coverage=_coverage(judged),
        false_alarms=false_alarms,
        events=_events([e for v in per_video.values() for e in v["events"]], threshold),
        per_video=per_video,
        excluded=excluded,
        notes=notes,
        curves={name: curve for name in ("score", *names) if (curve := roc_points(*_joined(judged, name)))},
    )


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write `metrics.json`, whole or not at all. Raises OddwatchError when it cannot be written."""
    write_whole(path, (json.dumps(metrics.to_json(), indent=2, allow_nan=False) + "\n").encode())


def _unfit(entry: ManifestEntry, table: ScoresTable | None) -> str:
    if entry.truth is None:
        return "the manifest does not say which frames are anomalous"
    if table is None:
        return "it has no scores"
    return "" if len(table.times_s) else "no frame could be decoded"


def _beyond(entry: ManifestEntry, frames: int) -> list[str]:
    return [
        f"{entry.video}: frames {first} to {last} are anomalous, but the video has {frames}: clipped"
        for first, last in entry.truth or ()
        if last >= frames
    ]


def _judge(
    entry: ManifestEntry,
    table: ScoresTable,
    alerts: Sequence[Mapping] | None,
    threshold: float | None,
    stretched: Mapping[str, int],
    fps: float | None,
) -> _Judged:
    frames = len(table.times_s)
    intervals = [(first, min(last, frames - 1)) for first, last in entry.truth or () if first < frames]
    if alerts is not None:
        spans = alert_spans(alerts)
    else:
        spans = [] if threshold is None else runs_of(table.score >= threshold)
    ranked = dict(table.models)
    for name in stretched.keys() & ranked.keys():
        ranked[name] = minmax(ranked[name])
        ranked[name][: round(stretched[name] * kept_every(table.times_s, fps))] = np.nan
    only = next(iter(table.models), "") if len(table.models) == 1 else ""
    return _Judged(
        name=entry.video,
        table=table,
        truth=truth_mask(intervals, frames),
        intervals=intervals,
        spans=spans,
        ranked=ranked | {"score": ranked[only] if only in stretched else table.score},
    )


def _joined(judged: Sequence[_Judged], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Truth bool (N,) and one column float32 (N,) of all videos end to end; NaN where a video lacks the column."""
    if not judged:
        return np.empty(0, bool), np.empty(0, np.float32)
    columns = [v.ranked.get(name, np.full(len(v.truth), np.nan, np.float32)) for v in judged]
    return np.concatenate([v.truth for v in judged]), np.concatenate(columns)


def _rankings(judged: Sequence[_Judged], name: str) -> dict:
    """One column ranked three ways: all frames together (micro), mean over videos (macro), anomalous videos only."""
    each = [rank(v.truth, v.ranked[name]) for v in judged if name in v.ranked]
    both = [r for r in each if r.roc_auc is not None]
    return asdict(rank(*_joined(judged, name))) | {
        "macro": {
            "roc_auc": mean_of(r.roc_auc for r in both),
            "average_precision": mean_of(r.average_precision for r in both),
            "videos": len(both),
        },
        "abnormal_only": asdict(rank(*_joined([v for v in judged if v.intervals], name))),
    }


def _coverage(judged: Sequence[_Judged]) -> dict:
    decoded = sum(len(v.truth) for v in judged)
    truth, score = _joined(judged, "score")
    missing = np.isnan(score)
    return {
        "videos": len(judged),
        "frames_decoded": decoded,
        "frames_scored": int(decoded - missing.sum()),
        "frames_not_scored": int(missing.sum()),
        "anomalous_frames": int(truth.sum()),
        "anomalous_frames_not_scored": int((missing & truth).sum()),
        "scored_hours": sum(scored_seconds(v.table.times_s, v.table.score) for v in judged) / 3600,
    }


def _false_alarms(judged: Sequence[_Judged], threshold: float | None, unit: str) -> dict:
    hours = sum(scored_seconds(v.table.times_s, v.table.score) for v in judged) / 3600
    known = unit == "alert" or threshold is not None
    false = sum(false_spans(v.spans, v.truth) for v in judged)
    under, among = np.sum([normal_under(v.spans, v.truth, v.table.score) for v in judged], axis=0).tolist()
    score = np.concatenate([v.table.score for v in judged])
    normal = ~np.concatenate([v.truth for v in judged]) & ~np.isnan(score)
    rate = None if threshold is None or not normal.any() else float((score[normal] >= threshold).mean())
    return {
        "counted_as": unit,
        "raised": sum(len(v.spans) for v in judged) if known else None,
        "false": false if known else None,
        "per_hour": false / hours if known and hours > 0 else None,
        # An alert that begins in an event and is never cleared is not false, however long it lasts: this tells.
        "normal_frames_under_alert": under / among if known and among else None,
        "normal_frames_at_or_above_threshold": rate,
    }


def _video(
    judged: _Judged, threshold: float | None, snippet_frames: int, fps: float | None, lookahead_frames: int
) -> dict:
    ranking: Ranking = rank(judged.truth, judged.ranked["score"])
    thinning = kept_every(judged.table.times_s, fps)
    events = []
    for first, last in judged.intervals:
        event: dict = {"first_frame": first, "last_frame": last}
        event["alerted"] = any(a <= last and b >= first for a, b in judged.spans)
        if threshold is not None:
            found: Detection = detect(
                (first, last),
                judged.table.times_s,
                judged.table.score,
                threshold,
                snippet_frames=round(snippet_frames * thinning),
                lookahead_frames=round(lookahead_frames * thinning),
            )
            event |= asdict(found)
        events.append(event)
    under, among = normal_under(judged.spans, judged.truth, judged.table.score)
    models = {name: rank(judged.truth, judged.ranked[name]).roc_auc for name in judged.table.models}
    return asdict(ranking) | {
        "frames_decoded": len(judged.truth),
        "frames_not_scored": int(np.isnan(judged.table.score).sum()),
        "false_alarms": false_spans(judged.spans, judged.truth),
        "normal_frames_under_alert": under / among if among else None,
        "models": models,
        "events": events,
    }


def _events(events: Iterable[dict], threshold: float | None) -> dict:
    events = list(events)
    if threshold is None:
        return {"total": len(events), "reason": "no threshold was given"}
    outcomes = [event["outcome"] for event in events]
    found = [event for event in events if event["outcome"] == "found"]
    return {
        "total": len(events),
        "found": len(found),
        "missed": outcomes.count("missed"),
        "not_scored": outcomes.count("not scored"),
        "alerted": sum(event["alerted"] for event in events),
        "median_delay_s": float(np.median([e["delay_s"] for e in found])) if found else None,
        "median_known_after_s": float(np.median([e["known_after_s"] for e in found])) if found else None,
    }
