"""Tells the configured sinks of the alerts of finished files: each sink once of each file, in whichever run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from pipeline.alerts.sink import Sink
from pipeline.archive.records import FileResult, write_record
from stages.errors import OddwatchError


class Teller:
    """Delivers a file's alerts, then notes in its record which sinks know of them: a kill in between tells it again."""

    def __init__(self, out: Path, sinks: Mapping[str, Sink]) -> None:
        self._out, self._sinks = out, sinks
        self.problems: dict[str, str] = {}
        """Sinks that failed, and why; they are left alone from then on, and are told by the next run."""

    def tell(self, result: FileResult) -> FileResult:
        """The result, with the sinks that have been told. Raises OddwatchError when --out cannot be written."""
        for name, sink in self._sinks.items():
            if name in result.told or name in self.problems:
                continue
            try:
                for alert in result.alerts:
                    sink.deliver(dict(alert), self._picture(alert["snapshot"]))
            except OddwatchError as error:
                self.problems[name] = str(error)
                continue
            result = result.model_copy(update={"told": [*result.told, name]})
            write_record(self._out, result)
        return result

    def close(self) -> None:
        for sink in self._sinks.values():
            with contextlib.suppress(OddwatchError):
                sink.close()

    def _picture(self, snapshot: str | None) -> bytes | None:
        path = self._out / snapshot if snapshot else None
        return path.read_bytes() if path is not None and path.exists() else None
