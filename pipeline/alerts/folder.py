"""Where alerts go besides the stream: JSON lines and pictures in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pipeline.bus.streams import Bus
from stages.files.atomic import cannot_write, write_whole

GROUP = "jsonl"
TAIL_BYTES = 65536
"""More than a line."""


class JsonLines:
    """Appends every alert message to `<folder>/alerts.jsonl` once, and its picture to `<folder>/snapshots/`.

    Reads through a consumer group, so what came while nobody listened is written later. An alert whose line was
    written but not acknowledged (a crash between the two) is recognised by the stream id kept in the line.
    """

    def __init__(self, bus: Bus, folder: Path) -> None:
        """Raises OddwatchError when the folder cannot be written."""
        self._bus = bus
        self._folder = folder
        self._path = folder / "alerts.jsonl"
        bus.ensure_groups(bus.keys.alerts, [GROUP])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(self._path)
            self._file = self._path.open("a", encoding="utf-8")
            self._last = _last_entry(self._path)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def turn(self) -> list[dict]:
        """Write what is new; returns it. Raises OddwatchError when the disk is full (nothing is lost then)."""
        keys = self._bus.keys
        written: list[dict] = []
        for start in ("0", ">"):
            reply = self._bus.client.xreadgroup(GROUP, GROUP, {keys.alerts: start}, count=100)
            for entry_id, fields in reply[0][1] if reply else []:
                if fields and entry_id.decode() not in self._last:
                    written.append(self._write(entry_id.decode(), json.loads(fields[b"alert"])))
                self._bus.client.xack(keys.alerts, GROUP, entry_id)
        return written

    def _write(self, entry_id: str, alert: dict[str, Any]) -> dict:
        picture = self._bus.client.get(alert["snapshot"]) if alert["snapshot"] else None
        if picture is not None:
            alert["snapshot"] = f"snapshots/{alert['id']}.jpg"
            write_whole(self._folder / alert["snapshot"], picture)
        try:
            self._file.write(json.dumps(alert | {"entry": entry_id}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._last = {entry_id}
        return alert

    def close(self) -> None:
        self._file.close()


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
