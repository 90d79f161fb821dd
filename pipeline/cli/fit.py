"""`oddwatch fit`: learn what is normal from normal footage."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.config.load import load_config
from pipeline.config.schema import ModelConfig
from stages.errors import SourceError, UsageError
from stages.text import counted, printable

if TYPE_CHECKING:
    from stages.decode.source import Source
    from stages.messages import Features


def fit(
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write.")],
    normal: Annotated[
        list[str] | None, typer.Option("--normal", help="Footage in which nothing odd happens; repeatable.")
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(help="More of it: `--normal *.mp4` may name many.")] = None,
    features: Annotated[str, typer.Option(help="Feature extractor: motion, i3d, ...")] = ModelConfig().features,
    config: Annotated[Path | None, typer.Option(help="Configuration file; its decode section is used.")] = None,
) -> None:
    """Fit `novelty` on normal footage."""
    begun_s = time.monotonic()
    footage = [*(normal or []), *(more or [])]
    if not footage:
        raise UsageError("--normal: missing; name footage in which nothing odd happens")
    clips, frames, left_out = fit_checkpoint(footage, out, features, config)
    learned, took_s = f"{counted(frames, 'frame')} of {counted(clips, 'clip')}", time.monotonic() - begun_s
    typer.echo(f"{out}: fitted on {learned} in {took_s:.0f} s")
    typer.echo(f"score with it: oddwatch score VIDEO --model {out} --out DIR")
    if left_out:
        typer.echo(f"{counted(left_out, 'clip')} left out", err=True)
        raise typer.Exit(1)


def fit_checkpoint(normal: list[str], out: Path, features: str, config: Path | None = None) -> tuple[int, int, int]:
    """Fit and save; returns the clips and frames used, and the clips of which nothing could be.

    A clip that is damaged or gives nothing is named on stderr, and the rest is learned from. Raises UsageError for a
    wrong path, OddwatchError for too little footage.
    """
    from pipeline.cli.progress import frame_counter
    from pipeline.workers.build import resolve_device
    from stages.decode.learned import LearnedDecode
    from stages.decode.source import expand
    from stages.features.extract_files import clip_features
    from stages.features.registry import analysis_height, build_extractor
    from stages.files.atomic import check_writable
    from stages.files.checkpoint import save_checkpoint
    from stages.temporal.novelty.fit_checkpoint import fit_novelty

    settings = load_config(config)
    sources = expand(normal)
    check_writable(out.parent)
    for source in sources:
        if source.live:
            raise UsageError(
                f"{source.redacted}: fit on recorded footage; a live camera learns by itself in 'oddwatch run'"
            )
    extractor = build_extractor(features, resolve_device(settings.workers.device), engine=settings.workers.engine)
    decode = settings.decode.settings(analysis_height(features))
    problems: list[str] = []
    left_out: list[Source] = []

    def said(source: Source, status: str) -> None:
        if status != "complete":
            problems.append(f"{source.redacted}: {status}")

    def clip(source: Source) -> Iterator[Features]:
        """What can be read of it."""
        got = False
        try:
            for part in clip_features(source, extractor, decode, partial(count, source.uri), partial(said, source)):
                got = True
                yield part
        except SourceError as error:
            problems.append(str(error))
        if not got:
            left_out.append(source)
            if not any(line.startswith(source.redacted) for line in problems):
                problems.append(f"{source.redacted}: nothing in it to learn from")

    with frame_counter([s.uri for s in sources], "learning") as count:
        try:
            checkpoint = fit_novelty(map(clip, sources), LearnedDecode.of(decode).meta())
        finally:
            for line in problems:
                sys.stderr.write(f"oddwatch: {printable(line)}\n")
    save_checkpoint(out, checkpoint)
    return int(checkpoint.meta["clips"]), int(checkpoint.meta["frames"]), len(left_out)
