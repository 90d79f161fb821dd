"""Whether a file is as long as its container says. Reads headers only; knows MP4, AVI, Matroska and ASF."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from stages.decode.containers.boxes import Box, top_boxes

LARGE = (b"mdat", b"moov", b"moof", b"free", b"skip", b"wide", b"uuid", b"mfra", b"sidx", b"ftyp", b"styp")
"""Boxes that MP4 files consist of: another that does not fit is text, or whatever else was put behind the video."""
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


def bytes_missing(path: Path) -> int:
    """How many bytes shorter the file is than its headers say; 0 if it is whole or does not say. Raises OSError."""
    with path.open("rb") as f:
        size = f.seek(0, os.SEEK_END)
        f.seek(0)
        head = f.read(16)
        if head[:4] == b"RIFF":
            # Some writers count the 8 bytes of the header itself.
            return _excess(_riff_ends(f, size), size + 8)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _excess(_matroska_ends(f), size)
        if head == ASF_HEADER:
            return _excess(_asf_ends(f, size), size)
        return _excess((box.end for box in _film_boxes(f) if box.end <= size or box.kind in LARGE), size)


def lacks_index(path: Path) -> bool:
    """Whether this is an MP4 or QuickTime file without the `moov` box, which is written last. Raises OSError."""
    with path.open("rb") as f:
        kinds = [box.kind for box in _film_boxes(f)]
    return bool(kinds) and kinds[0] in (b"ftyp", b"mdat", b"wide") and b"moov" not in kinds


def _excess(ends: Iterator[int], size: int) -> int:
    return max(0, max(ends, default=0) - size)


def _film_boxes(f: BinaryIO) -> Iterator[Box]:
    """The boxes of an MP4 file up to the first one whose type is no name; nothing if it is no such file."""
    return takewhile(lambda box: re.fullmatch(rb"[a-zA-Z0-9 ]{4}", box.kind) is not None, top_boxes(f))


def _riff_ends(f: BinaryIO, size: int) -> Iterator[int]:
    at = 0
    while at + 8 <= size:
        f.seek(at)
        head = f.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):
            return
        at += 8 + length + length % 2
        yield at


def _matroska_ends(f: BinaryIO) -> Iterator[int]:
    f.seek(4)
    header = _ebml_length(f)
    if header is None:
        return
    f.seek(header, os.SEEK_CUR)
    if f.read(4) == b"\x18\x53\x80\x67" and (segment := _ebml_length(f)) is not None:
        yield f.tell() + segment


def _ebml_length(f: BinaryIO) -> int | None:
    """The variable-length number at the file's position; None if it says 'unknown'."""
    first = f.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] ^ (1 << (7 - more))]) + f.read(more), "big")
    return None if value == (1 << 7 * (more + 1)) - 1 else value


def _asf_ends(f: BinaryIO, size: int) -> Iterator[int]:
    at = 0
    while at + 24 <= size:
        f.seek(at)
        head = f.read(24)
        length = int.from_bytes(head[16:], "little")
        # Behind the data come indexes, which nobody needs, or what somebody has put there.
        if length < 24 or (at + length > size and head[:16] not in (ASF_HEADER, ASF_DATA)):
            return
        at += length
        yield at
