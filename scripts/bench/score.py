"""Runs `oddwatch score` as a user does, with a look at what its processes cost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.processes.this_process import single_thread_libraries
from scripts.bench.row import cpu_by_role, pss_mb

ROOT = Path(__file__).parents[2]
LOOK_S = 0.2
DATA = ("Pss_Anon", "Pss_Shmem")
"""Without programs and libraries: they do not grow, and their share depends on what else the machine runs."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A finished `oddwatch score`."""

    frames: int
    seconds: float
    """From the command to its end, start-up included."""
    cpu_s: float
    """Of the command and all that it started."""
    roles: Mapping[str, float]
    """CPU seconds by kind of process, as far as they were seen."""
    peak_mb: float
    """Data of all processes together at its highest, where asked for."""


def environment(**extra: str) -> dict[str, str]:
    """This process' environment, with the repository to import from and no other Redis."""
    single_thread_libraries()
    paths = [extra.pop("PYTHONPATH", ""), str(ROOT)]
    kept = {k: v for k, v in os.environ.items() if k != "REDIS_URL"}
    return kept | {"PYTHONPATH": os.pathsep.join(p for p in paths if p)} | extra


def score(paths: Sequence[Path], out: Path, *arguments: object, pythonpath: str = "", memory: bool = False) -> Scored:
    """Score files into a fresh folder. Raises RuntimeError with what it said if it fails."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "pipeline.cli", "score", *map(str, paths), "--out", str(out), *map(str, arguments)]
    begun_s = time.perf_counter()
    log = out.with_suffix(".log")
    with log.open("w") as f:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=f,
            stderr=subprocess.STDOUT,
            env=environment(PYTHONPATH=pythonpath),
        )
        seen: dict[int, tuple[str, float]] = {}
        peak_mb = 0.0
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            now = cpu_by_role(process.pid)
            peak_mb = max(peak_mb, sum(pss_mb(child, DATA) for child in now)) if memory else 0.0
            for child, (role, cpu_s) in now.items():
                # A process that has ended has no title any more.
                seen[child] = (seen[child][0] if role == "?" and child in seen else role, cpu_s)
            time.sleep(LOOK_S)
    seconds = time.perf_counter() - begun_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"oddwatch score ended with {process.returncode}: {log.read_text()[-2000:]}")
    frames = json.loads((out / "summary.json").read_text())["decoded"]
    roles: dict[str, float] = defaultdict(float)
    for role, s in seen.values():
        roles[role] += s
    return Scored(int(frames), seconds, usage.ru_utime + usage.ru_stime, dict(roles), peak_mb)
