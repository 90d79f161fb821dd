"""`oddwatch fit`: learn what is normal from normal footage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipeline.config.load import load_config
from pipeline.config.schema import ModelConfig
from stages.errors import UsageError
from stages.text import counted


def fit(
    normal: Annotated[list[str], typer.Option("--normal", help="Footage in which nothing odd happens; repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write.")],
    features: Annotated[str, typer.Option(help="Feature extractor: motion, i3d, ...")] = ModelConfig().features,
    config: Annotated[Path | None, typer.Option(help="Configuration file; its decode section is used.")] = None,
) -> None:
    """Fit `novelty` on normal footage."""
    begun_s = time.monotonic()
    clips, frames = fit_checkpoint(normal, out, features, config)
    learned, took_s = f"{counted(frames, 'frame')} of {counted(clips, 'clip')}", time.monotonic() - begun_s
    typer.echo(f"{out}: fitted on {learned} in {took_s:.0f} s")
    typer.echo(f"score with it: oddwatch score VIDEO --model {out} --out DIR")


def fit_checkpoint(normal: list[str], out: Path, features: str, config: Path | None = None) -> tuple[int, int]:
    """Fit and save; returns the clips and frames used.

    Raises UsageError for a wrong path, SourceError for an unreadable file, OddwatchError for too little footage.
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
    with frame_counter([s.uri for s in sources], "learning") as count:

        def clips() -> Iterator[Iterator]:
            for source in sources:
                yield clip_features(source, extractor, decode, partial(count, source.uri))

        checkpoint = fit_novelty(clips(), LearnedDecode.of(decode).meta())
    save_checkpoint(out, checkpoint)
    return int(checkpoint.meta["clips"]), int(checkpoint.meta["frames"])
