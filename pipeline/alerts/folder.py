"""A sink that is a folder: alerts as JSON lines, and their pictures."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.alerts.sink import SinkKind
from stages.alerting.alert import ALERT_ID
from stages.errors import OddwatchError
from stages.files.atomic import cannot_write, opened_private, write_whole

TAIL_BYTES = 65536
"""More than a line."""


class FolderOptions(BaseModel):
    """What a configuration says of a sink of kind `folder`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    folder: Path


class FolderSink:
    """Appends every alert message to `<folder>/alerts.jsonl` once, and its picture to `<folder>/snapshots/`; what it
    makes is for this user alone.

    An alert whose line was written but not acknowledged (a crash between the two) is recognised by the stream id kept
    in the line.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OddwatchError when the folder cannot be written."""
        self._folder = folder
        self._path = folder / "alerts.jsonl"
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
            _cut_torn_line(self._path)
            fd = opened_private(str(self._path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            self._file = os.fdopen(fd, "a", encoding="utf-8")
            self._last = _last_entry(self._path)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def deliver(self, alert: dict[str, Any], picture: bytes | None) -> None:
        """Raises OddwatchError when the disk is full."""
        if alert.get("entry") in self._last:
            return
        if not ALERT_ID.match(str(alert["id"])):
            raise OddwatchError(f"{self._path}: an alert's id is {str(alert['id'])[:40]!r}, which cannot name a file")
        if picture is not None:
            alert["snapshot"] = f"snapshots/{alert['id']}.jpg"
            write_whole(self._folder / alert["snapshot"], picture, private=True)
        try:
            self._file.write(json.dumps(alert) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._last = {alert["entry"]} if "entry" in alert else set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def _open(options: FolderOptions) -> FolderSink:
    return FolderSink(options.folder)


FOLDER = SinkKind(name="folder", options=FolderOptions, open=_open)


def _cut_torn_line(path: Path) -> None:
    """Drop a last line that a crash or a full disk left unfinished; its alert is still in Redis."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - TAIL_BYTES))
        tail = file.read()
        whole = tail.rfind(b"\n") + 1
        if whole or len(tail) == end:
            file.truncate(end - len(tail) + whole)


def _last_entry(path: Path) -> set[str]:
    """The stream id in the file's last line."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        lines = file.read().splitlines()
    try:
        return {json.loads(lines[-1])["entry"]} if lines else set()
    except (ValueError, KeyError):
        return set()
