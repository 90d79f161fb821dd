"""A result file is whole or absent: written beside its place, then renamed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from stages.errors import OddwatchError


def write_whole(path: Path, content: bytes) -> None:
    """Write `<name>.part`, then rename it. Raises OddwatchError naming the path when it cannot be written."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


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
