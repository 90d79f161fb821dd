"""A result file is whole or absent: written beside its place, then renamed."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from stages.errors import OddwatchError

LONGEST_NAME = 255
"""Bytes of a file's name on most file systems."""


def write_whole(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write `<name>.part`, then rename it. Raises OddwatchError naming the path when it cannot be written.

    `private`: nobody but this user may read it, nor look into its folder if that is made now.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)
        if private:
            part.unlink(missing_ok=True)
        with open(part, "wb", opener=opened_private if private else None) as file:
            file.write(content)
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def opened_private(path: str, flags: int) -> int:
    """An `opener` of `open`: a file that it makes is for this user alone."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def part_of(path: Path) -> Path:
    """Where a file is written before it has its name, beside it; the same for the same path."""
    part = path.with_name(path.name + ".part")
    if len(os.fsencode(part.name)) <= longest_name(path.parent):
        return part
    return path.with_name(hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16] + ".part")


def longest_name(folder: Path) -> int:
    """Bytes that the name of a file in it may have; it need not be there yet."""
    for place in (folder, *folder.absolute().parents):
        with suppress(OSError):
            return os.pathconf(place, "PC_NAME_MAX")
    return LONGEST_NAME


def check_writable(folder: Path, inner: str = "") -> None:
    """Find out now, not after long work, that a folder, and `inner` within it, cannot be written.

    Raises OddwatchError, which names `folder` as the user gave it, and what lies in the way.
    """
    place = folder / inner
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        obstacles = [
            path for path in (*reversed(place.parents), place) if os.path.exists(path) and not os.path.isdir(path)
        ]
        if not obstacles:
            raise cannot_write(folder, error) from error
        what = "is a file, not a folder" if obstacles[0] == folder else f"the file {obstacles[0]} is in the way"
        raise OddwatchError(f"{folder}: {what}; move it away or choose another --out") from error


def cannot_write(path: Path, error: OSError) -> OddwatchError:
    """The one line for a full disk or a folder without permission."""
    return OddwatchError(f"{path}: cannot be written ({error.strerror}); free space or choose another --out")
