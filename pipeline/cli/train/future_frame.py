"""`oddwatch train future_frame`: learn to predict the next frame of normal footage."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.progress import ProgressBar
from pipeline.cli.session import cores
from pipeline.config.load import load_config
from stages.errors import UsageError
from stages.text import counted

if TYPE_CHECKING:
    from stages.decode.settings import DecodeSettings
    from stages.files.manifest import ManifestEntry
    from stages.training.future_frame.footage import Clip
    from stages.training.future_frame.settings import TrainSettings
    from stages.training.future_frame.train import Budget, Training


def future_frame(
    manifest: Annotated[Path, typer.Option("--manifest", help='JSON lines: "video", perhaps "label", "group".')],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write; its curves lie beside it.")],
    arch: Annotated[str, typer.Option(help="unet, or conv_transformer.")] = "unet",
    size: Annotated[str, typer.Option(help="small (real time on a CPU core), medium, paper (GPU).")] = "small",
    score: Annotated[str | None, typer.Option(help="place, square or picture. Default: by size; see the docs.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Steps. Default: by size.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Train for so long instead; not reproducible.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Windows in a step. Default: by size.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default: by size.")] = None,
    adversarial: Annotated[float | None, typer.Option(help="Weight of the discriminators; 0: none.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to train on. Default: train, or all without splits.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, footage and threads give the same file.")] = 0,
    mixed: Annotated[bool | None, typer.Option(help="Half precision in training. Default: on a GPU.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: all cores.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file; its decode and workers sections.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same training was broken off.")] = False,
) -> None:
    """Future-frame prediction (Liu et al. 2018): learns normal footage, scores what it cannot predict."""
    import torch

    from pipeline.workers.build import resolve_device
    from stages.features.registry import analysis_height
    from stages.files.atomic import check_writable, write_whole
    from stages.files.checkpoint import load_checkpoint, save_checkpoint
    from stages.files.manifest import read_manifest
    from stages.training.future_frame.curves import looks_figure
    from stages.training.future_frame.footage import normal_entries
    from stages.training.future_frame.train import train
    from stages.training.gather import chosen_split
    from stages.training.weak.resume import resume_path

    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    listed = chosen_split(read_manifest(manifest), split)
    entries = normal_entries(listed)
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; give --out the checkpoint's file name")
    check_writable(out.parent)
    parts = load_config(config)
    device = resolve_device(parts.workers.device)
    decode = parts.decode.settings(analysis_height(None))
    settings = _settings(arch, size, score, batch, learning_rate, adversarial, decode, mixed, device)
    budget = _budget(size, iterations, minutes)
    torch.set_num_threads(threads or cores())
    if len(entries) < len(listed):
        typer.echo(
            f"left out for their anomalies: {len(listed) - len(entries)} of {counted(len(listed), 'video')}", err=True
        )
    clips = _clips(entries, decode, settings)
    progress_file = resume_path(out)
    start = load_checkpoint(progress_file) if resume and progress_file.exists() else None
    if start is not None:
        typer.echo(f"going on after step {start.meta.get('steps')}", err=True)
    with ProgressBar("training", 1, tell_end=True) as bar:
        checkpoint, looks = train(
            clips, settings, budget, seed=seed, resume=start, device=device,
            keep=lambda progress: save_checkpoint(progress_file, progress),
            report=lambda part, training: bar.show(part, _words(training)),
        )  # fmt: skip
    save_checkpoint(out, checkpoint)
    picture = out.with_name(f"{out.stem}.curves.png")
    write_whole(picture, looks_figure(looks, f"future_frame: {out.name}"))
    progress_file.unlink(missing_ok=True)
    trained, held = checkpoint.meta["training"]["clips"]
    took = f"{time.monotonic() - begun_s:.0f} s, {(time.process_time() - begun_cpu_s) / 60:.1f} CPU minutes"
    typer.echo(f"{out}: future_frame ({size} {settings.arch}), {counted(trained, 'clip')}, {held} held out, {took}")
    if looks:
        typer.echo(f"held-out frames are predicted to {looks[-1].psnr_db:.1f} dB")
    typer.echo(f"curves: {picture}")
    typer.echo(f"score with it: oddwatch score VIDEO --model {out} --out DIR")


def _settings(
    arch: str,
    size: str,
    score: str | None,
    batch: int | None,
    rate: float | None,
    adversarial: float | None,
    decode: DecodeSettings,
    mixed: bool | None,
    device: str,
) -> TrainSettings:
    """The preset, with what the user chose instead. Raises UsageError."""
    from stages.decode.learned import LearnedDecode
    from stages.training.future_frame.settings import STEPS, preset

    for option, value, known in (("--arch", arch, ("unet", "conv_transformer")), ("--size", size, tuple(STEPS))):
        if value not in known:
            raise UsageError(f"{option}: {value!r} is not known; choose one of {', '.join(known)}")
    settings = preset(size, arch)  # type: ignore[arg-type]
    weights = settings.weights if adversarial is None else replace(settings.weights, adversarial=adversarial)
    try:
        return replace(
            settings,
            decode=LearnedDecode.of(decode),
            score=settings.score if score is None else score,  # type: ignore[arg-type]
            batch=batch or settings.batch,
            rate=settings.rate if rate is None else rate,
            weights=weights,
            mixed=device != "cpu" if mixed is None else mixed,
        )
    except ValueError as error:
        raise UsageError(f"--score, --learning-rate, --adversarial: {error}") from error


def _budget(size: str, iterations: int | None, minutes: float | None) -> Budget:
    """How long to train. Raises UsageError."""
    from stages.training.future_frame.settings import STEPS
    from stages.training.future_frame.train import Budget

    if minutes is None:
        return Budget(steps=iterations or STEPS[size])  # type: ignore[index]
    if iterations is not None or not 0 < minutes < math.inf:
        raise UsageError("--minutes: give a positive number, and not --iterations as well")
    return Budget(seconds=minutes * 60)


def _clips(entries: list[ManifestEntry], decode: DecodeSettings, settings: TrainSettings) -> list[Clip]:
    """The pictures that are learned from, with progress."""
    from pipeline.cli.progress import frame_counter
    from stages.training.future_frame.footage import read_clips
    from stages.training.gather import are_feature_files, source_of

    if are_feature_files(entries):
        raise UsageError("the manifest lists feature files; future_frame learns from pictures: list videos")
    sources = [source_of(entry) for entry in entries]
    clips: list[Clip] = []
    with frame_counter([source.uri for source in sources], "reading") as count:
        for entry, source in zip(entries, sources, strict=True):
            group = entry.video if entry.group is None else entry.group
            clips += read_clips(source, group, decode, settings.form, partial(count, source.uri))
    return clips


def _words(training: Training) -> str:
    looked = f", held-out PSNR {training.looks[-1].psnr_db:.1f} dB" if training.looks else ""
    return f"step {training.steps}{looked}"
