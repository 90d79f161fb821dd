"""Looks into MP4 and QuickTime files without FFmpeg, which makes an index of every sample of every track."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stages.decode.containers.wholeness import FIRST_BOXES


@dataclass(frozen=True, slots=True)
class Track:
    """One track of a film."""

    at: int
    """Where in the file its `trak` box begins."""
    kind: bytes
    """Its handler: `vide`, `soun` ..."""
    samples: int


def tracks(path: Path) -> list[Track]:
    """In the order of the file; none if it is no such file, its index is missing, or in fragments. Raises OSError."""
    with path.open("rb") as f:
        if _at(f, 4) not in FIRST_BOXES:
            return []
        size = f.seek(0, os.SEEK_END)
        film = next((box for kind, box in _boxes(f, 0, size) if kind == b"moov"), None)
        if film is None or _inside(f, [film], b"mvex"):
            return []
        return [_track(f, box) for box in _inside(f, [film], b"trak")]


@dataclass(frozen=True, slots=True)
class Box:
    """Where a box begins, and where its content begins and ends."""

    at: int
    start: int
    end: int


def _track(f: BinaryIO, track: Box) -> Track:
    handlers = _inside(f, [track], b"mdia", b"hdlr")
    tables = _inside(f, [track], b"mdia", b"minf", b"stbl")
    sizes = [*_inside(f, tables, b"stsz"), *_inside(f, tables, b"stz2")]
    # ISO 14496-12: after version and flags, 4 more bytes, then the type of a handler, or the number of samples.
    return Track(
        at=track.at,
        kind=_at(f, handlers[0].start + 8) if len(handlers) == 1 else b"",
        samples=int.from_bytes(_at(f, sizes[0].start + 8), "big") if len(sizes) == 1 else 0,
    )


def _inside(f: BinaryIO, boxes: list[Box], *path: bytes) -> list[Box]:
    """The boxes that lie in these by way of the path."""
    for kind in path:
        boxes = [box for outer in boxes for found, box in _boxes(f, outer.start, outer.end) if found == kind]
    return boxes


def _boxes(f: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, Box]]:
    """The type and place of each box between two places of a file."""
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
        yield head[4:8], Box(at, at + header, min(at + length, end))
        at += length


def _at(f: BinaryIO, at: int) -> bytes:
    f.seek(at)
    return f.read(4)
