"""Resuming an interrupted training: its progress in one safetensors file beside the checkpoint, whole or absent."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from stages.errors import CheckpointError
from stages.files.atomic import cannot_write
from stages.training.weak.loop import Arrays, Point, TrainingProgress

PARTS = ("net", "optimiser", "best")


def resume_path(out: Path) -> Path:
    """Where the progress of a training to `out` lies."""
    return out.with_name(out.name + ".resume")


def save_progress(path: Path, progress: TrainingProgress, identity: str) -> None:
    """`identity`: of settings and data; `load_progress` wants the same. Raises OddwatchError if it cannot write."""
    arrays: Arrays = {}
    for part in PARTS:
        arrays |= {f"{part}.{name}": array for name, array in getattr(progress, part).items()}
    about = {"iteration": progress.iteration, "best_iteration": progress.best_iteration, "curve": progress.curve}
    part_file = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part_file.write_bytes(save(arrays, {"identity": identity, "about": json.dumps(about)}))
        os.replace(part_file, path)
    except OSError as error:
        with suppress(OSError):
            part_file.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def load_progress(path: Path, identity: str) -> TrainingProgress | None:
    """What was saved; None if nothing was. Raises CheckpointError for a damaged file or another training's."""
    if not path.exists():
        return None
    remedy = "train without --resume to begin anew"
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or unreadable ({error}); {remedy}") from error
    if metadata.get("identity") != identity:
        raise CheckpointError(
            f"{path}: was made with other settings, features or videos; give the same ones, or {remedy}"
        )
    about = json.loads(metadata["about"])
    parts = {
        part: {name.removeprefix(f"{part}."): a for name, a in arrays.items() if name.startswith(f"{part}.")}
        for part in PARTS
    }
    return TrainingProgress(
        iteration=about["iteration"],
        best_iteration=about["best_iteration"],
        curve=tuple(Point(*point) for point in about["curve"]),
        **parts,
    )
