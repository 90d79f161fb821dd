"""A finished `score`: what came of its files, and how that is told to a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.archive.records import FileResult
from pipeline.config.schema import Config
from stages.text import counted

NAMED = 5
"""Files of other settings that are named; the others are counted."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreResult:
    """A finished `score`: what came of each file, in the order of the arguments, and what could not even be found."""

    config: Config
    out: Path
    files: list[FileResult]
    missing: list[str]
    took_s: float
    """Wall clock of this run, which scored all but `kept`."""
    kept: frozenset[str] = frozenset()
    """Cameras of the files that an earlier run left."""
    foreign: tuple[str, ...] = ()
    """Names of score files in `out` that other models or settings have made of other videos."""

    undelivered: tuple[str, ...] = ()
    """Why sinks could not be told of alerts."""

    def warmup_lines(self) -> list[str]:
        """Says how much could not be alerted on, if anything."""
        frames = sum(r.provisional for r in self.files)
        if not frames:
            return []
        were = f"{counted(frames, 'frame')} {'was' if frames == 1 else 'were'}"
        return [f"{were} warm-up (no alerts in it): learn from normal footage first, see 'oddwatch fit'"]

    def closing_lines(self) -> list[str]:
        """For a person: totals, and where to look next."""
        frames = sum(r.decoded for r in self.files)
        gaps = frames - sum(r.scored for r in self.files)
        opened = sum(a["phase"] == "open" for r in self.files for a in r.alerts)
        kept = f" ({len(self.kept)} of {counted(len(self.files), 'file')} done before)" if self.kept else ""
        lines = [
            f"{counted(frames, 'frame')} decoded = {frames - gaps} scored + {gaps} in gaps; "
            f"{counted(opened, 'alert')}; {self.took_s:.1f} s{kept}",
            f"scores, alerts.jsonl, summary.json and report.html are in {self.out}",
        ]
        lines += self.warmup_lines()
        if self.foreign:
            lines.append(f"not of these models and settings, and not in summary.json: {first_few(self.foreign)}")
        lines += [f"{r.file}: {r.left_out}" for r in self.files if r.left_out]
        failed = [r for r in self.files if r.failed]
        if failed or self.missing:
            bad = len(failed) + len(self.missing)
            need = "needs" if bad == 1 else "need"
            lines.append(f"{bad} of {len(self.files) + len(self.missing)} {need} attention:")
            lines += [f"  {line}" for line in self.missing]
            lines += [f"  {named_problem(r)}" for r in failed]
        lines += [f"{why}; give the same command again to deliver the rest" for why in self.undelivered]
        return lines


def first_few(names: Sequence[str]) -> str:
    """The first few of so many names."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def named_problem(result: FileResult) -> str:
    """One line that names the file and what is wrong with it."""
    problem = result.status.removeprefix("error: ")
    return f"{result.file}: {problem}"
