"""`oddwatch import`: weights that others published become a checkpoint. Nothing in their files is executed."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.config.load import load_config
from stages.errors import UsageError
from stages.features.feature_files import FROM_FILES, extractor_of_files
from stages.text import counted

if TYPE_CHECKING:
    import numpy as np

    from stages.temporal.weak.imported_weights import ImportedNetwork

app = typer.Typer(help="Make a checkpoint of published weights.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The weights as published.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write.")]
Normal = Annotated[
    list[str], typer.Option("--normal", help="Normal footage, or feature files of it: what scores are calibrated on.")
]
Features = Annotated[
    str, typer.Option(help="What the weights read: 'file', features that others extracted; or an extractor's name.")
]
Config = Annotated[Path | None, typer.Option(help="Configuration file; its decode and workers sections are used.")]


@app.command()
def rtfm(
    file: File,
    out: Out,
    normal: Normal,
    features: Features = FROM_FILES,
    mode: Annotated[str, typer.Option(help="lookahead (streams, 5 snippets later) or paper (whole videos).")] = (
        "lookahead"
    ),
    window: Annotated[int, typer.Option(min=11, help="Snippets that the streaming form sees.")] = 32,
    config: Config = None,
) -> None:
    """RTFM (Tian et al. 2021): the state_dict of the published code, .pkl, .pth or .safetensors."""
    if mode not in ("lookahead", "paper"):
        raise UsageError(f"--mode {mode}: published weights see later snippets: lookahead or paper")
    from stages.temporal.weak.imported_weights import import_rtfm
    from stages.temporal.weak.rtfm import RTFMConfig

    form = RTFMConfig(mode=mode, window=window)  # type: ignore[arg-type]
    _import(import_rtfm(file, form), file, out, normal, features, config)


@app.command()
def mil(file: File, out: Out, normal: Normal, features: Features = FROM_FILES, config: Config = None) -> None:
    """Deep MIL ranking (Sultani et al. 2018): the Keras weights of the published code, .mat."""
    from stages.temporal.weak.imported_weights import import_mil

    _import(import_mil(file), file, out, normal, features, config)


def _import(
    published: ImportedNetwork, file: Path, out: Path, normal: list[str], features: str, config: Path | None
) -> None:
    from stages.files.atomic import check_writable
    from stages.files.checkpoint import Checkpoint, save_checkpoint
    from stages.temporal.weak.imported_weights import imported_checkpoint

    check_writable(out.parent)
    dim = published.config.input_dim
    if features == FROM_FILES:
        extractor, preprocessing = extractor_of_files(dim), {"features": "read from files"}
        videos = _from_files(normal, dim)
    else:
        extractor, preprocessing, videos = _from_footage(normal, features, dim, config)
    checkpoint: Checkpoint = imported_checkpoint(published, file, extractor, preprocessing, videos)
    save_checkpoint(out, checkpoint)
    snippets = checkpoint.meta["training"]["normal_snippets"]
    typer.echo(
        f"{out}: {published.kind} on {extractor}, calibrated on {counted(snippets, 'normal snippet')} "
        f"of {counted(len(videos), 'video')}"
    )
    command = "evaluate --manifest FEATURES.jsonl" if features == FROM_FILES else "score VIDEO"
    if checkpoint.meta["architecture"].get("mode") == "paper":
        command = "evaluate --mode paper --manifest MANIFEST.jsonl"
    typer.echo(f"use it: oddwatch {command} --model {out} --out DIR")


def _from_files(normal: list[str], dim: int) -> list[np.ndarray]:
    """Features (T, crops, dim) of feature files, and of those in folders."""
    from stages.features.feature_files import SUFFIXES, is_feature_file, read_features

    paths: list[Path] = []
    for given in map(Path, normal):
        found = sorted(p for p in given.rglob("*") if p.suffix.lower() in SUFFIXES) if given.is_dir() else [given]
        if not found or not all(is_feature_file(path) for path in found):
            raise UsageError(
                f"--normal {given}: no feature files ({', '.join(sorted(SUFFIXES))}); for footage name the extractor "
                "that the weights read, with --features"
            )
        paths += found
    videos = [read_features(path) for path in paths]
    for path, values in zip(paths, videos, strict=True):
        if values.shape[2] != dim:
            raise UsageError(
                f"--normal {path}: holds vectors of {values.shape[2]}, but these weights read vectors of {dim}"
            )
    return videos


def _from_footage(
    normal: list[str], features: str, dim: int, config: Path | None
) -> tuple[str, dict, list[np.ndarray]]:
    """The extractor's id, the preprocessing, and the features of normal footage."""
    from pipeline.cli.progress import frame_counter
    from pipeline.workers.build import resolve_device
    from stages.decode.learned import LearnedDecode
    from stages.decode.source import expand
    from stages.features.registry import analysis_height, build_extractor
    from stages.training.cache import FeatureCache, cache_folder
    from stages.weights.store import default_home

    settings = load_config(config)
    decode = settings.decode.settings(analysis_height(features))
    sources = expand(normal)
    extractor = build_extractor(features, resolve_device(settings.workers.device), engine=settings.workers.engine)
    if extractor.sparse or extractor.dim != dim:
        gives = "cells" if extractor.sparse else f"vectors of {extractor.dim}"
        raise UsageError(f"--features {features}: gives {gives}, but these weights read vectors of {dim}")
    cache = FeatureCache(cache_folder(os.environ, default_home(os.environ)))
    videos = []
    with frame_counter([source.uri for source in sources], "normal footage") as count:
        for source in sources:
            found = cache.features(source, extractor, decode, partial(count, source.uri))
            videos.append(found.values[:, None])
    return extractor.id, LearnedDecode.of(decode).meta(), videos
