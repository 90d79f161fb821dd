"""The whole pipeline over Redis, against the same decode and models in one plain loop in one process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scripts.bench import footage
from scripts.bench.row import Row, cores, side_by_side
from scripts.bench.score import ROOT, Scored, environment, score

TARGET = 0.9


def measure(work: Path, quick: bool) -> list[Row]:
    """One file, eight at once, and what starting costs.

    A `score` of one snippet is timed first, and taken off the others: what is left is what the frames cost. The plain
    loop runs with as many loops at a time as it has files, at most one per core, each with the threads that the stages
    use too (decoder, motion).
    """
    start, start_row = _start(work, quick)
    one = [footage.camera(work, 320 if quick else 1200)]
    both = (("one file", one), ("eight files at once", eight(work, quick)))
    return [start_row, *(compare(work, name, files, cores(), quick, start) for name, files in both)]


def eight(work: Path, quick: bool) -> list[Path]:
    """Eight files of the same street."""
    return footage.copies(footage.camera(work, 80 if quick else 208), work / "eight", 8)


def compare(work: Path, name: str, files: Sequence[Path], on: int, quick: bool, start: Scored) -> Row:
    """Frames per second of `score`, its start taken off, against those of plain loops, both on `on` cores."""
    checkpoint = footage.checkpoint(work)
    runs: list[Scored] = []
    plain_cpu_s: list[float] = []
    before = os.sched_getaffinity(0)
    loops = min(len(files), on)

    def pipeline() -> float:
        runs.append(score(files, work / "out", "--model", checkpoint))
        return runs[-1].frames / (runs[-1].seconds - start.seconds)

    def plain() -> float:
        said = _plain(checkpoint, files, loops)
        plain_cpu_s.append(said["cpu_s"])
        return said["frames"] / said["seconds"]

    os.sched_setaffinity(0, set(sorted(before)[:on]))
    try:
        ours, theirs = side_by_side(1 if quick else 3, pipeline, plain)
    finally:
        os.sched_setaffinity(0, before)
    cpu_s = [run.cpu_s - start.cpu_s for run in runs]
    return Row(
        figure=f"whole pipeline over Redis, {name}, {_cores(on)}",
        against=f"the same decode and models, {loops} plain loop{'s' if loops > 1 else ''} in one process",
        values=[a / b for a, b in zip(ours, theirs, strict=True)],
        target=TARGET,
        detail={
            "frames_per_s": ours, "plain_frames_per_s": theirs, "cpu_s": cpu_s, "plain_cpu_s": plain_cpu_s,
            "cpu_s_by_role_with_start": dict(runs[-1].roles), "cpu_s_by_role_start": dict(start.roles),
        },
        limit=f"{_grown(runs[-1], start)}; the plain loop {statistics.median(plain_cpu_s):.1f} s",
    )  # fmt: skip


def _grown(run: Scored, start: Scored) -> str:
    """CPU seconds that the frames took, by kind of process."""
    roles = {role: s - start.roles.get(role, 0.0) for role, s in run.roles.items()}
    shares = sorted(roles.items(), key=lambda item: -item[1])
    return "CPU " + ", ".join(f"{role} {s:.1f} s" for role, s in shares if s > 0.02 * run.cpu_s)


def starts(work: Path, times: int) -> list[Scored]:
    """`score` of a single snippet, several times, the quickest first."""
    short, checkpoint = footage.camera(work, 16), footage.checkpoint(work)
    return sorted((score([short], work / "out", "--model", checkpoint) for _ in range(times)), key=lambda r: r.seconds)


def _start(work: Path, quick: bool) -> tuple[Scored, Row]:
    """The middle one of several, and the row about it."""
    runs = starts(work, 1 if quick else 5)
    middle = runs[len(runs) // 2]
    row = Row(
        figure="starting and ending `oddwatch score` (one snippet)", against="-", unit=" s",
        values=[run.seconds for run in runs],
        detail={"cpu_s": [run.cpu_s for run in runs], "cpu_s_by_role": dict(middle.roles)},
    )  # fmt: skip
    if quick:
        return middle, row
    minute = footage.camera(work, 1500)
    whole = score([minute], work / "out", "--model", footage.checkpoint(work))
    said = f"{100 * middle.seconds / whole.seconds:.0f} % of scoring a one-minute clip ({whole.seconds:.1f} s)"
    return middle, replace(row, limit=said)


def _plain(checkpoint: Path, files: Sequence[Path], loops: int) -> dict[str, float]:
    command = [
        sys.executable,
        str(ROOT / "scripts" / "bench" / "plain.py"),
        str(checkpoint),
        str(loops),
        *map(str, files),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment())
    said: dict[str, float] = json.loads(done.stdout)
    return said


def _cores(count: int) -> str:
    return "one core" if count == 1 else f"{count} cores"
