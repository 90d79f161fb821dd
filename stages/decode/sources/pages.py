"""The pictures in a picture file: one, or the pages of a TIFF, or those of an animated WebP or PNG."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

BY_PAGES = 16
"""Pages of a TIFF in memory at a time."""
HEAD = 4096
"""An animated WebP or PNG says so within so many bytes."""
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""Ends the coded data of a scan: all that is neither a stuffed 0xff nor a restart."""


def pages(data: bytes) -> Iterator[np.ndarray | None]:
    """uint8 (H, W, 3), BGR, of each page; a single None where there is no picture, or half of one is missing."""
    # OpenCV paints what is missing of a JPEG grey and says nothing.
    if not data or (data[:2] == b"\xff\xd8" and not is_whole_jpeg(data)):
        yield None
        return
    coded = np.frombuffer(data, np.uint8)
    if not may_have_pages(data):
        yield _decoded(coded)
        return
    if data[:4] not in TIFF:
        found = _animation(coded)
        yield from found
        if not found:
            yield _decoded(coded)
        return
    first = 0
    while lot := _lot(coded, first):
        yield from lot
        first += len(lot)
        if len(lot) < BY_PAGES:
            return
    if not first:
        yield _decoded(coded)


def has_pages(path: Path) -> bool:
    """Whether a file holds more than one picture. Raises OSError."""
    with path.open("rb") as f:
        if not may_have_pages(f.read(HEAD)):
            return False
        f.seek(0)
        data = f.read()
    return data[:4] not in TIFF or len(_lot(np.frombuffer(data, np.uint8), 0)) > 1


def may_have_pages(data: bytes) -> bool:
    """As far as the head of a file tells."""
    if data[:4] in TIFF:
        return True
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return b"ANIM" in data[:HEAD]
    return data[:4] == b"\x89PNG" and b"acTL" in data[:HEAD]


def is_whole_jpeg(data: bytes) -> bool:
    """Whether the picture's end is there. What else lies behind it, or in its header, does not matter."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False
        kind = data[at + 1]
        if kind == 0xFF:  # a byte of filling
            at += 1
            continue
        if kind == 0xD9:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xDA:
            found = JPEG_MARKER.search(data, at)
            if found is None:
                return False
            at = found.end() - 2
    return data[at : at + 2] == b"\xff\xd9"


def _lot(coded: np.ndarray, first: int) -> list[np.ndarray]:
    try:
        got, found = cv2.imdecodemulti(coded, cv2.IMREAD_COLOR, range=(first, first + BY_PAGES))
    except cv2.error:
        return []
    return [np.asarray(page) for page in found] if got else []


def _animation(coded: np.ndarray) -> list[np.ndarray]:
    # All of it: OpenCV does not say where the pictures of a WebP end if it is asked for a part.
    try:
        got, found = cv2.imdecodemulti(coded, cv2.IMREAD_COLOR)
    except cv2.error:
        return []
    return [np.asarray(page) for page in found] if got else []


def _decoded(coded: np.ndarray) -> np.ndarray | None:
    try:
        return cv2.imdecode(coded, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
