"""What there is to know about a running system, read from Redis."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import redis

from pipeline.bus.streams import Bus
from pipeline.cameras.registry import Registry
from pipeline.cameras.spec import STAGES, CameraSpec
from pipeline.leases.lease import heartbeats
from stages.text import counted


def read_status(bus: Bus) -> dict:
    """Cameras with their health, accounts, lag and length by stream; workers; jobs; dead letters. JSON-able."""
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    now_ms = bus.now_ms()
    beats = heartbeats(bus.client, bus.keys)
    used, limit = _memory(bus)
    return {
        "now_ms": now_ms,
        "cameras": {name: _camera(bus, spec) for name, spec in registry.specs.items()},
        "workers": [
            {
                "name": b.name, "stage": b.stage, "host": b.host, "pid": b.pid, "cameras": b.lanes,
                "silent_s": round(max(0, now_ms - b.beat_ms) / 1000, 1), "error": b.error,
            }
            for b in beats
        ],
        "jobs": {k.decode(): json.loads(v) for k, v in sorted(bus.client.hgetall(bus.keys.jobs).items())},
        "dead_letters": bus.client.xlen(bus.keys.dead),
        "alerts_kept": bus.client.xlen(bus.keys.alerts),
        "memory_used_bytes": used,
        "memory_limit_bytes": limit,
    }  # fmt: skip


def _memory(bus: Bus) -> tuple[int, int]:
    """Bytes that Redis uses and may use (in a Cluster: all its primaries).

    The limit is 0 where there is none; both are 0 where the login may not ask.
    """
    where = {"target_nodes": bus.client.PRIMARIES} if bus.is_cluster else {}
    try:
        found = bus.client.info("memory", **where)
    except redis.exceptions.NoPermissionError:
        return 0, 0
    nodes = [found] if "used_memory" in found else found.values()
    return sum(int(n["used_memory"]) for n in nodes), sum(int(n.get("maxmemory", 0)) for n in nodes)


def _camera(bus: Bus, spec: CameraSpec) -> dict:
    health = {k.decode(): v.decode() for k, v in bus.client.hgetall(bus.keys.health(spec.camera)).items()}
    account = json.loads(health.pop("account", "null"))
    totals = {k.removeprefix("total:"): int(health.pop(k)) for k in sorted(health) if k.startswith("total:")}
    return {
        "source": spec.source, "live": spec.live, "health": health, "run": account, "totals": totals,
        "streams": {kind: _stream(bus, spec, kind) for kind in spec.all_streams()},
        "held_by": {s: _holder(bus, spec, s) for stage in STAGES for s in spec.stages(stage)},
    }  # fmt: skip


def _stream(bus: Bus, spec: CameraSpec, kind: str) -> dict:
    name = bus.keys.stream(spec.camera, kind)
    groups: dict[str, Any] = {}
    try:
        found = bus.client.xinfo_groups(name)
    except redis.ResponseError as error:
        if "no such key" not in str(error):
            raise
        return {"length": 0, "groups": {}}
    for group in found:
        groups[group["name"].decode()] = {"pending": group["pending"], "lag": group.get("lag")}
    return {"length": bus.client.xlen(name), "groups": groups}


def _holder(bus: Bus, spec: CameraSpec, stage: str) -> str | None:
    token = bus.client.get(bus.keys.lease(spec.camera, stage))
    return None if token is None else token.decode().rpartition(":")[0]


def drained(bus: Bus) -> bool:
    """True once every stage has settled everything there is of live cameras."""
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    live = [spec for spec in registry.specs.values() if spec.live]
    streams = [_stream(bus, spec, kind) for spec in live for kind in spec.all_streams()]
    return not any(g["pending"] or g["lag"] for stream in streams for g in stream["groups"].values())


def account_lines(status: dict, cameras: Iterable[str]) -> list[str]:
    """For each of the cameras what became of its frames, over all its runs that this Redis knows."""
    lines = []
    for name in cameras:
        totals = status["cameras"].get(name, {}).get("totals", {})
        gaps = {k.removeprefix("gap:"): n for k, n in totals.items() if k.startswith("gap:")}
        causes = f" ({', '.join(f'{cause} {n}' for cause, n in gaps.items())})" if gaps else ""
        lines.append(
            f"{name}: {counted(totals.get('decoded', 0), 'frame')} decoded = {totals.get('scored', 0)} scored "
            f"+ {sum(gaps.values())} in gaps{causes}"
        )
    return lines


def status_lines(status: dict, shown_url: str) -> list[str]:
    """The same for a person."""
    limit = f" of {status['memory_limit_bytes'] / 2**20:.0f}" if status["memory_limit_bytes"] else ""
    lines = [f"Redis {shown_url}, {status['memory_used_bytes'] / 2**20:.0f}{limit} MiB used"]
    cameras, files = counted(len(status["cameras"]), "camera"), counted(len(status["jobs"]), "file")
    alerts, dead = counted(status["alerts_kept"], "alert message"), counted(status["dead_letters"], "dead letter")
    lines.append(f"{cameras}, {files} in work, {alerts}, {dead}")
    if offline := [n for n, c in status["cameras"].items() if c["health"].get("status") == "offline"]:
        lines.append(f"offline: {', '.join(offline)}")
    for name, camera in status["cameras"].items():
        run = camera["run"] or {}
        gaps = ", ".join(f"{cause} {n}" for cause, n in (run.get("gaps") or {}).items() if n) or "none"
        behind = max((g["lag"] or 0 for s in camera["streams"].values() for g in s["groups"].values()), default=0)
        state = camera["health"].get("status", "waiting")
        decoded = counted(run.get("decoded", 0), "frame")
        lines.append(f"  {name}: {state}; {decoded} decoded, {run.get('scored', 0)} scored, gaps: {gaps}; "
                     f"{counted(behind, 'snippet')} behind")  # fmt: skip
        if error := camera["health"].get("error"):
            lines.append(f"    last error: {error}")
        if idle := [stage for stage, holder in camera["held_by"].items() if holder is None]:
            lines.append(f"    nobody works on: {', '.join(idle)}")
    for worker in status["workers"]:
        trouble = f"; {worker['error']}" if worker["error"] else ""
        lines.append(f"  worker {worker['name']} (pid {worker['pid']}): {counted(worker['cameras'], 'camera')}, "
                     f"seen {worker['silent_s']} s ago{trouble}")  # fmt: skip
    return lines
