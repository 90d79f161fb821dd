"""What there is to know about a running system, read from Redis."""

from __future__ import annotations

import json
from typing import Any

import redis

from pipeline.bus.streams import Bus
from pipeline.cameras.registry import Registry
from pipeline.cameras.spec import STAGES, CameraSpec
from pipeline.leases.lease import heartbeats


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
    """True once every stage has committed everything there is of live cameras."""
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    live = [spec for spec in registry.specs.values() if spec.live]
    streams = [_stream(bus, spec, kind) for spec in live for kind in spec.all_streams()]
    return not any(g["pending"] or g["lag"] for stream in streams for g in stream["groups"].values())
