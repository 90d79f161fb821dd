"""What a person sees while files are scored: a bar with ETA at a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipeline.archive.records import FileResult
from pipeline.archive.run import Plan
from pipeline.cli.follow import alert_line
from stages.alerting.alert import Alert
from stages.text import counted

PLAIN_EVERY_S = 10.0


class Progress:
    """A `Watcher` that shows files, frames and alerts on stderr. Progress counts bytes, so that ETA needs no look
    into files that wait."""

    def __init__(
        self, plans: Sequence[Plan], *, quiet: bool = False, on_alert: Callable[[dict], None] | None = None
    ) -> None:
        self._sizes = {p.spec.camera: _size(p.spec.source) for p in plans}
        self._frames: dict[str, int] = {}
        self._expected: dict[str, int] = {}
        self._done_bytes = 0
        self._files = (0, len(plans))
        self._quiet = quiet
        self._on_alert = on_alert
        self._console = Console(stderr=True, highlight=False)
        self._next_plain_s = time.monotonic() + PLAIN_EVERY_S
        self._begun_s = time.monotonic()
        self._scored = 0
        self._bar: Bar | None = None
        if sys.stderr.isatty() and not quiet:
            self._bar = Bar(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(),
                console=self._console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("starting", total=max(1, sum(self._sizes.values())), rate="")

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    # -- what happens -------------------------------------------------------------------------------------------

    def started(self, plan: Plan) -> None:
        self._frames[plan.spec.camera] = 0

    def scored(self, plan: Plan, next_frame: int, promised: int) -> None:
        self._expected[plan.spec.camera] = promised
        self._scored += next_frame - self._frames[plan.spec.camera]
        self._frames[plan.spec.camera] = next_frame
        self._show()

    def alert(self, plan: Plan, alert: Alert) -> None:
        import json

        values = json.loads(alert.to_json())
        if self._on_alert is not None:
            self._on_alert(values)
        elif alert.phase == "close":
            self._say(f"{plan.shown}: {alert_line(values)}")

    def finished(self, plan: Plan, result: FileResult, resumed: bool) -> None:
        self._frames.pop(plan.spec.camera, None)
        self._done_bytes += self._sizes[plan.spec.camera]
        self._files = (self._files[0] + 1, self._files[1])
        if result.failed:
            self._say(f"{result.file}: {result.status}")
        elif not self._bar:
            how = "done before" if resumed else f"{result.scored} of {counted(result.decoded, 'frame')} scored"
            self._say(f"[{self._files[0]}/{self._files[1]}] {result.file}: {how}")
        self._show()

    # -- how it looks -------------------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, markup=False, soft_wrap=True)

    def _fraction_bytes(self) -> float:
        active = sum(
            self._sizes[c] * min(0.99, n / self._expected[c]) for c, n in self._frames.items() if self._expected.get(c)
        )
        return self._done_bytes + active

    def _show(self) -> None:
        now_s = time.monotonic()
        rate = f"{self._scored / max(1e-3, now_s - self._begun_s):.0f} frames/s"
        if self._bar:
            text = f"file {min(self._files[0] + 1, self._files[1])} of {self._files[1]}"
            self._bar.update(self._task, completed=self._fraction_bytes(), description=text, rate=rate)
        elif now_s >= self._next_plain_s:
            self._next_plain_s = now_s + PLAIN_EVERY_S
            share = self._fraction_bytes() / max(1, sum(self._sizes.values()))
            eta_s = (now_s - self._begun_s) * (1 - share) / share if share > 0.005 else 0
            eta = f", about {eta_s:.0f} s left" if eta_s else ""
            self._say(f"{share:.0%}, {self._files[0]} of {counted(self._files[1], 'file')}, {rate}{eta}")


def _size(source: str) -> int:
    path = Path(source)
    try:
        return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        return 1


@contextmanager
def frame_counter(sources: Sequence[str], doing: str) -> Iterator[Callable[[str, int], None]]:
    """Progress over several files read one after another: call it with (file, frames done)."""
    from stages.decode.containers.probe import frames_promised

    sizes = {s: _size(s) for s in sources}
    expected: dict[str, int] = {}
    frames: dict[str, int] = {}
    begun_s = time.monotonic()
    bar = Bar(
        TextColumn(doing), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[rate]}"),
        TextColumn("ETA"), TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with bar:
        task = bar.add_task(doing, total=max(1, sum(sizes.values())), rate="")

        def count(source: str, done: int) -> None:
            if source not in expected:
                expected[source] = frames_promised(source)
            frames[source] = done
            share = {s: min(1.0, n / expected[s]) if expected[s] else 0.0 for s, n in frames.items()}
            rate = f"{sum(frames.values()) / max(1e-3, time.monotonic() - begun_s):.0f} frames/s"
            bar.update(task, completed=sum(sizes[s] * share[s] for s in share), rate=rate)

        yield count
