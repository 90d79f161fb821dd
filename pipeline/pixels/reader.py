"""Finds the pixels of messages that say where in shared memory they lie. What writes them is in `writer`."""

from __future__ import annotations

import math
import mmap
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.bus.codec import decode
from pipeline.pixels.memory import host_id, own_folder, use
from pipeline.pixels.writer import HEADER_BYTES, fence
from stages.errors import OddwatchError
from stages.messages import Message

REFERENCE = re.compile(r"(\S+) (\d+-[0-9a-f]{12})/([A-Za-z0-9_.-]+\.ring) (\d+) (\d+)\Z")
Fields = Mapping[bytes, bytes]


class ForeignFrames(OddwatchError):
    """The pixels lie in the memory of another host: only a worker there can read them."""


@dataclass(slots=True, eq=False)
class MappedRing:
    """A ring as its readers see it."""

    memory: np.ndarray
    """uint8: all its slots."""
    was_used: bool = True


class FrameReader:
    """Messages with their pixels. An archive's are views of shared memory, a camera's are copies."""

    def __init__(self, folder: Path | None = None, host: str | None = None) -> None:
        """`folder`: of this user, with a namespace in it for each Redis."""
        self._folder = own_folder() if folder is None else folder
        self._host = host_id() if host is None else host
        self._rings: dict[tuple[str, str], MappedRing] = {}
        self._held: dict[str, int] = {}

    def message(self, fields: Fields) -> Message:
        """The message in stream fields; a gap where its pixels are lost: overwritten, or their memory removed.

        A view stays as it is until its entry has been acknowledged. Raises ForeignFrames, or ValueError for what is
        no message.
        """
        if b"pixels:shared" not in fields:
            return decode(fields)
        is_live = fields.get(b"live") == b"true"
        try:
            found = self._slot(fields)
        except (KeyError, IndexError, OverflowError, OSError) as error:
            raise ValueError(f"no pixels can be where it says: {type(error).__name__} {error}") from error
        if found is None:
            return gap(fields, "overwritten before it was read" if is_live else "its pictures are gone from memory")
        slot, nbytes, generation = found
        pixels = slot[HEADER_BYTES : HEADER_BYTES + nbytes]
        if is_live:
            # The writer waits for nobody.
            pixels = pixels.copy()
            fence()
            if int(slot[:8].view(np.uint64)[0]) != generation:
                return gap(fields, "overwritten while it was read")
        return decode({**fields, b"pixels": pixels})  # type: ignore[dict-item]

    def is_intact(self, fields: Fields) -> bool:
        """Whether a message's pixels are still what they were; always, unless a Redis has forgotten what it said."""
        if b"pixels:shared" not in fields or fields.get(b"live") == b"true":
            return True
        fence()
        return self._slot(fields) is not None

    def tidy(self) -> None:
        """Let go of files that were removed, or not read since the last time. To be called every few seconds."""
        for key, ring in list(self._rings.items()):
            if not ring.was_used or not (self._folder / key[0] / key[1]).exists():
                self._rings.pop(key)
            ring.was_used = False
        for namespace in self._held.keys() - {namespace for namespace, _ in self._rings}:
            os.close(self._held.pop(namespace))

    def close(self) -> None:
        """Let go of everything."""
        self.tidy()
        self.tidy()

    def _slot(self, fields: Fields) -> tuple[np.ndarray, int, int] | None:
        """The slot, the bytes of its pixels, and its generation; None if it holds them no more."""
        match = REFERENCE.match(fields[b"pixels:shared"].decode())
        if match is None:
            raise ValueError("pixels:shared is not a reference to shared memory")
        host, namespace, name, offset, generation = match.groups()
        if host != self._host:
            raise ForeignFrames(
                "its pictures are in the shared memory of the decoder's host: run this stage there, or set "
                "frames.transport: inline for the decode worker"
            )
        _, _, shape = fields[b"pixels:array"].decode().partition(" ")
        sizes = [int(n) for n in shape.split(",")]
        if min(sizes) < 0:
            raise ValueError("pixels:array has a size below 0")
        nbytes = math.prod(sizes)
        slot = self._view(namespace, name, int(offset), HEADER_BYTES + nbytes)
        if slot is None or int(generation) % 2 or int(slot[:8].view(np.uint64)[0]) != int(generation):
            return None
        fence()
        return slot, nbytes, int(generation)

    def _view(self, namespace: str, name: str, offset: int, nbytes: int) -> np.ndarray | None:
        ring = self._rings.get((namespace, name))
        if ring is None:
            try:
                if namespace not in self._held:
                    self._held[namespace] = use(self._folder / namespace)
                fd = os.open(self._folder / namespace / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except (FileNotFoundError, PermissionError):
                return None
            try:
                ring = MappedRing(np.frombuffer(mmap.mmap(fd, 0, prot=mmap.PROT_READ), np.uint8))
            finally:
                os.close(fd)
            self._rings[namespace, name] = ring
        ring.was_used = True
        slot = ring.memory[offset : offset + nbytes]
        return slot if len(slot) == nbytes and offset % mmap.PAGESIZE == 0 else None


def gap(fields: Fields, detail: str) -> Message:
    """In place of a snippet whose pixels are lost: a camera was too fast, or an archive lost its memory."""
    cause = b"behind" if fields.get(b"live") == b"true" else b"failed"
    return decode({**fields, b"kind": b"gap", b"cause": cause, b"detail": detail.encode()})
