"""The folder in shared memory that the processes of one Redis share on a host, and who still uses it.

`/dev/shm/oddwatch-<uid>/<namespace>/<camera>.<nonce>.ring`, where the namespace is a name kept in Redis. A process
that uses a namespace holds a shared lock on its folder, a writer an exclusive one on its file: the kernel frees both
when the process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import uuid
from pathlib import Path
from typing import Any

from pipeline.bus.embedded import owner_of
from pipeline.bus.keys import Keys

NAMESPACE = re.compile(r"\d+-[0-9a-f]{12}\Z")
RING = re.compile(r"([A-Za-z0-9_.-]{1,64})\.[0-9a-f]{12}\.ring\Z")


def shm_root() -> Path:
    """Where shared memory is mounted: $ODDWATCH_SHM, else /dev/shm."""
    return Path(os.environ.get("ODDWATCH_SHM") or "/dev/shm")


def own_folder() -> Path:
    """This user's folder, whether or not it exists."""
    return shm_root() / f"oddwatch-{os.getuid()}"


def host_id() -> str:
    """Equal for processes that see the same files in shared memory; empty where there is none.

    Two containers of one machine differ, unless they share their `/dev/shm`.
    """
    root = shm_root()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        device = root.stat().st_dev
    except OSError:
        return ""
    return f"{boot[:8]}-{device:x}-{os.getuid()}" if os.access(root, os.W_OK) else ""


def namespace_of(client: Any, keys: Keys, url: str) -> str:
    """The namespace of a Redis and prefix, named on first use.

    It begins with the process that owns the server if that is an embedded one, else with 0.
    """
    name = f"{owner_of(url)}-{uuid.uuid4().hex[:12]}"
    # Not SET alone: a full Redis refuses it even where it would change nothing.
    known = client.get(keys.frames) or client.set(keys.frames, name, nx=True, get=True)
    return known.decode() if known is not None and NAMESPACE.match(known.decode()) else name


def is_ours(folder: Path) -> bool:
    """Whether a folder is there and this user's alone: anybody may write to `/dev/shm`."""
    try:
        return _is_private(folder.lstat())
    except FileNotFoundError:
        return False


def _is_private(about: os.stat_result) -> bool:
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077


def use(folder: Path) -> int:
    """Hold a namespace's folder, making it where it is missing; held until the returned descriptor is closed.

    Raises OSError, also when the folder above is not ours alone.
    """
    while True:
        try:
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            if not _is_private(folder.parent.lstat()):
                raise PermissionError(f"{folder.parent} does not belong to this user alone")
            folder.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            if not folder.parents[1].is_dir():
                raise
            continue  # swept away just now
        fcntl.flock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)


def try_lock(path: Path) -> int | None:
    """A descriptor that holds a file or folder exclusively; None if somebody uses it or it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd
