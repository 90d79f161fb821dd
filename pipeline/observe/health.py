"""What an operator must look at, by what `read_status` found."""

from __future__ import annotations

SILENT_S = 30.0
"""A worker silent for longer makes the host unhealthy."""
OFFLINE_S = 60.0
"""So does a camera that has been away for longer."""
MEMORY_USED = 0.9
"""And a Redis that uses more than this share of what it may."""


def unhealthy(status: dict) -> list[str]:
    """One line for each thing that an operator must look at."""
    problems = [f"worker {w['name']}: {w['error']}" for w in status["workers"] if w["error"]]
    problems += [
        f"worker {w['name']}: silent for {w['silent_s']} s" for w in status["workers"] if w["silent_s"] > SILENT_S
    ]
    problems += [f"camera {name}: its registry entry cannot be used: {why}" for name, why in status["refused"].items()]
    for name, camera in status["cameras"].items():
        if camera["live"]:  # a file may wait for its turn
            problems += _of_camera(name, camera, status["now_ms"])
    used, limit = status["memory_used_bytes"], status["memory_limit_bytes"]
    if limit and used > MEMORY_USED * limit:
        problems.append(f"Redis: {used / limit:.0%} of its memory is used; raise maxmemory or lower redis.stream_mb")
    return problems


def _of_camera(name: str, camera: dict, now_ms: int) -> list[str]:
    problems = [f"camera {name}: nobody works on {s}" for s, holder in camera["held_by"].items() if holder is None]
    health = camera["health"]
    away_s = (now_ms - int(health.get("offline_ms", now_ms))) / 1000
    if health.get("status") == "offline" and away_s > OFFLINE_S:
        problems.append(f"camera {name}: offline for {away_s:.0f} s: {health.get('error', '')}")
    return problems
