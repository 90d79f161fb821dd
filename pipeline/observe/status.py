"""What there is to know about a running system, read from Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import redis

from pipeline.bus.streams import Bus
from pipeline.cameras.registry import Registry
from pipeline.cameras.repair import is_wrong_type
from pipeline.cameras.spec import STAGES, CameraSpec
from pipeline.leases.lease import Heartbeat, heartbeats
from stages.decode.redact import redact

NUMBER = re.compile(r"-?\d{1,18}\Z")


def read_status(bus: Bus) -> dict:
    """Cameras with their health, accounts, lag and length by stream; workers; jobs; dead letters. JSON-able."""
    registry = Registry(bus.client, bus.keys)
    _unless_damaged(registry.refresh, False)
    now_ms = bus.now_ms()
    beats: list[Heartbeat] = _unless_damaged(lambda: heartbeats(bus.client, bus.keys), [])
    jobs: dict[bytes, bytes] = _unless_damaged(lambda: bus.client.hgetall(bus.keys.jobs), {})
    used, limit = _memory(bus)
    return {
        "now_ms": now_ms,
        "cameras": {name: _camera(bus, spec) for name, spec in registry.specs.items()},
        "refused": registry.refused,
        "workers": [
            {
                "name": b.name, "stage": b.stage, "host": b.host, "pid": b.pid, "cameras": b.tasks,
                "silent_s": round(max(0, now_ms - b.beat_ms) / 1000, 1), "error": b.error,
            }
            for b in beats
        ],
        "jobs": {k.decode(errors="replace"): _json_object(v) for k, v in sorted(jobs.items())},
        "dead_letters": _unless_damaged(lambda: bus.client.xlen(bus.keys.dead), 0),
        "alerts_kept": _unless_damaged(lambda: bus.client.xlen(bus.keys.alerts), 0),
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
    raw = _unless_damaged(lambda: bus.client.hgetall(bus.keys.health(spec.camera)), {})
    health = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in raw.items()}
    account = _account(health.pop("account", "null"))
    said = {k: health.pop(k) for k in sorted(health) if k.startswith("total:")}
    totals = {k.removeprefix("total:"): int(n) for k, n in said.items() if NUMBER.match(n)}
    health = {k: v for k, v in health.items() if NUMBER.match(v) or not k.endswith("_ms")}
    return {
        "source": redact(spec.source), "live": spec.live, "health": health, "run": account, "totals": totals,
        "streams": {kind: _stream(bus, spec, kind) for kind in spec.all_streams()},
        "held_by": {s: _holder(bus, spec, s) for stage in STAGES for s in spec.stages(stage)},
    }  # fmt: skip


def _stream(bus: Bus, spec: CameraSpec, kind: str) -> dict:
    name = bus.keys.stream(spec.camera, kind)
    groups: dict[str, Any] = {}
    try:
        found = bus.client.xinfo_groups(name)
    except redis.ResponseError as error:
        if not is_wrong_type(error) and "no such key" not in str(error):
            raise
        return {"length": 0, "groups": {}}
    for group in found:
        groups[group["name"].decode()] = {"pending": group["pending"], "lag": group.get("lag")}
    return {"length": bus.client.xlen(name), "groups": groups}


def _holder(bus: Bus, spec: CameraSpec, stage: str) -> str | None:
    token = _unless_damaged(lambda: bus.client.get(bus.keys.lease(spec.camera, stage)), None)
    return None if token is None else token.decode(errors="replace").rpartition(":")[0]


def _unless_damaged(ask: Callable[[], Any], instead: Any) -> Any:
    """What Redis answers; `instead` for a key of a wrong type, which workers remove as soon as they meet it."""
    try:
        return ask()
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        return instead


def _json_object(text: str | bytes) -> dict[str, Any] | None:
    """None for what is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _account(text: str) -> dict[str, Any] | None:
    """None before a camera's first message, and for what is no account."""
    found = _json_object(text)
    if found is None:
        return None
    gaps = found.get("gaps")
    numbers = [found.get("decoded", 0), found.get("scored", 0), *(gaps.values() if isinstance(gaps, dict) else ())]
    sound = all(type(n) is int for n in numbers) and (gaps is None or isinstance(gaps, dict))
    return found if sound else None


def drained(bus: Bus) -> bool:
    """True once every stage has committed everything there is of live cameras."""
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    live = [spec for spec in registry.specs.values() if spec.live]
    streams = [_stream(bus, spec, kind) for spec in live for kind in spec.all_streams()]
    return not any(g["pending"] or g["lag"] for stream in streams for g in stream["groups"].values())
