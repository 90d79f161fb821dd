"""What a person sees while files are scored: how far it has come, what was finished, and alerts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from pipeline.archive.job import FileToScore
from pipeline.archive.records import FileResult
from pipeline.cli.progress import ProgressBar, size_of
from stages.alerting.alert import Alert, alert_line
from stages.text import counted


class ScoreProgress:
    """A `Listener` that shows files, frames and alerts on stderr. Progress counts bytes, so that ETA needs no look
    into files that wait."""

    def __init__(
        self, files: Sequence[FileToScore], *, quiet: bool = False, on_alert: Callable[[dict], None] | None = None
    ) -> None:
        self._sizes = {f.spec.camera: size_of(f.spec.source) for f in files}
        self._frames: dict[str, int] = {}
        self._expected: dict[str, int] = {}
        self._done_bytes = 0
        self._files_done, self._files = 0, len(files)
        self._on_alert = on_alert
        self._begun_s = time.monotonic()
        self._scored = 0
        self._bar = ProgressBar("scoring", sum(self._sizes.values()), quiet=quiet)

    def __enter__(self) -> ScoreProgress:
        self._bar.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.__exit__(kind, error, at)

    def started(self, file: FileToScore) -> None:
        self._frames[file.spec.camera] = 0

    def scored(self, file: FileToScore, next_frame: int, promised: int) -> None:
        self._expected[file.spec.camera] = promised
        self._scored += next_frame - self._frames[file.spec.camera]
        self._frames[file.spec.camera] = next_frame
        self._show()

    def alert(self, file: FileToScore, alert: Alert) -> None:
        values = json.loads(alert.to_json())
        if self._on_alert is not None:
            self._on_alert(values)
        elif alert.phase == "close":
            self._bar.say(f"{file.shown}: {alert_line(values)}")

    def finished(self, file: FileToScore, result: FileResult, resumed: bool) -> None:
        self._frames.pop(file.spec.camera, None)
        self._done_bytes += self._sizes[file.spec.camera]
        self._files_done += 1
        if result.failed:
            self._bar.say(f"{result.file}: {result.status}")
        elif not self._bar.is_bar:
            how = "done before" if resumed else f"{result.scored} of {counted(result.decoded, 'frame')} scored"
            self._bar.say(f"[{self._files_done}/{self._files}] {result.file}: {how}")
        self._show()

    def _show(self) -> None:
        active = sum(
            self._sizes[c] * min(0.99, n / self._expected[c]) for c, n in self._frames.items() if self._expected.get(c)
        )
        rate = self._scored / max(1e-3, time.monotonic() - self._begun_s)
        files = f"{self._files_done} of {counted(self._files, 'file')}"
        self._bar.show(self._done_bytes + active, f"{files}, {rate:.0f} frames/s")
