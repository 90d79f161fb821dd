"""What a simulation is made of: the scene, its source of snippets, and workers that are watched. See `__main__.py`."""

from __future__ import annotations

import cProfile
import heapq
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from pipeline.cameras.spec import CameraSpec, make_spec
from pipeline.capacity.rehearse import STAGES, stubbed_stages
from pipeline.config.schema import Config
from pipeline.ingest.publish import Publisher
from pipeline.leases.lease import Leases
from pipeline.workers.loop import Worker
from stages.costs.stubs import SampleOutputs, StageOutput, looped
from stages.decode.sources.kinds import LIVE
from stages.messages import REFERENCE_LEVELS, Features, Scores, Snippet
from stages.stage import Inputs, Processor, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is simulated."""

    url: str
    cameras: int
    fps: float
    lease_s: float
    workers: int
    """Of each stage."""
    cells: int
    """Moving cells in a snippet, as motion features have them."""
    thumb_bytes: int
    state_bytes: int
    """Of features, and of the model."""
    profile: Path | None = None

    @property
    def snippets_per_s(self) -> float:
        return self.cameras * self.fps / 16


def names(scene: Scene) -> list[str]:
    return [f"cam{n:05}" for n in range(scene.cameras)]


def spec_of(camera: str) -> CameraSpec:
    return make_spec(Config(), camera=camera, source=f"rtsp://{camera}", kind=LIVE.name)


def sample_outputs(scene: Scene) -> SampleOutputs:
    """One snippet and its outputs, of the sizes asked for."""
    rng = np.random.default_rng(0)
    header = {
        "camera": "cam", "run_ms": 1, "seq": 0, "first_frame": 0, "times_s": np.arange(16) / scene.fps, "live": True,
        "picked": np.arange(16, dtype=np.int32), "thumb": rng.bytes(scene.thumb_bytes),
    }  # fmt: skip
    cells = np.zeros((scene.cells, 3), np.int16)
    values = rng.random((scene.cells, 11), np.float32)
    raw, reference = rng.random(16, np.float32) / 10, REFERENCE_LEVELS.astype(np.float32)
    state = {"remembered": np.frombuffer(rng.bytes(scene.state_bytes), np.uint8)}
    features = Features(**header, extractor="motion@0", values=values, cells=cells, grid=(29, 52))
    scores = Scores(**header, model="novelty", model_hash="0", raw=raw, reference=reference)
    snippet = Snippet(**header, pixels=np.zeros((16, 1, 1, 3), np.uint8))
    outputs = {"features:motion": [StageOutput(features, state)], "temporal:novelty": [StageOutput(scores, state)]}
    return SampleOutputs([snippet], outputs)


class Phase:
    """Shared by all processes: 0 getting ready, 1 playing, 2 measuring, 3 the end; and the tasks open in each stage."""

    def __init__(self, context: multiprocessing.context.BaseContext) -> None:
        self._value = context.Value("i", 0)
        self._tasks = {stage: context.Value("i", 0) for stage in STAGES}

    def opened(self, stage: str, tasks: int) -> None:
        """So many more (or fewer) tasks are open."""
        with self._tasks[stage].get_lock():
            self._tasks[stage].value += tasks

    def all_open(self, tasks: int) -> bool:
        return all(value.value == tasks for value in self._tasks.values())

    def get(self) -> int:
        return int(self._value.value)

    def set(self, phase: int) -> None:
        self._value.value = phase


class Gauge:
    """What one process did while it was measured."""

    def __init__(self, phase: Phase) -> None:
        self._phase = phase
        self._begun_s: float | None = None
        self.cpu_s = 0.0
        self.messages = 0
        self.late_ms: list[float] = []

    def look(self) -> bool:
        """Called often; returns whether it goes on."""
        phase = self._phase.get()
        if phase == 2 and self._begun_s is None:
            self._begun_s, self.messages, self.late_ms = time.process_time(), 0, []
        if phase == 3 and self._begun_s is not None:
            self.cpu_s = time.process_time() - self._begun_s
        return phase < 3

    @property
    def is_measuring(self) -> bool:
        return self._begun_s is not None

    def report(self) -> dict:
        return {"cpu_s": self.cpu_s, "messages": self.messages, "late_ms": self.late_ms}


class Counted:
    """A stage that notes how old each message is when it comes to it."""

    def __init__(self, work: Processor, gauge: Gauge) -> None:
        self._work = work
        self._gauge = gauge

    def run(self, batch: Sequence[tuple[Inputs, dict]]) -> list[Result]:
        results = self._work.run(batch)
        now_ms = time.time() * 1000
        for inputs, _ in batch:
            self._gauge.messages += 1
            self._gauge.late_ms.append(now_ms - next(iter(inputs.values())).made_ms)
        return results


class Watched(Worker):
    """A worker that looks at the phase before each inputs."""

    gauge: Gauge
    phase: Phase
    stage: str
    open_tasks = 0
    profiler: cProfile.Profile | None = None

    def turn(self) -> int:
        # A heartbeat tells of leases; what counts is that the tasks behind them are open.
        now_open = len(self._tasks)
        self.phase.opened(self.stage, now_open - self.open_tasks)
        self.open_tasks = now_open
        if not self.gauge.look():
            self.stop()
            return 0
        if self.profiler is not None and self.gauge.is_measuring:
            self.profiler.enable()
        return super().turn()


def work(scene: Scene, stage: str, n: int, phase: Phase, reports: multiprocessing.Queue) -> None:
    """A worker process."""
    bus = Bus(connect(scene.url), Keys())
    name = f"{stage}-{n}"
    leases = Leases(bus.client, bus.keys, name=name, stage=stage, token=f"{name}:{os.getpid()}", lease_s=scene.lease_s)
    build, gauge = stubbed_stages(sample_outputs(scene), to_all=not bus.is_cluster), Gauge(phase)
    worker = Watched(bus, leases, lambda spec, stage: Counted(build(spec, stage), gauge))
    worker.gauge, worker.phase, worker.stage = gauge, phase, stage
    worker.profiler = cProfile.Profile() if scene.profile else None
    worker.run()
    if worker.profiler is not None:
        worker.profiler.disable()
        worker.profiler.dump_stats(f"{scene.profile}.{name}")
    reports.put((stage, gauge.report()))


def publish(scene: Scene, phase: Phase, reports: multiprocessing.Queue) -> None:
    """The source process: every camera's snippets at its pace, cameras evenly out of step."""
    bus, gauge = Bus(connect(scene.url), Keys()), Gauge(phase)
    leases = Leases(bus.client, bus.keys, name="decode-0", stage="decode", token="source", lease_s=3600)
    clip, run_ms = sample_outputs(scene).snippets, bus.now_ms()
    publishers: dict[str, tuple[Publisher, Iterator[Snippet]]] = {}
    for camera in names(scene):
        leases.acquire(camera, "decode")
        publisher = Publisher(bus, spec_of(camera), "source", lambda: None)
        publishers[camera] = publisher, looped(clip, camera=camera, run_ms=run_ms, fps=scene.fps)
    while phase.get() == 0:
        time.sleep(0.02)
    period_s, begun_s = 16 / scene.fps, time.monotonic()
    due = [(begun_s + period_s * n / scene.cameras, camera) for n, camera in enumerate(publishers)]
    heapq.heapify(due)
    while gauge.look():
        at_s, camera = due[0]
        behind_s = time.monotonic() - at_s
        if behind_s < 0:
            time.sleep(min(-behind_s, 0.02))
            continue
        heapq.heapreplace(due, (at_s + period_s, camera))
        publisher, snippets = publishers[camera]
        snippet = replace(next(snippets), made_ms=round(time.time() * 1000))
        publisher.publish(snippet, {"run_ms": run_ms, "next_frame": snippet.next_frame, "last_ms": 0})
        gauge.messages += 1
        gauge.late_ms.append(behind_s * 1000)
    reports.put(("decode", gauge.report()))
