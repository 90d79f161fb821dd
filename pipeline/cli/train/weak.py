"""`oddwatch train mil` and `rtfm`: learn which snippets are odd from labels of whole videos."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.progress import ProgressBar
from pipeline.cli.train.options import WeakOptions
from pipeline.config.load import load_config
from stages.errors import UsageError
from stages.text import counted

if TYPE_CHECKING:
    from stages.files.manifest import ManifestEntry
    from stages.training.bags import TrainingVideo
    from stages.training.weak.loop import Settings
    from stages.training.weak.train import Recipe

FEW = 10
"""Held-out videos, below which their ranking says little."""


def mil(
    options: WeakOptions,
    *,
    standardise: Annotated[bool, typer.Option(help="Standardised inputs: for few videos that look alike.")] = False,
) -> None:
    """Deep MIL ranking (Sultani et al. 2018): scores every snippet alone."""
    from stages.temporal.weak.mil import MILConfig
    from stages.training.weak.mil import PUBLISHED
    from stages.training.weak.train import Recipe

    settings = _adapted(PUBLISHED, options)

    def recipe(dim: int) -> Recipe:
        return Recipe(
            model=MILConfig(input_dim=dim),
            settings=settings, segments=options.segments, standardise=standardise, validation=options.validation,
        )  # fmt: skip

    _train(options, recipe)


def rtfm(
    options: WeakOptions,
    *,
    mode: Annotated[
        str, typer.Option(help="lookahead (5 snippets later), causal, or paper (whole video).")
    ] = "lookahead",
    window: Annotated[int, typer.Option(min=1, help="Snippets that a streaming form sees.")] = 32,
) -> None:
    """Robust temporal feature magnitude (Tian et al. 2021): scores snippets in their context."""
    from stages.temporal.weak.rtfm import RTFMConfig
    from stages.training.weak.rtfm import PUBLISHED
    from stages.training.weak.train import Recipe

    settings = _adapted(PUBLISHED, options)

    def recipe(dim: int) -> Recipe:
        try:
            model = RTFMConfig(input_dim=dim, mode=mode, window=window)  # type: ignore[arg-type]
        except ValueError as error:
            raise UsageError(f"--mode, --window: {error}") from error
        return Recipe(model=model, settings=settings, segments=options.segments, validation=options.validation)

    _train(options, recipe)


def _adapted(published: Settings, options: WeakOptions) -> Settings:
    from stages.training.weak.train import adapted

    o = options
    return adapted(published, o.iterations, o.batch, o.learning_rate, o.chain, o.seed)


def _train(options: WeakOptions, recipe_for: Callable[[int], Recipe]) -> None:
    from stages.features.feature_files import is_from_files
    from stages.files.atomic import check_writable, write_whole
    from stages.files.checkpoint import save_checkpoint
    from stages.files.manifest import read_manifest
    from stages.training.gather import chosen_split
    from stages.training.weak.curves import curves_figure
    from stages.training.weak.resume import load_progress, resume_path, save_progress
    from stages.training.weak.train import check, identity, train_weak

    out = options.out
    entries = chosen_split(read_manifest(options.manifest), options.split)
    check(entries)
    validation = recipe_for(1).validation  # a wrong option is told before hours of extraction
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; give --out the checkpoint's file name")
    check_writable(out.parent)
    begun_s = time.monotonic()
    videos, extractor, preprocessing, device = _videos(entries, options, validation)
    recipe = recipe_for(videos[0].values.shape[2])
    key = identity(videos, recipe, extractor)
    progress_file = resume_path(out)
    start = load_progress(progress_file, key) if options.resume else None
    if start is not None:
        typer.echo(f"going on after iteration {start.iteration} of {recipe.settings.iterations}", err=True)
    with _iterations(recipe.settings.iterations) as report:
        outcome = train_weak(
            videos, recipe, extractor=extractor, preprocessing=preprocessing, device=device,
            start=start, keep=lambda progress: save_progress(progress_file, progress, key), report=report,
        )  # fmt: skip
    save_checkpoint(out, outcome.checkpoint)
    curve, kept = outcome.progress.curve, outcome.progress.best_iteration
    picture = out.with_name(f"{out.stem}.curves.png")
    write_whole(picture, curves_figure(curve, kept, f"{recipe.kind}: {out.name}"))
    progress_file.unlink(missing_ok=True)
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
    if not is_from_files(extractor):
        typer.echo(f"score with it: oddwatch score VIDEO --model {out} --out DIR")


@contextmanager
def _iterations(total: int) -> Iterator[Callable[[int, float, float | None], None]]:
    """Progress of training: call it with the iteration, its loss, and the held-out ROC-AUC where there is a new one."""
    validated = ""
    with ProgressBar("training", total, tell_end=True) as bar:

        def report(iteration: int, loss: float, roc_auc: float | None) -> None:
            nonlocal validated
            validated = validated if roc_auc is None else f", held-out ROC-AUC {roc_auc:.3f}"
            bar.show(iteration, f"iteration {iteration} of {total}, loss {loss:.4f}{validated}")

        yield report


def _videos(
    entries: list[ManifestEntry], options: WeakOptions, validation: float
) -> tuple[list[TrainingVideo], str, dict, str]:
    """The videos, the extractor's id, the preprocessing for the checkpoint, the device."""
    from pipeline.workers.build import resolve_device
    from stages.decode.learned import LearnedDecode
    from stages.features.registry import analysis_height, build_extractor
    from stages.training.cache import FeatureCache, cache_folder
    from stages.training.gather import Footage, are_feature_files, file_extractor, source_of, video_of_file
    from stages.training.weak.train import check_split
    from stages.weights.store import default_home

    settings = load_config(options.config)
    device = resolve_device(settings.workers.device)
    if are_feature_files(entries):
        if options.mirror:
            raise UsageError("--mirror: feature files hold no pictures to mirror; leave it out")
        videos = [video_of_file(entry) for entry in entries]
        return videos, file_extractor(videos), {"features": "read from files"}, device
    sources = [source_of(entry) for entry in entries]
    check_split(entries, validation)
    decode = settings.decode.settings(analysis_height(options.features))
    extractor = build_extractor(options.features, device, engine=settings.workers.engine)
    cache = FeatureCache(cache_folder(os.environ, default_home(os.environ)))
    footage = Footage(extractor=extractor, settings=decode, cache=cache, mirrored=options.mirror)
    videos = []
    with ProgressBar("features", len(sources), tell_end=True) as bar:
        for entry, source in zip(entries, sources, strict=True):
            videos.append(footage.video(entry, source))
            bar.show(len(videos), f"{len(videos)} of {counted(len(sources), 'file')}")
    return videos, extractor.id, LearnedDecode.of(decode).meta(), device
