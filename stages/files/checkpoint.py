"""Checkpoints: safetensors arrays and JSON metadata in one file. Nothing pickled, nothing executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from stages.errors import CheckpointError
from stages.files.atomic import write_whole

FORMAT = "oddwatch-1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A temporal model as fitted or trained: everything needed to score."""

    kind: str
    """`novelty`, `mil`, `rtfm`, `future_frame`."""
    meta: dict
    """JSON: architecture, sizes, extractor id, preprocessing, training data fingerprint, reference quantiles."""
    arrays: dict[str, np.ndarray]
    sha256: str = ""
    """Of the file; filled in by `load`."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically: the file is whole or absent. Raises OddwatchError naming the path when it cannot be written."""
    metadata = {"format": FORMAT, "kind": checkpoint.kind, "meta": json.dumps(checkpoint.meta, sort_keys=True)}
    arrays = {name: np.ascontiguousarray(a) for name, a in checkpoint.arrays.items()}
    write_whole(path, _canonical(save(arrays, metadata)))


def _canonical(data: bytes) -> bytes:
    """The same safetensors file with its JSON header sorted: the library writes metadata in a random order."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def load_checkpoint(path: Path, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint; with `kind`, refuse one of another model. Raises CheckpointError naming file and remedy."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint ({error.strerror})") from error
    with _opened(path) as f:
        metadata = f.metadata()
        arrays = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (not a dict)
    if kind is not None and metadata["kind"] != kind:
        raise CheckpointError(f"{path}: holds a {metadata['kind']!r} model, expected {kind!r}")
    return Checkpoint(
        kind=metadata["kind"],
        meta=json.loads(metadata["meta"]),
        arrays=arrays,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def read_kind(path: Path) -> str:
    """What model a checkpoint holds, without reading its arrays. Raises CheckpointError naming file and remedy."""
    with _opened(path) as f:
        return str(f.metadata()["kind"])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="np") as f:
            metadata = f.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path}: not an Oddwatch checkpoint (format {metadata.get('format')!r}, expected {FORMAT!r}); "
                    "make one with 'oddwatch fit' or 'oddwatch train'"
                )
            yield f
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{path}: cannot read the checkpoint ({reason})") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file, or a damaged one ({error})") from error
