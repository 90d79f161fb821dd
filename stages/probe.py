"""A quick look at a file, without decoding it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av

from stages.sources import pictures_in
from stages.wholeness import FIRST_BOXES


def frames_promised(uri: str) -> int:
    """How many frames a file or folder of pictures says it has; 0 if it does not say. For progress only."""
    path = Path(uri)
    try:
        if path.is_dir():
            return len(pictures_in(path))
        # FFmpeg would make an index of every frame, and the room it leaves behind fits no second one.
        if "://" not in uri and (frames := mp4_frames(path)):
            return frames
        with av.open(uri, timeout=(2, 2)) as container:
            if not container.streams.video:
                return 0
            stream = container.streams.video[0]
            if stream.frames:
                return stream.frames
            if container.duration and stream.average_rate:
                return round(container.duration / av.time_base * float(stream.average_rate))
            return 0
    except (OSError, av.FFmpegError, ValueError):
        return 0


def mp4_frames(path: Path) -> int:
    """Frames of the first video track of an MP4 or QuickTime file; 0 if it is none, or in fragments. Raises OSError."""
    with path.open("rb") as f:
        if _word(f, 4) not in FIRST_BOXES:
            return 0
        for track in _inside(f, [(0, f.seek(0, 2))], b"moov", b"trak", b"mdia"):
            handlers = _inside(f, [track], b"hdlr")
            tables = _inside(f, [track], b"minf", b"stbl")
            sizes = [*_inside(f, tables, b"stsz"), *_inside(f, tables, b"stz2")]
            # ISO 14496-12: after version and flags, 4 more bytes, then the type of a handler, or the number of samples.
            if [_word(f, start + 8) for start, _ in handlers] == [b"vide"]:
                return int.from_bytes(_word(f, sizes[0][0] + 8), "big") if sizes else 0
    return 0


Extent = tuple[int, int]
"""Where a box' content begins and ends."""


def _inside(f: BinaryIO, extents: list[Extent], *path: bytes) -> list[Extent]:
    """The boxes that lie in these by way of the path."""
    for kind in path:
        extents = [extent for outer in extents for found, extent in _boxes(f, *outer) if found == kind]
    return extents


def _boxes(f: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, Extent]]:
    """The type and content of each box between two places of a file."""
    while at + 8 <= end:
        f.seek(at)
        head = f.read(16)
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:16], "big"), 16
        if length == 0:
            length = end - at
        if length < header:
            return
        yield head[4:8], (at + header, min(at + length, end))
        at += length


def _word(f: BinaryIO, at: int) -> bytes:
    f.seek(at)
    return f.read(4)
