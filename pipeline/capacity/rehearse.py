"""What moving messages costs: a sample played through the real publishers, workers and leases on a real server."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bus.streams import Bus
from pipeline.cameras.registry import register, unregister
from pipeline.cameras.spec import CameraSpec
from pipeline.ingest.publish import Publisher
from pipeline.leases.lease import Leases, TaskId
from pipeline.pixels.memory import host_id, namespace_of, own_folder
from pipeline.pixels.writer import FrameWriter
from pipeline.workers.alerting import AlertingProcessor
from pipeline.workers.loop import Worker
from stages.costs.stubs import SampleOutputs, StubProcessor, looped
from stages.errors import BusError
from stages.messages import Snippet
from stages.stage import Processor

STAGES = ("features", "temporal", "alerting")
LEASE_S = 60.0
"""Nobody else works on these cameras."""
WARM_SNIPPETS = 4
STUCK_S = 30.0
"""A snippet of all cameras takes a stage far less."""
RENEWED = 200
"""Leases renewed at once, to measure it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusCosts:
    """By snippet, through all stages."""

    clients_s: Mapping[str, float]
    """CPU seconds of publishing, reading and committing in each stage; `alerting`'s own work included."""
    server_s: float
    """CPU seconds of the server."""
    commands: float
    in_bytes: float
    """Into the server."""
    out_bytes: float
    entry_bytes: Mapping[str, float]
    """Stream kind -> bytes of the server's memory that one entry takes."""
    state_bytes: float
    """Bytes of the server's memory by camera: what the stages remember."""
    lease_client_s: float
    """CPU seconds of a worker to renew one lease."""
    lease_server_s: float


def stubbed_stages(sample: SampleOutputs, to_all: bool = True) -> Callable[[CameraSpec, str], Processor]:
    """How a worker builds its stage: stubs for features and models, the real alerting."""

    def build(spec: CameraSpec, stage: str) -> Processor:
        if stage == "alerting":
            return AlertingProcessor(spec, to_all)
        return StubProcessor(sample.outputs[stage])

    return build


@contextmanager
def set_up(
    bus: Bus, sample: SampleOutputs, specs: list[CameraSpec], fps: float, frames: Path | None
) -> Iterator[tuple[dict, dict]]:
    """Registered cameras with their publishers, and one worker of each stage; gone from the server at the end.

    `frames`: where in shared memory the pixels go; None: with the messages.
    Gives {camera: (publisher, its endless snippets)} and {stage: worker}, the workers to be turned by hand.
    """
    leases = {s: Leases(bus.client, bus.keys, name=f"plan-{s}", stage=s, token=f"plan-{s}", lease_s=LEASE_S)
              for s in ("decode", *STAGES)}  # fmt: skip
    run_ms = bus.now_ms()
    publishers: dict[str, tuple[Publisher, Iterator[Snippet]]] = {}
    for spec in specs:
        spec.ensure_streams(bus)
        leases["decode"].acquire(spec.camera, "decode")
        writer = FrameWriter(frames, host_id(), spec.camera, allowed=lambda: True) if frames is not None else None
        publisher = Publisher(bus, spec, "plan-decode", lambda: None, writer)
        publishers[spec.camera] = publisher, looped(sample.snippets, camera=spec.camera, run_ms=run_ms, fps=fps)
        register(bus.client, bus.keys, spec)
    build = stubbed_stages(sample, to_all=not bus.is_cluster)
    workers = {stage: Worker(bus, leases[stage], build) for stage in STAGES}
    try:
        yield publishers, workers
    finally:
        for worker in workers.values():
            worker.close()
        if frames is not None:
            shutil.rmtree(frames, ignore_errors=True)
            with suppress(OSError):
                frames.parent.rmdir()
        for spec in specs:
            unregister(bus.client, bus.keys, spec.camera)


def rehearse(
    bus: Bus, sample: SampleOutputs, specs: list[CameraSpec], fps: float, snippets: int, shared: str | None = None
) -> BusCosts:
    """Play `snippets` snippets of each camera through all stages of this process, and count.

    `shared`: the server's address, for pixels through shared memory (it must go with this); None: they go inline.
    Raises BusError when it gets nowhere, redis errors as they are.
    """
    frames = own_folder() / namespace_of(bus.client, bus.keys, shared) if shared is not None else None
    with set_up(bus, sample, specs, fps, frames) as (publishers, workers):
        _play(publishers, workers, len(specs), WARM_SNIPPETS)
        before = _server(bus)
        spent = _play(publishers, workers, len(specs), snippets)
        after = _server(bus)
        played = snippets * len(specs)
        entries = {kind: _entry_bytes(bus, specs[0], kind) for kind in specs[0].all_streams()}
        states = [s for stage in ("decode", *STAGES) for s in specs[0].stages(stage)]
        state_bytes = sum(_memory(bus, bus.keys.state(specs[0].camera, s)) for s in states)
        lease_client_s, lease_server_s = _renewal(bus, [TaskId(s.camera, "decode") for s in specs])
    used = {name: (after[name] - before[name]) / played for name in before}
    return BusCosts(
        clients_s={stage: seconds / played for stage, seconds in spent.items()},
        server_s=used["cpu_s"], commands=used["commands"], in_bytes=used["in_bytes"], out_bytes=used["out_bytes"],
        entry_bytes=entries, state_bytes=state_bytes, lease_client_s=lease_client_s, lease_server_s=lease_server_s,
    )  # fmt: skip


def _play(publishers: dict, workers: dict[str, Worker], cameras: int, snippets: int) -> dict[str, float]:
    """CPU seconds of each stage in this process."""
    spent = dict.fromkeys(("decode", *STAGES), 0.0)
    for _ in range(snippets):
        begun_s = time.process_time()
        for publisher, clip in publishers.values():
            snippet = next(clip)
            publisher.publish(snippet, {"run_ms": snippet.run_ms, "next_frame": snippet.next_frame, "last_ms": 0})
        spent["decode"] += time.process_time() - begun_s
        for stage, worker in workers.items():
            begun_s = time.process_time()
            due = cameras * _outputs(publishers, stage)
            deadline = time.monotonic() + STUCK_S
            while due > 0:
                due -= worker.turn()
                if time.monotonic() > deadline:
                    raise BusError(f"the rehearsal of {stage} got nowhere in {STUCK_S:.0f} s; what it logged says why")
            spent[stage] += time.process_time() - begun_s
    return spent


def _renewal(bus: Bus, tasks: list[TaskId]) -> tuple[float, float]:
    """CPU seconds of client and server to renew one lease, as a worker with many renews them."""
    many = tasks * (RENEWED // len(tasks))
    leases = Leases(bus.client, bus.keys, name="plan-decode", stage="decode", token="plan-decode", lease_s=LEASE_S)
    server_s, client_s = _server(bus)["cpu_s"], time.process_time()
    for _ in range(10):
        leases.renew(many)
    client_s = time.process_time() - client_s
    return client_s / len(many) / 10, (_server(bus)["cpu_s"] - server_s) / len(many) / 10


def _outputs(publishers: dict, stage: str) -> int:
    """Messages that a stage commits for each snippet: one by extractor or model."""
    publisher, _ = next(iter(publishers.values()))
    return len(publisher.spec.stages(stage))


def _server(bus: Bus) -> dict[str, float]:
    cpu, stats = bus.client.info("cpu"), bus.client.info("stats")
    return {
        "cpu_s": float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]),
        "commands": float(stats["total_commands_processed"]),
        "in_bytes": float(stats["total_net_input_bytes"]),
        "out_bytes": float(stats["total_net_output_bytes"]),
    }


def _entry_bytes(bus: Bus, spec: CameraSpec, kind: str) -> float:
    stream = bus.keys.stream(spec.camera, kind)
    entries = int(bus.client.xlen(stream))
    return _memory(bus, stream) / entries if entries else 0.0


def _memory(bus: Bus, key: str) -> float:
    used: Any = bus.client.memory_usage(key, samples=0)
    return float(used or 0)
