"""Progress of a training: a bar with ETA at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from stages.text import counted

PLAIN_EVERY_S = 10.0


@contextmanager
def files(names: list[str]) -> Iterator[Callable[[int], None]]:
    """Progress of feature extraction in files: so many done."""
    with bar("features", len(names)) as show:
        yield lambda done: show(done, f"{done} of {counted(len(names), 'file')}")


@contextmanager
def steps(iterations: int) -> Iterator[Callable[[int, float, float | None], None]]:
    """Progress of training."""
    with bar("training", iterations) as show:
        validated = ""

        def report(iteration: int, loss: float, roc_auc: float | None) -> None:
            nonlocal validated
            validated = validated if roc_auc is None else f", held-out ROC-AUC {roc_auc:.3f}"
            show(iteration, f"iteration {iteration} of {iterations}, loss {loss:.4f}{validated}")

        yield report


@contextmanager
def bar(doing: str, total: float) -> Iterator[Callable[[float, str], None]]:
    """Call it with how much is done, and a few words."""
    console, terminal = Console(stderr=True, highlight=False), sys.stderr.isatty()
    begun_s = time.monotonic()
    next_plain_s = begun_s + PLAIN_EVERY_S
    begun_at: float | None = None
    text, left = TextColumn("{task.fields[text]}"), TimeRemainingColumn()
    columns = (TextColumn(doing), BarColumn(), text, TextColumn("ETA"), left)
    with Bar(*columns, console=console, transient=True, disable=not terminal) as shown:
        task = shown.add_task(doing, total=total, text="")

        def show(done: float, text: str) -> None:
            nonlocal next_plain_s, begun_s, begun_at
            if begun_at is None:  # a resumed training does not begin at nothing
                begun_s, begun_at = time.monotonic(), done
            shown.update(task, completed=done, text=text)
            if not terminal and (done == total or time.monotonic() >= next_plain_s):
                next_plain_s = time.monotonic() + PLAIN_EVERY_S
                rest_s = (time.monotonic() - begun_s) * (total - done) / (done - begun_at) if done > begun_at else 0
                eta = f", about {rest_s:.0f} s left" if rest_s >= 1 else ""
                console.print(f"{doing}: {text}{eta}", markup=False, soft_wrap=True)

        yield show
