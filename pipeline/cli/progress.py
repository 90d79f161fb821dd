"""How far long work has come, on stderr: a bar with ETA at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stages.text import printable

PLAIN_EVERY_S = 10.0


class ProgressBar:
    """One piece of work of known size. `quiet`: shows nothing. `tell_end`: the last plain line is always shown."""

    def __init__(self, doing: str, total: float, *, quiet: bool = False, tell_end: bool = False) -> None:
        self._doing = doing
        self._total = max(1, total)
        self._quiet = quiet
        self._tell_end = tell_end
        self.is_bar = sys.stderr.isatty() and not quiet
        """Whether there is a bar; else there are plain lines, if any."""
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[text]}"), TextColumn("ETA"), TimeRemainingColumn(),
            console=self._console, transient=True, disable=not self.is_bar,
        )  # fmt: skip
        self._task = self._bar.add_task(doing, total=self._total, text="")
        self._next_plain_s = time.monotonic() + PLAIN_EVERY_S
        self._begun_s = time.monotonic()
        self._begun_at: float | None = None

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, done: float, text: str) -> None:
        """So much of the total is done; `text` says it in the work's own words."""
        if self._begun_at is None:  # what is resumed does not begin at nothing
            self._begun_s, self._begun_at = time.monotonic(), done
        self._bar.update(self._task, completed=done, text=text)
        now_s = time.monotonic()
        if not self.is_bar and (now_s >= self._next_plain_s or (self._tell_end and done >= self._total)):
            self._next_plain_s = now_s + PLAIN_EVERY_S
            self.say(f"{self._doing}: {text} ({done / self._total:.0%}{self._left(done, now_s)})")

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if not self._quiet:
            self._console.print(printable(line), markup=False, soft_wrap=True)

    def _left(self, done: float, now_s: float) -> str:
        since = done - (self._begun_at or 0)
        rest_s = (now_s - self._begun_s) * (self._total - done) / since if since > 0 else 0
        return f", about {rest_s:.0f} s left" if rest_s >= 1 else ""


def size_of(source: str) -> int:
    """Bytes of a file, or of a folder's files: how much of the work it is."""
    path = Path(source)
    try:
        return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        return 1


@contextmanager
def frame_counter(sources: Sequence[str], doing: str) -> Iterator[Callable[[str, int], None]]:
    """Progress over several files read one after another: call it with (file, frames done)."""
    from stages.decode.containers.probe import frames_promised

    sizes = {s: size_of(s) for s in sources}
    promised: dict[str, int] = {}
    frames: dict[str, int] = {}
    begun_s = time.monotonic()
    with ProgressBar(doing, sum(sizes.values())) as bar:

        def count(source: str, done: int) -> None:
            if source not in promised:
                promised[source] = frames_promised(source)
            frames[source] = done
            share = {s: min(1.0, n / promised[s]) if promised[s] else 0.0 for s, n in frames.items()}
            rate = sum(frames.values()) / max(1e-3, time.monotonic() - begun_s)
            bar.show(sum(sizes[s] * share[s] for s in share), f"{rate:.0f} frames/s")

        yield count
