"""Memory that one more live camera takes beyond its own decoder process."""

from __future__ import annotations

import time
from pathlib import Path

import redis

from scripts.bench import footage
from scripts.bench.live import watched
from scripts.bench.row import Row, cpu_by_role, pss_mb

ADDED = 8
FPS = 4
"""Of each camera: nine of them are carried by one core."""
SEEN = 4
"""Snippets scored of every camera before memory is looked at."""
WAIT_S = 180.0


def measure(work: Path, quick: bool) -> list[Row]:
    """Live cameras that are kept up with: 240 lines, `motion`, fitted `novelty`; all processes, Redis included."""
    checkpoint = footage.checkpoint(work)
    video = footage.camera(work, 1500)
    settings = f"models: {{novelty: {{checkpoint: '{checkpoint}'}}}}"

    def used(cameras: int) -> tuple[float, float]:
        with watched(work, video, FPS, cameras, settings) as (pid, client):
            _wait(client, cameras)
            return min((_memory(pid) for _ in range(3)), key=sum)

    values, detail = [], []
    for _ in range(1 if quick else 2):
        (one, one_decoders), (many, many_decoders) = used(1), used(1 + ADDED)
        values.append((many - one) / ADDED)
        detail.append({"rest_mb": [one, many], "decoder_mb": [one_decoders, many_decoders / (1 + ADDED)]})
    return [
        Row(
            figure="memory per added camera, beyond its decoder's own", against="-", values=values, unit=" MB",
            target=25, at_least=False, detail={"runs": detail},
        )
    ]  # fmt: skip


def _memory(pid: int) -> tuple[float, float]:
    """(MiB of all other processes, MiB of the decoders)."""
    time.sleep(1)
    family = cpu_by_role(pid)
    used = {p: pss_mb(p) for p in family}
    decoders = sum(mb for p, mb in used.items() if family[p][0] == "decoder")
    return sum(used.values()) - decoders, decoders


def _wait(client: redis.Redis, cameras: int) -> None:
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        counts = [int(client.xinfo_stream(k)["entries-added"]) for k in client.scan_iter("oddwatch:{*}:scores")]  # type: ignore[index,arg-type]
        if len(counts) == cameras and min(counts) >= SEEN:
            return
        time.sleep(0.5)
    raise RuntimeError(f"{cameras} live cameras were not all scored within {WAIT_S:g} s")
