"""Walks the boxes of MP4 and QuickTime files without FFmpeg, which makes an index of every sample of every track."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""Types of the box that such a file begins with."""


@dataclass(frozen=True, slots=True)
class Box:
    """Type and place of a box, in bytes from the start of the file."""

    kind: bytes
    at: int
    """Of its header."""
    start: int
    """Of its content."""
    end: int
    """As its header says, so perhaps beyond the end of the file."""


@dataclass(frozen=True, slots=True)
class Track:
    """One track of a film."""

    at: int
    """Where in the file its `trak` box begins."""
    kind: bytes
    """Its handler: `vide`, `soun` ..."""
    samples: int


def boxes(f: BinaryIO, at: int, end: int) -> Iterator[Box]:
    """The boxes that begin between two places of a file, up to the first malformed one."""
    while at + 8 <= end:
        f.seek(at)
        head = f.read(16)
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:16], "big"), 16
        if length == 0:
            length = end - at  # ISO 14496-12: it extends to the end
        if length < header:
            return
        yield Box(head[4:8], at, at + header, at + length)
        at += length


def top_boxes(f: BinaryIO) -> Iterator[Box]:
    """Those of the whole file; none if it does not begin like MP4 or QuickTime."""
    size = f.seek(0, os.SEEK_END)
    if _four_bytes(f, 4) in FIRST_BOXES:
        yield from boxes(f, 0, size)


def tracks(path: Path) -> list[Track]:
    """In the order of the file; none if it is no such file, its index is missing, or in fragments. Raises OSError."""
    with path.open("rb") as f:
        film = next((box for box in top_boxes(f) if box.kind == b"moov"), None)
        if film is None or _inside(f, [film], b"mvex"):
            return []
        return [_track(f, box) for box in _inside(f, [film], b"trak")]


def sample_entries(path: Path, kind: bytes) -> list[bytes]:
    """Types of what tracks of a kind (`vide`) say they hold: `avc1`, `encv` ... Raises OSError."""
    with path.open("rb") as f:
        films = [box for box in top_boxes(f) if box.kind == b"moov"]
        tracks = [box for box in _inside(f, films, b"trak") if _track(f, box).kind == kind]
        tables = _inside(f, tracks, b"mdia", b"minf", b"stbl", b"stsd")
        # ISO 14496-12: version, flags and their number, 8 bytes, then the entries as boxes.
        return [entry.kind for table in tables for entry in boxes(f, table.start + 8, table.end)]


def _track(f: BinaryIO, track: Box) -> Track:
    handlers = _inside(f, [track], b"mdia", b"hdlr")
    tables = _inside(f, [track], b"mdia", b"minf", b"stbl")
    sizes = [*_inside(f, tables, b"stsz"), *_inside(f, tables, b"stz2")]
    # ISO 14496-12: after version and flags, 4 more bytes, then the type of a handler, or the number of samples.
    return Track(
        at=track.at,
        kind=_four_bytes(f, handlers[0].start + 8) if len(handlers) == 1 else b"",
        samples=int.from_bytes(_four_bytes(f, sizes[0].start + 8), "big") if len(sizes) == 1 else 0,
    )


def _inside(f: BinaryIO, outer: Sequence[Box], *path: bytes) -> list[Box]:
    """The boxes that lie in these by way of the path."""
    found = list(outer)
    size = f.seek(0, os.SEEK_END)
    for kind in path:
        found = [box for parent in found for box in boxes(f, parent.start, min(parent.end, size)) if box.kind == kind]
    return found


def _four_bytes(f: BinaryIO, at: int) -> bytes:
    f.seek(at)
    return f.read(4)
