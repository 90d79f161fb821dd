"""`oddwatch evaluate`: score a manifest's videos, and judge the scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.evaluate.figures import metric_lines
from pipeline.cli.evaluate.judging import judge_scored, unjudged_line
from pipeline.cli.evaluate.video_scores import VideoScores
from pipeline.cli.models import checkpoints_of, named_models
from pipeline.cli.score.result import ScoreResult
from pipeline.cli.score.run import score_files
from pipeline.config.load import load_config
from pipeline.config.schema import Config
from stages.errors import UsageError

if TYPE_CHECKING:
    from stages.evaluation.evaluate import Metrics
    from stages.files.manifest import ManifestEntry


class Mode(StrEnum):
    causal = "causal"
    paper = "paper"


def evaluate(
    manifest: Annotated[Path, typer.Option(help="JSON lines: video, split, label, anomalies, group.")],
    model: Annotated[list[Path] | None, typer.Option(help="Checkpoint; may be given several times.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what it writes.")] = Path("evaluation"),
    config: Annotated[Path | None, typer.Option(help="Configuration file.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to judge. Default: test, or all videos if there are no splits.")
    ] = None,
    mode: Annotated[
        Mode, typer.Option(help="causal: scores as emitted; paper: as each model's paper evaluates it.")
    ] = Mode.causal,
    threshold: Annotated[
        float | None,
        typer.Option(help="Count false alarms, events and delays at this score in (0, 1). Default: alerts.raise_at."),
    ] = None,
    ten_crop: Annotated[
        bool, typer.Option("--ten-crop", help="With --mode paper: mil and rtfm see ten crops of each picture.")
    ] = False,
    over_seeds: Annotated[
        bool, typer.Option("--over-seeds", help="The models differ by their seed: mean and deviation of each figure.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Keep the files that an earlier run has scored.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json.")] = False,
) -> None:
    """Frame-level ROC-AUC, AP, false alarms per hour, detection delay; plots; JSON."""
    from stages.evaluation.evaluate import write_metrics
    from stages.files.atomic import check_writable
    from stages.files.manifest import read_manifest
    from stages.training.gather import are_feature_files

    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f"--threshold: must lie between 0 and 1 (0.5 is the highest normal score), got {threshold:g}")
    if ten_crop and mode is not Mode.paper:
        raise UsageError("--ten-crop: ten times the work, which nothing live does; only with --mode paper")
    settings = load_config(config)
    if model:
        settings = settings.model_copy(update={"models": named_models(model)})
    entries = read_manifest(manifest)
    if split is not None or any(e.split is not None for e in entries):
        entries = read_manifest(manifest, split or "test")
    if over_seeds:
        _check_seeds(settings)
    check_writable(out)
    if line := unjudged_line(manifest, entries):
        typer.echo(line, err=True)
    if are_feature_files(entries):
        if ten_crop:
            raise UsageError("--ten-crop: feature files hold the crops they were made with; leave it out")
        from pipeline.cli.evaluate.offline import score_feature_files

        scored = score_feature_files(entries, settings, paper=mode is Mode.paper)
    elif mode is Mode.paper:
        from pipeline.cli.evaluate.offline import score_as_published

        scored = score_as_published(entries, settings, out, ten_crop=ten_crop, resume=resume, quiet=as_json)
    else:
        scored = VideoScores.of(
            entries, score_files([str(e.path) for e in entries], out / "scores", settings, resume=resume, quiet=as_json)
        )
    metrics = judge_scored(entries, scored, mode.value, threshold, over_seeds=over_seeds)
    write_metrics(out / "metrics.json", metrics)
    write_plots(out, metrics)
    write_timelines(out, entries, scored, threshold)
    written = ["metrics.json", *(["roc.png"] if metrics.curves else []), "timelines.png"]
    if scored.result is not None:
        from pipeline.cli.score.report import write_score_report

        by_path = {e.path.resolve(): e.truth for e in entries}
        truth = {r.file: by_path.get(Path(r.file).resolve()) for r in scored.result.files}
        write_score_report(out / "report.html", scored.result, f"Evaluation of {manifest.name}", truth, metrics)
        written += ["report.html", "scores/"]
    lines = [*metric_lines(metrics), *scored.warmup_lines(), f"{', '.join(written)} are in {out}"]
    typer.echo(json.dumps(metrics.to_json(), indent=1) if as_json else "\n".join(lines))
    if scored.failed:
        raise typer.Exit(1)


def judge(entries: Sequence[ManifestEntry], result: ScoreResult, mode: str = "causal") -> Metrics:
    """Metrics of a finished `score` of a manifest's videos. Raises UsageError if none can be judged."""
    return judge_scored(entries, VideoScores.of(entries, result), mode)


def _check_seeds(settings: Config) -> None:
    from stages.evaluation.seeds import check_seeds

    check_seeds([(str(settings.models[name].checkpoint), c) for name, c in checkpoints_of(settings).items()])


def write_plots(out: Path, metrics: Metrics) -> None:
    """The ROC curves as a picture."""
    from stages.evaluation.plots import roc_figure
    from stages.files.atomic import write_whole

    if metrics.curves:
        write_whole(out / "roc.png", roc_figure(metrics, "png"))


def write_timelines(out: Path, entries: Sequence[ManifestEntry], scored: VideoScores, threshold: float | None) -> None:
    """Scores over time as a picture, videos with anomalies first."""
    from stages.evaluation.plots import timeline_figure
    from stages.files.atomic import write_whole

    shown = [(e.video, scored.tables[e.video], e.truth) for e in entries if e.video in scored.tables]
    shown.sort(key=lambda video: not video[2])
    level = scored.config.alerts.raise_at if threshold is None else threshold
    write_whole(out / "timelines.png", timeline_figure(shown, level, "png"))
