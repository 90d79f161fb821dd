"""`oddwatch score`: archived footage in, one CSV per file out, every frame accounted for."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.models import named_models
from pipeline.cli.score.report import write_score_report
from pipeline.cli.score.run import score_files
from pipeline.config.load import load_config
from stages.errors import UsageError
from stages.text import counted, printable


def score(
    paths: Annotated[list[str], typer.Argument(help="Files, folders (searched), globs, folders of pictures.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for scores, alerts and the report.")],
    config: Annotated[Path | None, typer.Option(help="Configuration file.")] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="Checkpoint; may be given several times. Default: adaptive novelty.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Keep the files that an earlier run has finished.")] = True,
    workers: Annotated[
        bool, typer.Option(help="--no-workers: leave the work to 'oddwatch worker' processes on the same Redis.")
    ] = True,
    deliver: Annotated[
        bool, typer.Option("--deliver", help="Tell the configured sinks of the alerts, each of a file once.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json at the end instead of lines.")] = False,
) -> None:
    """Score archived footage."""
    settings = load_config(config)
    if deliver and not settings.sinks:
        raise UsageError("--deliver: no sink is configured; add one under 'sinks:' of --config")
    if model:
        settings = settings.model_copy(update={"models": named_models(model)})
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # both end it cleanly
    try:
        result = score_files(paths, out, settings, resume=resume, workers=workers, quiet=as_json, deliver=deliver)
    except KeyboardInterrupt:
        sys.stderr.write(
            "oddwatch: interrupted; give the same command again: finished files are kept, the others begin again\n"
        )
        raise typer.Exit(130) from None
    one = Path(result.files[0].file).name if len(result.files) == 1 else ""
    write_score_report(out / "report.html", result, one or counted(len(result.files), "file"))
    if as_json:
        typer.echo((out / "summary.json").read_text())
    else:
        for line in result.closing_lines():
            typer.echo(printable(line))
    if result.missing or result.undelivered or any(r.failed for r in result.files):
        raise typer.Exit(1)
