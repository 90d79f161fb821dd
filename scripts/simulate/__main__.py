"""Thousands of synthetic cameras without pixels on the real bus, leases and workers: where does one Redis end?

    python -m scripts.simulate --cameras 100,500,1000 --fps 1 --seconds 10 [--servers embedded,cluster] [--json FILE]
    python -m scripts.simulate --cameras 100 --death        # three alerting workers; one is killed

Sources publish snippets (references to pixels, with a thumbnail) at the cameras' pace; features and models answer at
once with messages and states of the true sizes; alerting is the real one. Clients and servers share this machine, so
their CPU is measured apart, and where the server ends is worked out from its CPU seconds per snippet.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "support"))

from pipeline.processes.this_process import single_thread_libraries  # noqa: E402

single_thread_libraries()

import numpy as np  # noqa: E402
from redis_kinds import cluster  # noqa: E402

from pipeline.bus.embedded import EmbeddedServer, embedded_binary  # noqa: E402
from pipeline.bus.keys import Keys  # noqa: E402
from pipeline.bus.streams import Bus, connect  # noqa: E402
from pipeline.cameras.registry import register  # noqa: E402
from pipeline.leases.lease import heartbeats  # noqa: E402
from scripts.simulate.scene import STAGES, Phase, Scene, names, publish, spec_of, work  # noqa: E402

SPREAD_S = 120.0
"""The workers must hold all cameras by then."""
SETTLE_S = 3.0
"""Played before anything is measured."""
MB = 1e6


def nodes_of(bus: Bus) -> list[dict[str, float]]:
    """CPU, commands, bytes and memory of each server."""
    where = {"target_nodes": bus.client.PRIMARIES} if bus.is_cluster else {}
    found = bus.client.info(**where)
    return [
        {
            "cpu_s": float(i["used_cpu_user"]) + float(i["used_cpu_sys"]),
            "commands": float(i["total_commands_processed"]), "memory_mb": i["used_memory"] / MB,
            "in_mb": i["total_net_input_bytes"] / MB, "out_mb": i["total_net_output_bytes"] / MB,
        }
        for i in ([found] if "used_memory" in found else [found[k] for k in sorted(found)])
    ]  # fmt: skip


def held(bus: Bus) -> dict[str, list[int]]:
    """Tasks that the workers of each stage say they hold."""
    beats = heartbeats(bus.client, bus.keys)
    return {stage: [b.tasks for b in beats if b.stage == stage] for stage in STAGES}


def wait_until(done: Callable[[], bool], limit_s: float, what: str) -> float:
    """Seconds it took. Ends the program with one line where it does not come."""
    begun_s = time.monotonic()
    while not done():
        if time.monotonic() - begun_s > limit_s:
            raise SystemExit(f"simulate: {what} did not come about in {limit_s:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - begun_s


@contextmanager
def running_stages(
    scene: Scene, stages: Sequence[str]
) -> Iterator[tuple[Phase, multiprocessing.Queue, dict[str, object]]]:
    """Registered cameras and running processes, by name."""
    bus = Bus(connect(scene.url), Keys())
    for camera in names(scene):
        spec = spec_of(camera)
        spec.ensure_streams(bus)
        register(bus.client, bus.keys, spec)
    context = multiprocessing.get_context("spawn")
    phase, reports = Phase(context), context.Queue()
    processes = {"decode-0": context.Process(target=publish, args=(scene, phase, reports))}
    for stage in stages:
        for n in range(scene.workers):
            processes[f"{stage}-{n}"] = context.Process(target=work, args=(scene, stage, n, phase, reports))
    for process in processes.values():
        process.start()
    try:
        yield phase, reports, processes
    finally:
        phase.set(3)
        for process in processes.values():
            process.join(30)
            process.kill()


def simulate(scene: Scene, seconds: float) -> dict:
    """One row: so many cameras for so long."""
    bus = Bus(connect(scene.url), Keys())
    with running_stages(scene, STAGES) as (phase, reports, processes):
        spread = wait_until(lambda: phase.all_open(scene.cameras), SPREAD_S, "holding all cameras")
        phase.set(1)
        time.sleep(SETTLE_S)
        before = nodes_of(bus)
        phase.set(2)
        time.sleep(seconds)
        after, tasks = nodes_of(bus), held(bus)
        phase.set(3)
        said = [reports.get(timeout=60) for _ in processes]
    by_stage = {stage: [r for s, r in said if s == stage] for stage in ("decode", *STAGES)}
    done = sum(r["messages"] for r in by_stage["alerting"])
    late = np.array([ms for r in by_stage["alerting"] for ms in r["late_ms"]] or [np.nan])
    nodes = [{k: (a[k] - b[k]) for k in a} for a, b in zip(after, before, strict=True)]
    busiest = max(n["cpu_s"] for n in nodes)
    per_snippet = 1000 / max(1, done)
    p50, p99 = np.percentile(late, (50, 99)).round(1)
    is_late = bool(p99 > 1000 or done < 0.95 * scene.snippets_per_s * seconds)
    return {
        "cameras": scene.cameras, "fps": scene.fps, "offered_per_s": scene.snippets_per_s,
        "published_per_s": by_stage["decode"][0]["messages"] / seconds, "done_per_s": done / seconds,
        "p50_ms": float(p50), "p99_ms": float(p99), "late": is_late,
        "server_busy": [n["cpu_s"] / seconds for n in nodes],
        "server_ms": sum(n["cpu_s"] for n in nodes) * per_snippet,
        "client_ms": {s: sum(r["cpu_s"] for r in found) * per_snippet for s, found in by_stage.items()},
        "commands_per_snippet": sum(n["commands"] for n in nodes) / max(1, done),
        "mb_per_s": [(n["in_mb"] + n["out_mb"]) / seconds for n in nodes],
        "memory_mb": [a["memory_mb"] for a in after],
        "share_of_nodes": [n["commands"] / sum(m["commands"] for m in nodes) for n in nodes],
        "servers_end_at": round(scene.cameras * done / (scene.snippets_per_s * seconds) * seconds / busiest),
        "spread_s": spread, "tasks": tasks,
    }  # fmt: skip


def death(scene: Scene) -> dict:
    """Kill one of the alerting workers: how long its cameras are nobody's, and how they are spread after."""
    bus = Bus(connect(scene.url), Keys())
    leases = [bus.keys.lease(c, "alerting") for c in names(scene)]
    with running_stages(scene, STAGES) as (phase, _, processes):
        wait_until(lambda: _is_even(held(bus)["alerting"], scene), SPREAD_S, "an even spread")
        before = held(bus)["alerting"]
        phase.set(2)
        time.sleep(SETTLE_S)
        victim = processes["alerting-0"]
        token = f"alerting-0:{victim.pid}".encode()
        os.kill(victim.pid, signal.SIGKILL)
        taken_s = wait_until(
            lambda: all(h not in (None, token) for h in (bus.client.get(k) for k in leases)),
            scene.lease_s * 10, "a new holder for every camera",
        )  # fmt: skip

        def after() -> list[int]:
            beats = heartbeats(bus.client, bus.keys)
            return [b.tasks for b in beats if b.stage == "alerting" and b.name != "alerting-0"]

        wait_until(lambda: _is_even(after(), replace(scene, workers=scene.workers - 1)), SPREAD_S, "an even spread")
        left = after()
    return {"cameras": scene.cameras, "lease_s": scene.lease_s, "before": before, "taken_s": taken_s, "after": left}


def _is_even(tasks: list[int], scene: Scene) -> bool:
    return len(tasks) == scene.workers and sum(tasks) == scene.cameras and max(tasks) - min(tasks) <= 1


@contextmanager
def server(kind: str) -> Iterator[str]:
    """URL of an embedded server, or of a Cluster of three nodes on this machine."""
    if kind == "cluster":
        with cluster(shutil.which("redis-server") or embedded_binary()) as url:
            yield url
    else:
        with EmbeddedServer(memory_mb=6000) as embedded:
            yield embedded.url


def table(rows: list[dict]) -> str:
    """As Markdown."""
    head = (
        "| server | cameras | fps | snippets/s offered | done | p50 ms | p99 ms | server busy | server ms/snippet "
        "| client ms/snippet | memory MB | servers end at |\n|" + " --- |" * 12
    )
    lines = [
        f"| {r['server']} | {r['cameras']} | {r['fps']:g} | {r['offered_per_s']:.0f} | {r['done_per_s']:.0f}"
        f"{' (late)' if r['late'] else ''} | {r['p50_ms']:.0f} | {r['p99_ms']:.0f} "
        f"| {' '.join(f'{b:.0%}' for b in r['server_busy'])} | {r['server_ms']:.2f} "
        f"| {sum(r['client_ms'].values()):.2f} | {sum(r['memory_mb']):.0f} | {r['servers_end_at']} |"
        for r in rows
    ]
    return "\n".join([head, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", default="100,500,1000,2000,5000")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--fps", type=float, default=1.0, help="frames per second of a camera; 16 are a snippet")
    parser.add_argument("--servers", default="embedded,cluster")
    parser.add_argument("--workers", type=int, default=1, help="of each stage")
    parser.add_argument("--lease-s", type=float, default=8)
    parser.add_argument("--cells", type=int, default=2600)
    parser.add_argument("--thumb-bytes", type=int, default=20_000)
    parser.add_argument("--state-bytes", type=int, default=105_000)
    parser.add_argument("--death", action="store_true", help="kill one of three alerting workers instead")
    parser.add_argument("--profile", type=Path, help="where the workers' profiles go: FILE.<worker>")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    rows = []
    for kind in a.servers.split(","):
        for cameras in map(int, a.cameras.split(",")):
            with server(kind) as url:
                scene = Scene(
                    url=url, cameras=cameras, fps=a.fps, lease_s=a.lease_s, workers=3 if a.death else a.workers,
                    cells=a.cells, thumb_bytes=a.thumb_bytes, state_bytes=a.state_bytes, profile=a.profile,
                )  # fmt: skip
                rows.append({"server": kind} | (death(scene) if a.death else simulate(scene, a.seconds)))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if a.json:
                a.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1) if a.death else table(rows))


if __name__ == "__main__":
    main()
