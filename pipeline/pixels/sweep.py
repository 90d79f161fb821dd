"""Removes from shared memory what dead processes left there and nobody will read any more."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from pipeline.bus.commit import trim
from pipeline.bus.streams import OUTAGE, Bus
from pipeline.pixels.memory import NAMESPACE, RING, is_ours, own_folder, try_lock

log = logging.getLogger(__name__)

FOREIGN_S = 600.0
"""A namespace of a server that may live elsewhere is kept so long after the last sign of its processes."""
ENTRIES = 8
"""Of a stream, looked at together."""
CLOCK_STEP_S = 60.0
"""Files and processes are dated by clocks that may have been set in between."""


@contextmanager
def swept(bus: Bus, server_ends: bool) -> Iterator[Sweeper]:
    """Sweeps before and after a command's work; `server_ends`: its Redis goes with it."""
    sweeper = Sweeper(bus)
    sweeper.sweep()
    try:
        yield sweeper
    finally:
        with suppress(redis.RedisError, *OUTAGE):
            sweeper.sweep()
            sweeper.sweep()
            sweeper.leave(server_ends)


class Sweeper:
    """Sweeps the namespace of one Redis, and those that no Redis can need any more."""

    def __init__(self, bus: Bus, folder: Path | None = None) -> None:
        self._bus = bus
        self._folder = own_folder() if folder is None else folder
        self._unneeded: set[str] = set()
        """Rings that were not needed at the last look either."""

    def sweep(self) -> None:
        """Remove the rings of dead writers that no entry refers to any more; to be repeated every few seconds.

        One look is not enough: what a writer sent right before it died may come after it. Raises OUTAGE errors; what
        Redis refuses is left for another time.
        """
        if not is_ours(self._folder):
            return
        try:
            self._sweep()
        except (redis.ResponseError, FileNotFoundError) as error:  # another sweeper may be faster
            log.debug("shared memory not swept: %s", error)

    def _sweep(self) -> None:
        own = self._own()
        unneeded = set()
        for ring in sorted(own.glob("*.ring")) if own else ():
            fd = try_lock(ring)
            if fd is None:
                continue
            if self._is_needed(ring):
                pass
            elif ring.name in self._unneeded:
                ring.unlink(missing_ok=True)
            else:
                unneeded.add(ring.name)
            os.close(fd)
        self._unneeded = unneeded
        if own:
            with suppress(OSError):
                os.utime(own)  # for those who do not know this Redis
        for folder in self._folder.iterdir():
            if folder != own and NAMESPACE.match(folder.name):
                _remove_unused(folder, only_if_dead=True)
        _remove_empty(self._folder)

    def _own(self) -> Path | None:
        """The folder of this Redis, if it ever had one."""
        if not is_ours(self._folder):
            return None
        name = (self._bus.client.get(self._bus.keys.frames) or b"").decode()
        return self._folder / name if NAMESPACE.match(name) else None

    def forget(self, camera: str) -> None:
        """Remove the rings of a camera that is no longer in Redis, unless they are still being written to."""
        own = self._own()
        for ring in own.glob(f"{camera}.*.ring") if own else ():
            match = RING.match(ring.name)
            if match and match[1] == camera and (fd := try_lock(ring)) is not None:
                ring.unlink(missing_ok=True)
                os.close(fd)

    def leave(self, server_ends: bool = False) -> None:
        """At the end of a process: remove the namespace if it is empty and nobody else uses it.

        Also if it is not empty, when its Redis `server_ends` now.
        """
        own = self._own()
        if own and own.is_dir() and (server_ends or not any(own.iterdir())):
            _remove_unused(own)
        _remove_empty(self._folder)

    def _is_needed(self, ring: Path) -> bool:
        match = RING.match(ring.name)
        if match is None:
            return False
        stream = self._bus.keys.stream(match[1], "snippets")
        try:
            trim(self._bus.raw, stream)
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return False
            raise
        name = f"/{ring.name} ".encode()
        return any(name in fields.get(b"pixels:shared", b"") for fields in self._entries(stream))

    def _entries(self, stream: str) -> Iterator[dict[bytes, bytes]]:
        """A few at a time, the oldest first: those after a dead writer's may hold their pixels themselves."""
        after = "-"
        while found := self._bus.client.xrange(stream, min=after, count=ENTRIES):
            yield from (fields for _, fields in found)
            after = f"({found[-1][0].decode()}"


def _remove_unused(folder: Path, only_if_dead: bool = False) -> None:
    fd = try_lock(folder)
    if fd is None:
        return
    try:
        if only_if_dead and any(folder.iterdir()) and not _is_dead(folder):
            return
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
        folder.rmdir()
    except OSError as error:
        log.debug("%s stays: %s", folder, error)
    finally:
        os.close(fd)


def _is_dead(folder: Path) -> bool:
    """Whether the Redis that it belongs to is gone, as far as can be told from here."""
    owner, used_s = int(folder.name.partition("-")[0]), folder.stat().st_mtime
    if owner:
        # Also when another process has the number now.
        began_s = _began_s(owner) if Path("/proc/self").exists() else used_s
        return began_s is None or began_s > used_s + CLOCK_STEP_S
    return time.time() - used_s > FOREIGN_S


def _began_s(pid: int) -> float | None:
    """When a process began, unix seconds; None if there is none."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None
    since_boot_s = int(ticks) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
