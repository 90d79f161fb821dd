"""A result file is whole or absent: written beside its place, then renamed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pipeline.errors import OddwatchError


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


def check_writable(folder: Path) -> None:
    """Find out now, not after long work, that a folder cannot be written. Raises OddwatchError."""
    probe = folder / ".probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: OSError) -> OddwatchError:
    """The one line for a full disk or a folder without permission."""
    return OddwatchError(f"{path}: cannot be written ({error.strerror}); free space or choose another --out")
