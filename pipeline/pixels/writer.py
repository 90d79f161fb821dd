"""The pictures of one decoder in shared memory. The stream carries a reference; what finds them is in `reader`."""

from __future__ import annotations

import fcntl
import logging
import math
import mmap
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.pixels.memory import use
from stages.messages import Snippet

log = logging.getLogger(__name__)

Id = tuple[int, int]
HEADER_BYTES = 64
"""Of a slot: its generation, odd while it is written; the pixels follow."""
AGAIN_S = 5.0
"""How soon memory that could not be had is asked for again."""
IDLE_S = 30.0
"""After so long without use a slot's memory is given back."""
_fence = threading.Lock()


def fence() -> None:
    """Nothing before it is seen by other processors after what follows it."""
    with _fence:
        pass


@dataclass(slots=True, eq=False)
class Slot:
    """Room for one snippet."""

    offset: int
    memory: np.ndarray
    """uint8: its header and its pixels."""
    generation: np.ndarray
    """uint64 (1,): in its header."""
    holds: Id | None = None
    """The entry whose pixels it holds, for as long as that is in the stream."""
    used_s: float = 0.0
    """When it was written to last."""
    is_reserved: bool = False
    """Pixels are being put into it, of no entry yet."""

    def pixels(self, shape: tuple[int, ...]) -> np.ndarray:
        """Where pixels of this shape belong."""
        return self.memory[HEADER_BYTES : HEADER_BYTES + math.prod(shape)].reshape(shape)


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays of one shape are the same memory."""
    return one.ctypes.data == other.ctypes.data and one.strides == other.strides


class Ring:
    """One file with room for slots of one size, which take memory when they are first used, the lowest free one first.

    The file is as long as all of them from the beginning, so that it is mapped once.
    """

    def __init__(self, path: Path, slot_bytes: int, capacity: int) -> None:
        """Raises OSError; no file is left then."""
        self.path = path
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._capacity = capacity
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            if self.is_gone:
                raise FileNotFoundError(f"{path} was removed while it was made")
            os.ftruncate(self._fd, capacity * self.slot_bytes)
            self._map = mmap.mmap(self._fd, 0)
        except OSError:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            raise
        self._memory = np.frombuffer(self._map, np.uint8)
        self._slots: list[Slot] = []
        self._generation = 0

    def release(self, needed: Id | None) -> None:
        """Free the slots of entries before `needed`; None: all."""
        for slot in self._slots:
            if slot.holds is not None and (needed is None or slot.holds < needed):
                slot.holds = None

    def slot(self, limit: int, overwrite: bool) -> Slot | None:
        """A slot to write to: a free one, a new one up to `limit`, else the oldest if `overwrite`.

        Raises OSError when there is no memory for a new one; never a signal later.
        """
        for slot in self._slots:
            if slot.holds is None and not slot.is_reserved:
                return slot
        if len(self._slots) < min(limit, self._capacity):
            return self._grow()
        return min(self._slots, key=lambda s: s.holds or (0, 0)) if overwrite and self._slots else None

    def _grow(self) -> Slot:
        offset = len(self._slots) * self.slot_bytes
        os.posix_fallocate(self._fd, offset, self.slot_bytes)
        memory = self._memory[offset : offset + self.slot_bytes]
        slot = Slot(offset, memory, memory[:8].view(np.uint64))
        self._slots.append(slot)
        return slot

    def write(self, slot: Slot, pixels: np.ndarray, holds: Id, now_s: float) -> int:
        """Put pixels into a slot; returns the generation that they can be told by, which no others will ever have."""
        self._generation += 2
        slot.generation[0] = self._generation - 1
        fence()
        place = slot.pixels(pixels.shape)
        if not (slot.is_reserved and _is_same(place, pixels)):
            np.copyto(place, pixels)
        fence()
        slot.generation[0] = self._generation
        slot.holds, slot.used_s, slot.is_reserved = holds, now_s, False
        return self._generation

    def reserve(self, slot: Slot) -> None:
        """Keep a slot for pixels that are on their way; nobody reads it any more."""
        slot.is_reserved = True
        slot.generation[0] |= np.uint64(1)
        fence()

    def shrink(self, now_s: float) -> None:
        """Give the last slot's memory back if it has not been needed for a while: a burst is over."""
        if not self._slots or self._slots[-1].is_reserved:
            return
        if self._slots[-1].holds is None and now_s - self._slots[-1].used_s > IDLE_S:
            with suppress(OSError):  # a file system that cannot
                self._map.madvise(mmap.MADV_REMOVE, self._slots[-1].offset, self.slot_bytes)
                self._slots.pop()

    @property
    def is_gone(self) -> bool:
        """Whether somebody has removed the file."""
        return not os.fstat(self._fd).st_nlink

    def close(self) -> None:
        """Let go of the file; it stays for its readers, until it is swept away."""
        os.close(self._fd)


class FrameWriter:
    """Puts snippets of one camera into shared memory while that is allowed and there is room."""

    def __init__(
        self, folder: Path, host: str, camera: str, allowed: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`folder`: of the namespace; `allowed`: whether all readers are on this host, as far as is known."""
        self._folder = folder
        self._host = host
        self._camera = camera
        self._allowed = allowed
        self._clock = clock
        self._ring: Ring | None = None
        self._reserved: Slot | None = None
        self._limit = 0
        self._held: int | None = None
        self._full_until_s = float("-inf")
        self._warned = False

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray:
        """Memory for the pixels of the next snippet, uint8 of this shape: where `write` leaves them, if one is free.

        For an archive, whose snippets are made and written one after the other: what was given last and not written
        is given again.
        """
        ring, nbytes = self._ring, HEADER_BYTES + math.prod(shape)
        if ring is None or ring.slot_bytes < nbytes or ring.is_gone or not self._allowed():
            return np.empty(shape, np.uint8)
        if self._reserved is None:
            is_full = self._clock() < self._full_until_s
            with suppress(OSError):  # `write` will say it
                self._reserved = ring.slot(0 if is_full else self._limit + 1, overwrite=False)
        if self._reserved is None:
            return np.empty(shape, np.uint8)
        ring.reserve(self._reserved)
        return self._reserved.pixels(shape)

    def write(self, snippet: Snippet, limit: int) -> str | None:
        """Where the pixels lie now; None: they must travel with the message.

        `limit` is how many entries the stream may hold. A camera's oldest snippet is overwritten if there are so many.
        """
        if not self._allowed() or not snippet.pixels.size:
            return None
        self._limit = limit
        try:
            slot = self._slot(snippet, limit)
        except OSError as error:
            self._warn(error)
            self._full_until_s = self._clock() + AGAIN_S
            return None
        if slot is None or self._ring is None:
            return None
        generation = self._ring.write(slot, snippet.pixels, (snippet.run_ms, snippet.seq), self._clock())
        if slot is self._reserved:
            self._reserved = None
        return f"{self._host} {self._folder.name}/{self._ring.path.name} {slot.offset} {generation}"

    def release(self, needed: Id | None, is_empty: bool = False) -> None:
        """Free what lies before the first entry that a reader may still need; all of it if the stream `is_empty`."""
        if self._ring is not None and (is_empty or needed is not None):
            self._ring.release(None if is_empty else needed)
            self._ring.shrink(self._clock())

    def _slot(self, snippet: Snippet, limit: int) -> Slot | None:
        nbytes = HEADER_BYTES + snippet.pixels.nbytes
        if self._ring is not None and (self._ring.slot_bytes < nbytes or self._ring.is_gone):
            self._ring.close()
            self._ring = self._reserved = None
        if self._reserved is not None and _is_same(self._reserved.pixels(snippet.pixels.shape), snippet.pixels):
            return self._reserved
        is_full = self._clock() < self._full_until_s
        if self._ring is None:
            if is_full:
                return None
            if self._held is None or not os.fstat(self._held).st_nlink:
                self._held = use(self._folder)
            path = self._folder / f"{self._camera}.{uuid.uuid4().hex[:12]}.ring"
            self._ring = Ring(path, nbytes, limit if snippet.live else limit + 1)
        return self._ring.slot(0 if is_full else limit, snippet.live and not is_full)

    def _warn(self, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        root = self._folder.parents[1]
        try:
            room = os.statvfs(root)
            size = f"{room.f_frsize * room.f_blocks / 2**20:.0f} MiB, {room.f_frsize * room.f_bavail / 2**20:.0f} free"
        except OSError:
            size = "missing"
        log.warning(
            "%s: no room for its pictures in %s (%s; %s): they go through Redis, which is slower; give it more room "
            "(docker run --shm-size=1g, shm_size: 1gb in compose), or set frames.transport: inline",
            self._camera, root, size, error.strerror or error,
        )  # fmt: skip
