"""One file while it is scored: what has come of it so far, written down. Asks Redis nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pipeline.archive.records import FileResult, file_sha256
from pipeline.bus.codec import EntryId
from pipeline.cameras.spec import CameraSpec
from stages.alerting.alert import Alert
from stages.files.scores_csv import ScoresCsv
from stages.messages import End, Fused, Gap


@dataclass(frozen=True, slots=True)
class FileToScore:
    """Its registry entry (with run_ms 0), what the user called it, and its CSV's name."""

    spec: CameraSpec
    shown: str
    csv: str


class Listener(Protocol):
    """Told what happens, for a person to see."""

    def started(self, file: FileToScore) -> None: ...
    def scored(self, file: FileToScore, next_frame: int, promised: int) -> None: ...
    def alert(self, file: FileToScore, alert: Alert) -> None: ...
    def finished(self, file: FileToScore, result: FileResult, resumed: bool) -> None: ...


@dataclass(slots=True, eq=False)
class Job:
    """A file being scored."""

    file: FileToScore
    spec: CameraSpec
    """With the run that scores it."""
    csv: ScoresCsv
    stream: str
    """Where its scores come from."""
    started_s: float
    counts: dict[str, int] = field(default_factory=dict)
    """Frames: `scored`, `provisional`, and `gap:<cause>`."""
    gap_spans: list[tuple[float, float, str]] = field(default_factory=list)
    warmup_until_s: float = 0.0
    last_s: float = 0.0
    """When its last frame is shown, in the footage."""
    step_s: float = 0.0
    """From frame to frame."""
    promised: int = 0
    """Frames the file says it has, 0 if it does not say; for progress only."""
    last_alert: str = "-"
    taken: EntryId = (0, 0)
    """The last entry of `stream` that was written down."""

    def write(self, message: Fused | Gap) -> None:
        """Append its frames to the CSV, and count them. Raises OddwatchError when --out cannot be written."""
        if isinstance(message, Gap):
            self._write_gap(message)
            return
        self.csv.append(message.first_frame, message.times_s, message.score, message.raw)
        scored = int((message.score == message.score).sum())
        self._count("scored", scored)
        self._count("gap:failed", len(message.times_s) - scored)
        self._advance(message)
        if message.provisional:
            self._count("provisional", scored)
            self.warmup_until_s = self.last_s + self.step_s

    def _write_gap(self, message: Gap) -> None:
        self.csv.append(message.first_frame, message.times_s)
        self._count(f"gap:{message.cause}", len(message.times_s))
        if len(message.times_s):
            self.gap_spans.append((float(message.times_s[0]), float(message.times_s[-1]), message.cause))
        self._advance(message)

    def _count(self, name: str, frames: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + frames

    def _advance(self, message: Fused | Gap) -> None:
        times = message.times_s
        if len(times):
            if message.next_frame > 1:
                self.step_s = float(times[-1] - (times[-2] if len(times) > 1 else self.last_s))
            self.last_s = float(times[-1])

    def finish(self, end: End, alerts: list[dict], now_s: float) -> FileResult:
        """Give the CSV its name, or take it away if the file could not even be opened."""
        opened = not end.status.startswith("error") or end.first_frame > 0
        gaps = {k.removeprefix("gap:"): n for k, n in sorted(self.counts.items()) if k.startswith("gap:") and n}
        scored, status = self.counts.get("scored", 0), end.status
        if end.first_frame != scored + sum(gaps.values()):
            status = f"error: {end.first_frame} frames decoded, but {self.csv.next_frame} came; score it again"
        self.csv.close() if opened else self.csv.abort()
        return FileResult(
            file=self.file.shown, camera=self.spec.camera, config_hash=self.spec.config_hash,
            csv=self.file.csv if opened else None, models=list(self.spec.models), decoded=end.first_frame,
            scored=scored, provisional=self.counts.get("provisional", 0), gaps=gaps,
            seconds=self.last_s + self.step_s if end.first_frame else 0.0, took_s=now_s - self.started_s,
            warmup_until_s=self.warmup_until_s, gap_spans=self.gap_spans, alerts=alerts, status=status,
            csv_sha256=file_sha256(self.csv.path) if opened else "",
        )  # fmt: skip
