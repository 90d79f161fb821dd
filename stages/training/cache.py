"""Features of files, kept on disk so that a second training does not extract them again.

A file's features lie under the hash of everything that made them: its content, the extractor, how it was decoded.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stages.decode.natural_order import pictures_in
from stages.decode.settings import DecodeSettings
from stages.decode.source import Source
from stages.errors import ConfigError, OddwatchError, SourceError
from stages.features.extract_files import clip_features
from stages.features.registry import Extractor

FORMAT = 1
"""Part of every key: raise it when what is stored changes."""
WITHOUT_EFFECT = ("open_timeout_s", "read_timeout_s", "transport", "threads")
"""Decode settings that change no picture."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoFeatures:
    """The dense features of one file, snippet by snippet."""

    values: np.ndarray
    """float32 (T, D)."""
    frames: np.ndarray
    """int32 (T,): kept frames of each snippet."""

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim != 2:
            raise ValueError(f"values must be float32 (T, D), got {self.values.dtype} {self.values.shape}")
        if self.frames.dtype != np.int32 or self.frames.shape != (len(self.values),):
            raise ValueError(f"frames must be int32 ({len(self.values)},), got {self.frames.dtype} {self.frames.shape}")


class FeatureCache:
    """A folder of features. Several processes may use it at once: a file in it is whole or absent.

    Nothing in it is ever needed: it can be deleted at any time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def features(
        self,
        source: Source,
        extractor: Extractor,
        settings: DecodeSettings,
        on_frames: Callable[[int], None] | None = None,
    ) -> VideoFeatures:
        """The features of a file, extracted unless they are here. A damaged entry is made again.

        Raises ConfigError for an extractor that is not dense, SourceError for a file that cannot be read or gives no
        snippet, OddwatchError when the folder cannot be written.
        """
        if extractor.sparse:
            raise ConfigError(
                f"{extractor.name} gives features of cells, but these models need one vector per snippet; "
                "use --features i3d"
            )
        path = self._path(source, extractor, settings)
        found = _load(path)
        if found is None:
            found = extract(source, extractor, settings, on_frames)
            _store(path, found)
        return found

    def _path(self, source: Source, extractor: Extractor, settings: DecodeSettings) -> Path:
        decoded = {name: value for name, value in asdict(settings).items() if name not in WITHOUT_EFFECT}
        identity = {"format": FORMAT, "content": content_sha256(source), "extractor": extractor.id, "decode": decoded}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return self._folder / key[:2] / f"{key}.safetensors"


def cache_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where features are kept: $ODDWATCH_FEATURE_CACHE, else `features` in Oddwatch's home."""
    return Path(environ.get("ODDWATCH_FEATURE_CACHE") or home / "features").expanduser()


def extract(
    source: Source, extractor: Extractor, settings: DecodeSettings, on_frames: Callable[[int], None] | None = None
) -> VideoFeatures:
    """Decode and extract one file, as live. Raises SourceError when it cannot be read or gives no snippet."""
    found = list(clip_features(source, extractor, settings, on_frames))
    if not found:
        raise SourceError(f"{source.redacted}: no snippet of it could be read; leave it out of the manifest")
    return VideoFeatures(
        values=np.stack([features.values for features in found]),
        frames=np.array([len(features.picked) for features in found], np.int32),
    )


def content_sha256(source: Source) -> str:
    """Of a file's bytes; of a folder of pictures, of their names and bytes. Raises SourceError."""
    path = Path(source.uri)
    digest = hashlib.sha256()
    try:
        for file in pictures_in(path) if path.is_dir() else [path]:
            digest.update(b"" if file == path else f"{file.name}\0{file.stat().st_size}\0".encode())
            for block in _blocks(file):
                digest.update(block)
    except OSError as error:
        raise SourceError(f"{source.redacted}: cannot be read ({error.strerror}); check the path") from error
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def _load(path: Path) -> VideoFeatures | None:
    try:
        # Not mapped: whoever cuts a mapped file short kills the process that reads it.
        arrays = load(path.read_bytes())
        return VideoFeatures(values=arrays["values"], frames=arrays["frames"])
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, ValueError):
        return None  # Damaged: it is only a copy, made again and overwritten.


def _store(path: Path, features: VideoFeatures) -> None:
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(save({"values": features.values, "frames": features.frames}))
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OddwatchError(
            f"{path}: features cannot be kept ({error.strerror}); free space, or set ODDWATCH_FEATURE_CACHE to "
            "a folder that can be written"
        ) from error
