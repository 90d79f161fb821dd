"""From a finished `score` to its report page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.cli.score.result import ScoreResult
from stages.text import printable


def write_score_report(
    path: Path,
    result: ScoreResult,
    title: str,
    truth: Mapping[str, Sequence[tuple[int, int]] | None] | None = None,
    metrics: Any = None,
) -> None:
    """One page about all files of a `score`; `truth` maps a file, as named, to its anomalous frames."""
    from stages.report.report import write_report

    alerts = result.config.alerts
    settings = {
        "Oddwatch": __version__,
        "models": ", ".join(result.config.models),
        "configuration": result.files[0].config_hash if result.files else "-",
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    write_report(
        path, _videos(result, truth or {}), title=title, raise_at=alerts.raise_at,
        clear_at=alerts.clear_at, settings=settings, metrics=metrics, run_s=result.took_s,
    )  # fmt: skip


def _videos(result: ScoreResult, truth: Mapping) -> Iterator:
    from stages.files.scores_csv import read_scores
    from stages.report.video import ReportVideo

    out = result.out
    for file in result.files:
        table = read_scores(out / file.csv) if file.csv else None
        empty = np.empty(0, np.float32)
        yield ReportVideo(
            name=printable(file.file),
            times_s=table.times_s if table else np.empty(0),
            score=table.score if table else empty,
            models=table.models if table else {},
            alerts=[_with_picture(out, a) for a in file.alerts],
            gaps=file.gap_spans,
            warmup_until_s=file.warmup_until_s,
            truth=truth.get(file.file),
            decoded=file.decoded,
            scored=file.scored,
            gap_frames=file.gaps,
            status=file.status if file.csv else "failed",
            error="" if file.status == "complete" else file.status.removeprefix("error: "),
            seconds=file.took_s,
            kept=file.camera in result.kept,
        )


def _with_picture(out: Path, alert: dict) -> dict:
    alert = json.loads(json.dumps(alert))
    if alert["snapshot"] and (out / alert["snapshot"]).exists():
        alert["thumb"] = (out / alert["snapshot"]).read_bytes()
    return alert
