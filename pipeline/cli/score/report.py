"""From a finished `score` to its report page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import __version__

if TYPE_CHECKING:
    from pipeline.cli.score.command import Scoring


def write_score_report(
    path: Path,
    scoring: Scoring,
    title: str,
    truth: Mapping[str, Sequence[tuple[int, int]] | None] | None = None,
    metrics: Any = None,
) -> None:
    """One page about all files of a `score`; `truth` maps a file, as named, to its anomalous frames."""
    from stages.report.report import write_report

    alerts = scoring.config.alerts
    settings = {
        "Oddwatch": __version__,
        "models": ", ".join(scoring.config.models),
        "configuration": scoring.results[0].config_hash if scoring.results else "-",
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    write_report(
        path, _videos(scoring, truth or {}), title=title, raise_at=alerts.raise_at,
        clear_at=alerts.clear_at, settings=settings, metrics=metrics, run_s=scoring.took_s,
    )  # fmt: skip


def _videos(scoring: Scoring, truth: Mapping) -> Iterator:
    from stages.files.scores_csv import read_scores
    from stages.report.video import ReportVideo

    out = scoring.out
    for result in scoring.results:
        table = read_scores(out / result.csv) if result.csv else None
        empty = np.empty(0, np.float32)
        yield ReportVideo(
            name=result.file,
            times_s=table.times_s if table else np.empty(0),
            score=table.score if table else empty,
            models=table.models if table else {},
            alerts=[_with_picture(out, a) for a in result.alerts],
            gaps=result.gap_spans,
            warmup_until_s=result.warmup_until_s,
            truth=truth.get(result.file),
            decoded=result.decoded,
            scored=result.scored,
            gap_frames=result.gaps,
            status=result.status if result.csv else "failed",
            error="" if result.status == "complete" else result.status.removeprefix("error: "),
            seconds=result.took_s,
            kept=result.camera in scoring.kept,
        )


def _with_picture(out: Path, alert: dict) -> dict:
    alert = json.loads(json.dumps(alert))
    if alert["snapshot"] and (out / alert["snapshot"]).exists():
        alert["thumb"] = (out / alert["snapshot"]).read_bytes()
    return alert
