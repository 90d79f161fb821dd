"""The whole pipeline over Redis against a plain loop where no parallelism can hide what moving messages costs."""

from __future__ import annotations

from pathlib import Path

from scripts.bench.row import Row
from scripts.bench.rows.pipeline import compare, eight, starts


def measure(work: Path, quick: bool) -> list[Row]:
    """Eight files, both sides on one core."""
    (start, *_) = starts(work, 1)
    return [compare(work, "eight files", eight(work, quick), 1, quick, start)]
