"""One line of the benchmark's table, and what every measurement needs."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure, measured against something beside it in the same run, several times."""

    figure: str
    against: str
    values: Sequence[float] = ()
    """One per repeat: a ratio, or what `unit` says."""
    unit: str = ""
    target: float | None = None
    """What the median has to reach; None: told, not judged."""
    at_least: bool = True
    """Whether more is better."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What the values were worked out from."""
    limit: str = ""
    """What limits it, from a profile; said where the target is not reached."""
    skipped: str = ""
    """Why it was not measured."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool:
        if self.target is None:
            return True
        return self.median >= self.target if self.at_least else self.median <= self.target

    def cells(self) -> list[str]:
        """Figure, against, median (spread), target, verdict."""
        target = "" if self.target is None else f"{'≥' if self.at_least else '≤'} {self.target:g}{self.unit}"
        if self.skipped:
            return [self.figure, self.against, "", target, f"skipped: {self.skipped}"]
        spread = f" ({_short(min(self.values))}-{_short(max(self.values))})" if len(self.values) > 1 else ""
        verdict = "reached" if self.reached else f"not reached: {self.limit or 'unknown'}"
        return [
            self.figure, self.against, f"{_short(self.median)}{self.unit}{spread}", target,
            verdict if self.target is not None else self.limit,
        ]  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        judged = {} if self.skipped else {"median": self.median, "reached": self.reached}
        return asdict(self) | {"values": list(self.values)} | judged


HEAD = ["figure", "against", "median (spread)", "target", "verdict"]


def as_markdown(rows: Sequence[Row]) -> str:
    """The table for docs/benchmarks.md."""
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines) + "\n"


def side_by_side(repeats: int, *works: Callable[[], float]) -> list[list[float]]:
    """Each work's result in each repeat; they take turns, so that whatever else the machine does meets all of them."""
    results: list[list[float]] = [[] for _ in works]
    for turn in range(repeats):
        order = range(len(works)) if turn % 2 == 0 else reversed(range(len(works)))
        for index in order:
            results[index].append(works[index]())
    return results


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_by_role(pid: int) -> dict[int, tuple[str, float]]:
    """Process -> its role and CPU seconds so far, of a process and all its descendants."""
    parents: dict[int, int] = {}
    times: dict[int, float] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        child = int(stat.parent.name)
        parents[child], times[child] = int(fields[1]), (int(fields[11]) + int(fields[12])) / tick
    family = {pid}
    while more := {c for c, p in parents.items() if p in family} - family:
        family |= more
    return {p: (_title(p), times[p]) for p in family if p in times}


def pss_mb(pid: int, parts: Sequence[str] = ("Pss",)) -> float:
    """Memory of one process in MiB, what it shares with others counted in parts. `parts`: as in smaps_rollup."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.partition(":")[0] in parts) / 1024


def _title(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        words = ""
    if not words:
        return "?"
    for role in ("decoder", "worker decode", "worker features", "worker temporal", "worker alerting", "supervisor"):
        if words.startswith(f"oddwatch {role}"):
            return role
    return "redis" if "valkey" in words or "redis-server" in words else "command"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
