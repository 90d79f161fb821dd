"""`report.html`: what was scored, what was not and why, and what stood out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from stages.evaluation.evaluate import Metrics
from stages.report.video import ReportVideo


def write_report(
    path: Path,
    videos: Iterable[ReportVideo],
    *,
    title: str,
    raise_at: float,
    clear_at: float,
    settings: Mapping[str, str] | None = None,
    metrics: Metrics | None = None,
    run_s: float | None = None,
) -> None:
    """Write one page that needs no network. Videos are taken one by one, so they may be read as they are asked for.

    `settings` are shown as given (configuration hash, model hashes, version, date); `run_s` is the wall-clock time
    of the whole run. Raises OddwatchError when the page cannot be written.
    """
    raise NotImplementedError
