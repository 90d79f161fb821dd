"""Keeps `summary.json` and `alerts.jsonl` up to date while files are finished, at a bounded share of the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.archive.job import FileToScore
from pipeline.archive.records import FileResult, write_summary

LEAST_S = 1.0
"""Between two summaries, and at least:"""
REST = 20
"""times as long as the last one took, so that writing them is never more than a twentieth of the work."""


class Summaries:
    """Takes in results as they come. Records of single files are written elsewhere, at once."""

    def __init__(
        self,
        out: Path,
        files: Sequence[FileToScore],
        models: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out, self._files, self._models, self._clock = out, files, models, clock
        self._next_s = -float("inf")

    def update(self, results: Mapping[str, FileResult]) -> None:
        """Write if it is time; `results`: by camera. Raises OddwatchError when --out cannot be written."""
        if self._clock() >= self._next_s:
            self.write(results)

    def write(self, results: Mapping[str, FileResult]) -> list[FileResult]:
        """All of it now; returns the results in the order of the files."""
        begun_s = self._clock()
        ordered = [results[f.spec.camera] for f in self._files if f.spec.camera in results]
        write_summary(self._out, ordered, self._models, self._files[0].spec.config_hash)
        now_s = self._clock()
        self._next_s = now_s + max(LEAST_S, REST * (now_s - begun_s))
        return ordered
