"""From scores of a manifest's videos, however they came about, to figures: fused, and of each model alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.cli.evaluate.video_scores import VideoScores
from pipeline.cli.models import checkpoints_of
from pipeline.config.schema import DecodeConfig
from stages.errors import UsageError
from stages.text import counted

if TYPE_CHECKING:
    from stages.evaluation.evaluate import Metrics
    from stages.files.checkpoint import Checkpoint
    from stages.files.manifest import ManifestEntry
    from stages.files.scores_csv import ScoresTable

NAMED = 5
"""Videos that are named before the work; all are afterwards."""


def unjudged_line(manifest: Path, entries: Sequence[ManifestEntry]) -> str:
    """Says before hours of work which videos nobody can judge; empty if all can be. Raises UsageError if none can."""
    unknown = [entry.video for entry in entries if entry.truth is None]
    if len(unknown) == len(entries):
        raise UsageError(
            f"{manifest}: no video can be judged, for none has anomalies or label 0; add them, or use 'oddwatch score'"
        )
    if not unknown:
        return ""
    some = ", ".join(unknown[:NAMED]) + (", ..." if len(unknown) > NAMED else "")
    return (
        f"{len(unknown)} of {counted(len(entries), 'video')} will be scored, but not judged, "
        f"for the manifest gives neither anomalies nor label 0: {some}"
    )


def judge_scored(
    entries: Sequence[ManifestEntry],
    scored: VideoScores,
    mode: str,
    threshold: float | None = None,
    *,
    over_seeds: bool = False,
) -> Metrics:
    """All figures. Raises UsageError if no video can be judged."""
    from stages.evaluation.alarms import at_threshold
    from stages.evaluation.evaluate import evaluate
    from stages.evaluation.replay import alone
    from stages.evaluation.seeds import check_seeds, seed_figures
    from stages.temporal.registry import MODELS

    checkpoints = checkpoints_of(scored.config)
    settings = scored.config.alerts
    level = settings.raise_at if threshold is None else threshold
    settings = settings if threshold is None else at_threshold(settings, threshold)
    early = {n: MODELS.get(c.kind).unpredicted_frames for n, c in checkpoints.items()} if mode == "paper" else {}
    stretched = {n: frames(checkpoints[n].meta) for n, frames in early.items() if frames is not None}

    def judged(tables: Mapping[str, ScoresTable], alerts: Mapping[str, list[dict]] | None, names: list[str]) -> Metrics:
        if alerts is None:
            alerts = {video: _raised(table, scored, video, settings) for video, table in tables.items()}
        return evaluate(
            entries,
            tables,
            alerts,
            level,
            mode,  # type: ignore[arg-type]
            stretched=stretched,
            snippet_frames=scored.config.decode.snippet_frames,
            fps=scored.config.decode.fps,
            lookahead_frames=_lookahead([checkpoints[name] for name in names], scored.config.decode),
        )

    metrics = judged(scored.tables, scored.alerts if threshold is None else None, list(checkpoints))
    notes = [*metrics.notes, *scored.notes, *(_unpublished(checkpoints) if mode == "paper" else ())]
    if len(metrics.models) < 2:
        return replace(metrics, notes=notes)
    models: dict[str, dict] = {}
    for name, ranking in metrics.models.items():
        models[name] = dict(ranking)
        if name in checkpoints:
            reference = np.asarray(checkpoints[name].meta["reference"], np.float32)
            tables = {v: alone(t, name, reference) for v, t in scored.tables.items() if name in t.models}
            own = judged(tables, None, [name])
            models[name] |= {
                "checkpoint": str(scored.config.models[name].checkpoint), "events": own.events,
                "false_alarms": own.false_alarms, "false_alarms_per_hour": own.false_alarms_per_hour,
            }  # fmt: skip
    seeds: dict[str, Any] | None = None
    if over_seeds:
        pairs = [(str(scored.config.models[n].checkpoint), c) for n, c in checkpoints.items()]
        seeds = {"seeds": check_seeds(pairs), "models": list(checkpoints), **seed_figures(list(checkpoints), models)}
    return replace(metrics, models=models, over_seeds=seeds, notes=notes)


def _unpublished(checkpoints: Mapping[str, Checkpoint]) -> list[str]:
    """What of a model is not as in its paper, even so."""
    from stages.temporal.registry import MODELS

    return [f"{name}: {note}" for name, c in checkpoints.items() for note in MODELS.get(c.kind).unpublished(c.meta)]


def _raised(table: ScoresTable, scored: VideoScores, video: str, settings: Any) -> list[dict]:
    from stages.evaluation.alarms import alarms

    warm_s = (scored.warmup_until_s or {}).get(video, 0.0)
    score = np.where(table.times_s < warm_s, np.nan, table.score)
    return [{"start_frame": a, "end_frame": b} for a, b in alarms(table.times_s, score, settings)]


def _lookahead(checkpoints: Sequence[Checkpoint], decode: DecodeConfig) -> int:
    """Kept frames that the slowest of the models waits for."""
    from stages.temporal.registry import MODELS

    snippets = max((MODELS.get(c.kind).lookahead_snippets(c.meta) for c in checkpoints), default=0)
    return snippets * decode.snippet_frames
