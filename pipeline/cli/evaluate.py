"""`oddwatch evaluate`: score a manifest's videos through the stages, and judge the scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.score import Scoring, score_files
from pipeline.cli.session import named_models
from pipeline.config import load_config

if TYPE_CHECKING:
    from stages.evaluation.evaluate import Metrics
    from stages.manifest import Entry


class Mode(StrEnum):
    causal = "causal"
    paper = "paper"


def evaluate(
    manifest: Annotated[Path, typer.Option(help="JSON lines: video, split, label, anomalies, group.")],
    model: Annotated[list[Path] | None, typer.Option(help="Checkpoint; may be given several times.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what it writes.")] = Path("evaluation"),
    config: Annotated[Path | None, typer.Option(help="Configuration file.")] = None,
    split: Annotated[str, typer.Option(help="Split to judge, where the manifest has splits.")] = "test",
    mode: Annotated[Mode, typer.Option(help="causal: scores as emitted; paper: stretched per video.")] = Mode.causal,
    resume: Annotated[bool, typer.Option(help="Keep the files that an earlier run has scored.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json.")] = False,
) -> None:
    """Frame-level ROC-AUC, AP, false alarms per hour, detection delay; plots; JSON."""
    from stages.evaluation.evaluate import write_metrics
    from stages.manifest import read_manifest

    settings = load_config(config)
    if model:
        settings = settings.model_copy(update={"models": named_models(model)})
    entries = read_manifest(manifest)
    if any(e.split is not None for e in entries):
        entries = read_manifest(manifest, split)
    scoring = score_files([str(e.path) for e in entries], out / "scores", settings, resume=resume, quiet=as_json)
    metrics = judge(entries, scoring, mode.value)
    write_metrics(out / "metrics.json", metrics)
    write_plots(out, metrics)
    truth = {r.file: by.truth for r, by in _matched(entries, scoring)}
    from pipeline.cli.report import write_score_report

    write_score_report(out / "report.html", scoring, f"Evaluation of {manifest.name}", truth, metrics)
    lines = [*metric_lines(metrics, out), *scoring.warmup_lines()]
    typer.echo(json.dumps(metrics.to_json(), indent=1) if as_json else "\n".join(lines))
    if scoring.missing or any(r.failed for r in scoring.results):
        raise typer.Exit(1)


def judge(entries: Sequence[Entry], scoring: Scoring, mode: str = "causal") -> Metrics:
    """Metrics of a finished `score` of a manifest's videos. Raises UsageError if none can be judged."""
    from stages.evaluation.evaluate import evaluate as evaluate_scores
    from stages.evaluation.scores_csv import read_scores

    matched = _matched(entries, scoring)
    return evaluate_scores(
        entries,
        {entry.video: read_scores(scoring.out / result.csv) for result, entry in matched if result.csv},
        {entry.video: result.alerts for result, entry in matched},
        scoring.config.alerts.raise_at,
        mode,  # type: ignore[arg-type]
        snippet_frames=scoring.config.decode.snippet_frames,
    )


def _matched(entries: Sequence[Entry], scoring: Scoring) -> list:
    by_path = {Path(r.file).resolve(): r for r in scoring.results}
    return [(by_path[e.path.resolve()], e) for e in entries if e.path.resolve() in by_path]


def write_plots(out: Path, metrics: Metrics) -> None:
    """The ROC curves as a picture."""
    from stages.atomic import write_whole
    from stages.evaluation.plots import roc_figure

    if metrics.curves:
        write_whole(out / "roc.png", roc_figure(metrics, "png"))


def metric_lines(metrics: Metrics, out: Path) -> list[str]:
    """The figures for a person."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    lines = [
        f"frame-level micro ROC-AUC {number(metrics.roc_auc)}, average precision {number(metrics.average_precision)} "
        f"({metrics.mode})",
    ]
    if metrics.reason:
        lines.append(f"  {metrics.reason}")
    for name, ranking in metrics.models.items():
        lines.append(f"  {name} alone: {number(ranking.get('roc_auc'))}")
    lines.append(f"macro ROC-AUC {number(metrics.macro.get('roc_auc'))}, "
                 f"abnormal videos only {number(metrics.abnormal_only.get('roc_auc'))}")  # fmt: skip
    lines.append(_events_line(metrics.events, metrics.false_alarms))
    lines += [f"  {note}" for note in metrics.notes]
    lines += [f"  not judged: {e['video']}: {e['reason']}" for e in metrics.excluded]
    return [*lines, f"metrics.json, roc.png, report.html and scores/ are in {out}"]


def _events_line(events: Mapping, false_alarms: Mapping) -> str:
    rate, delay = false_alarms["per_hour"], events.get("median_delay_s")
    return (
        f"{events.get('alerted')} of {events['total']} events alerted on"
        + ("" if delay is None else f", median delay {delay:.2f} s")
        + f"; {false_alarms['false']} false alarms"
        + ("" if rate is None else f" ({rate:.1f} per hour)")
    )
