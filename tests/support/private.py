"""What a run of the tests has to itself on a machine that runs others: temporary files, shared memory, a cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

CACHE = "ODDWATCH_TESTS_CACHE"
"""Names the folder of what is made once for all workers of one run."""


class Private:
    """Folders of one process of the tests; its commands inherit them. They are gone when it ends."""

    def __init__(self) -> None:
        # Short: there will be sockets in it.
        self._folders = [Path(tempfile.mkdtemp(prefix="ow-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))]
        if os.access("/dev/shm", os.W_OK):
            self._folders.append(Path(tempfile.mkdtemp(prefix="ow-", dir="/dev/shm")))
        changed = ("TMPDIR", "ODDWATCH_SHM", "PYTEST_DEBUG_TEMPROOT", CACHE)
        self._before = {name: os.environ.get(name) for name in changed}
        # What a failed test leaves for a person to look at stays where pytest puts it.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        # Embedded servers are found in $TMPDIR, rings of frames in $ODDWATCH_SHM: each process sees its own only.
        os.environ["TMPDIR"] = tempfile.tempdir = str(self._folders[0])
        os.environ["ODDWATCH_SHM"] = str(self._folders[-1])
        # Workers of pytest-xdist inherit the one of their controller.
        os.environ.setdefault(CACHE, str(self._folders[0] / "cache"))

    def remove(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        tempfile.tempdir = None
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` has filled, once for all workers of this run; the others wait for it."""
    cache = Path(os.environ[CACHE])
    cache.mkdir(exist_ok=True)
    done = cache / name
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            half = Path(tempfile.mkdtemp(dir=cache))
            make(half)
            half.rename(done)
    return done
