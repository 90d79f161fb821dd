"""`oddwatch train`: learn a temporal model from labelled footage, or from features that others extracted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.train.future_frame import future_frame
from pipeline.cli.train.progress import files, steps
from pipeline.config.load import load_config
from stages.errors import UsageError
from stages.text import counted

if TYPE_CHECKING:
    from stages.files.manifest import Entry
    from stages.training.bags import Video
    from stages.training.weak.train import Recipe

FEW = 10
"""Held-out videos, below which their ranking says little."""

app = typer.Typer(help="Train a temporal model on labelled footage.", no_args_is_help=True)
app.command("future_frame")(future_frame)

Manifest = Annotated[Path, typer.Option("--manifest", help='JSON lines with "video", "label" and perhaps "group".')]
Out = Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write; its curves lie beside it.")]
Features = Annotated[str, typer.Option(help="Feature extractor, one vector per snippet: i3d, ...")]
Split = Annotated[str | None, typer.Option(help="Split to train on. Default: train, or all if there are no splits.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed, footage and device give the same checkpoint.")]
Iterations = Annotated[int | None, typer.Option(min=1, help="Steps. Default: as published.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Bags of each class in a step. Default: as published.")]
Chain = Annotated[int, typer.Option(min=1, help="Videos of one class that make a bag; more where they are short.")]
Segments = Annotated[int, typer.Option(min=1, help="Rows of a bag.")]
Rate = Annotated[float | None, typer.Option("--learning-rate", help="Default: as published.")]
Validation = Annotated[float, typer.Option(min=0, max=0.5, help="Share held out by group to choose the best; 0: none.")]
Mode = Annotated[str, typer.Option(help="lookahead (5 snippets later), causal, or paper (whole video).")]
Window = Annotated[int, typer.Option(min=1, help="Snippets that a streaming form sees.")]
Mirror = Annotated[bool, typer.Option(help="Learn from mirror images too; extraction takes twice as long.")]
Config = Annotated[Path | None, typer.Option(help="Configuration file; its decode and workers sections are used.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the same training was broken off.")]


@app.command()
def mil(
    manifest: Manifest,
    out: Out,
    features: Features = "i3d",
    split: Split = None,
    seed: Seed = 0,
    iterations: Iterations = None,
    batch: Batch = None,
    chain: Chain = 1,
    segments: Segments = 32,
    learning_rate: Rate = None,
    validation: Validation = 0.2,
    standardise: Annotated[bool, typer.Option(help="Standardised inputs: for few videos that look alike.")] = False,
    mirror: Mirror = False,
    config: Config = None,
    resume: Resume = False,
) -> None:
    """Deep MIL ranking (Sultani et al. 2018): scores every snippet alone."""
    from stages.temporal.weak.mil import MILConfig
    from stages.training.weak.mil import PUBLISHED
    from stages.training.weak.train import Recipe, adapted

    settings = adapted(PUBLISHED, iterations, batch, learning_rate, chain, seed)

    def recipe(dim: int) -> Recipe:
        return Recipe(
            model=MILConfig(input_dim=dim),
            settings=settings, segments=segments, standardise=standardise, validation=validation,
        )  # fmt: skip

    _train(manifest, out, features, split, config, recipe, mirror=mirror, resume=resume)


@app.command()
def rtfm(
    manifest: Manifest,
    out: Out,
    features: Features = "i3d",
    split: Split = None,
    seed: Seed = 0,
    iterations: Iterations = None,
    batch: Batch = None,
    chain: Chain = 1,
    segments: Segments = 32,
    learning_rate: Rate = None,
    validation: Validation = 0.2,
    mode: Mode = "lookahead",
    window: Window = 32,
    mirror: Mirror = False,
    config: Config = None,
    resume: Resume = False,
) -> None:
    """Robust temporal feature magnitude (Tian et al. 2021): scores snippets in their context."""
    from stages.temporal.weak.rtfm import RTFMConfig
    from stages.training.weak.rtfm import PUBLISHED
    from stages.training.weak.train import Recipe, adapted

    settings = adapted(PUBLISHED, iterations, batch, learning_rate, chain, seed)

    def recipe(dim: int) -> Recipe:
        try:
            model = RTFMConfig(input_dim=dim, mode=mode, window=window)  # type: ignore[arg-type]
        except ValueError as error:
            raise UsageError(f"--mode, --window: {error}") from error
        return Recipe(model=model, settings=settings, segments=segments, validation=validation)

    _train(manifest, out, features, split, config, recipe, mirror=mirror, resume=resume)


def _train(
    manifest: Path,
    out: Path,
    features: str,
    split: str | None,
    config: Path | None,
    recipe_for: Callable[[int], Recipe],
    *,
    mirror: bool,
    resume: bool,
) -> None:
    from stages.files.atomic import check_writable, write_whole
    from stages.files.checkpoint import save_checkpoint
    from stages.files.manifest import read_manifest
    from stages.training.gather import chosen_split
    from stages.training.weak.curves import curves_figure
    from stages.training.weak.snapshot import load_progress, save_progress, snapshot_path
    from stages.training.weak.train import check, identity, train_weak

    entries = chosen_split(read_manifest(manifest), split)
    check(entries)
    validation = recipe_for(1).validation  # a wrong option is told before hours of extraction
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; give --out the checkpoint's file name")
    check_writable(out.parent)
    begun_s = time.monotonic()
    videos, extractor, preprocessing, device = _videos(entries, features, config, mirror, validation)
    recipe = recipe_for(videos[0].values.shape[2])
    key = identity(videos, recipe, extractor)
    snapshot = snapshot_path(out)
    start = load_progress(snapshot, key) if resume else None
    if start is not None:
        typer.echo(f"going on after iteration {start.iteration} of {recipe.settings.iterations}", err=True)
    with steps(recipe.settings.iterations) as report:
        outcome = train_weak(
            videos, recipe, extractor=extractor, preprocessing=preprocessing, device=device,
            start=start, keep=lambda progress: save_progress(snapshot, progress, key), report=report,
        )  # fmt: skip
    save_checkpoint(out, outcome.checkpoint)
    curve, kept = outcome.progress.curve, outcome.progress.best_iteration
    picture = out.with_name(f"{out.stem}.curves.png")
    write_whole(picture, curves_figure(curve, kept, f"{recipe.kind}: {out.name}"))
    snapshot.unlink(missing_ok=True)
    took_s = time.monotonic() - begun_s
    typer.echo(
        f"{out}: {recipe.kind} on {extractor}, {counted(len(videos), 'video')}, iteration {kept}, {took_s:.0f} s"
    )
    if outcome.roc_auc is None:
        typer.echo("not validated: its figures on other footage are unknown")
    else:
        looks = f"{counted(len(outcome.held_out), 'video')}, best of {counted(len(curve), 'look')}"
        typer.echo(f"held-out ROC-AUC {outcome.roc_auc:.3f} ({looks})")
        if len(outcome.held_out) < FEW:
            typer.echo(
                f"noisy: of fewer than {FEW} held-out videos each decides much; give more, or go by 'oddwatch evaluate'"
            )
    typer.echo(f"curves: {picture}")
    if not extractor.startswith("file@"):
        typer.echo(f"score with it: oddwatch score VIDEO --model {out} --out DIR")


def _videos(
    entries: list[Entry], features: str, config: Path | None, mirror: bool, validation: float
) -> tuple[list[Video], str, dict, str]:
    """The videos, the extractor's id, the preprocessing for the checkpoint, the device."""
    from pipeline.workers.build import resolve_device
    from stages.decode.learned import LearnedDecode
    from stages.features.registry import analysis_height, build_extractor
    from stages.training.cache import FeatureCache, cache_folder
    from stages.training.gather import Footage, are_feature_files, file_extractor, source_of, video_of_file
    from stages.training.weak.train import check_split
    from stages.weights.arrays import default_home

    settings = load_config(config)
    device = resolve_device(settings.workers.device)
    if are_feature_files(entries):
        if mirror:
            raise UsageError("--mirror: feature files hold no pictures to mirror; leave it out")
        videos = [video_of_file(entry) for entry in entries]
        return videos, file_extractor(videos), {"features": "read from files"}, device
    sources = [source_of(entry) for entry in entries]
    check_split(entries, validation)
    decode = settings.decode.settings(analysis_height(features))
    extractor = build_extractor(features, device, engine=settings.workers.engine)
    cache = FeatureCache(cache_folder(os.environ, default_home(os.environ)))
    footage = Footage(extractor=extractor, settings=decode, cache=cache, mirrored=mirror)
    videos = []
    with files([source.redacted for source in sources]) as show:
        for entry, source in zip(entries, sources, strict=True):
            videos.append(footage.video(entry, source))
            show(len(videos))
    return videos, extractor.id, LearnedDecode.of(decode).meta(), device
