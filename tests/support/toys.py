"""Workers that tests drive by hand: toy stages, a clock that only tests move, clients that crash on command."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import redis
from makers import announce

from pipeline.bus.codec import Bound
from pipeline.bus.streams import Bus, connect
from pipeline.cameras.spec import CameraSpec
from pipeline.leases.lease import Leases
from pipeline.workers.alerting import AlertingProcessor
from pipeline.workers.loop import Worker
from stages.messages import REFERENCE_LEVELS, Features, Message, Scores
from stages.stage import Processor, StageProcessor, State

TOKENS = itertools.count()


class FakeClock:
    """Goes on by a little at each look, and by the whole of each sleep."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        self.now_s += 0.02
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class ToyExtractor:
    """Features that tell what they were made of."""

    def process(self, batch: Sequence[tuple[Any, State]]) -> list[tuple[list[Features], State]]:
        out = []
        for snippet, state in batch:
            values = np.array([snippet.seq, float(snippet.pixels.sum())], np.float32)
            out.append(([Features(**snippet.header(), extractor="toy@1", values=values)], state))
        return out

    def finish(self, state: State) -> tuple[list[Features], State]:
        return [], state


class ToyModel:
    """Remembers: its score is the mean of all it has seen, and it speaks `late` messages late."""

    def __init__(self, name: str, late: int = 0) -> None:
        self._name = name
        self._late = late

    def process(self, batch: Sequence[tuple[Any, State]]) -> list[tuple[list[Scores], State]]:
        out = []
        for item, state in batch:
            seen = np.append(state.get("seen", np.empty(0)), float(item.values[0]))
            waiting = [*self._waiting(state), item]
            due = waiting[: max(0, len(waiting) - self._late)]
            scores = [self._score(w, seen) for w in due]
            out.append((scores, {"seen": seen} | self._kept(waiting[len(due) :])))
        return out

    def finish(self, state: State) -> tuple[list[Scores], State]:
        seen = state.get("seen", np.empty(0))
        return [self._score(w, seen) for w in self._waiting(state)], {}

    def _score(self, item: Any, seen: np.ndarray) -> Scores:
        raw = np.full(len(item.picked), 0.3 + 0.4 * np.sin(seen.mean()), np.float32)
        return Scores(
            **item.header(), model=self._name, model_hash="toy", raw=raw, reference=REFERENCE_LEVELS.astype(np.float32),
        )  # fmt: skip

    def _kept(self, waiting: Sequence[Any]) -> State:
        kept: State = {"n": np.asarray(len(waiting))}
        for i, w in enumerate(waiting):
            kept |= {f"{i}.times_s": w.times_s, f"{i}.picked": w.picked, f"{i}.values": w.values}
            kept[f"{i}.ids"] = np.array([w.run_ms, w.seq, w.first_frame])
            kept[f"{i}.camera"] = np.frombuffer(w.camera.encode(), np.uint8)
        return kept

    def _waiting(self, state: State) -> list[Features]:
        return [
            Features(
                camera=state[f"{i}.camera"].tobytes().decode(),
                run_ms=int(state[f"{i}.ids"][0]),
                seq=int(state[f"{i}.ids"][1]),
                first_frame=int(state[f"{i}.ids"][2]),
                times_s=state[f"{i}.times_s"],
                picked=state[f"{i}.picked"],
                values=state[f"{i}.values"],
                extractor="toy@1",
            )
            for i in range(int(state.get("n", 0)))
        ]


def toy_work(spec: CameraSpec, stage: str) -> Processor:
    """Toy features and models, the real alerting."""
    head, _, name = stage.partition(":")
    if head == "features":
        return StageProcessor(ToyExtractor())
    if head == "temporal":
        return StageProcessor(ToyModel(name, late=2 if name == "late" else 0))
    return AlertingProcessor(spec, to_all=True)


def worker(
    bus: Bus,
    stage: str,
    *,
    clock: FakeClock | None = None,
    processor_for: Callable[[CameraSpec, str], Processor] = toy_work,
    name: str = "",
    lease_s: float = 60,
    **more: Any,
) -> Worker:
    """A worker of which the test makes every turn."""
    clock = clock or FakeClock()
    name = name or f"{stage}-worker"
    leases = Leases(bus.client, bus.keys, name=name, stage=stage, token=f"{name}:{next(TOKENS)}", lease_s=lease_s)
    return Worker(bus, leases, processor_for, clock=clock, sleep=clock.sleep, **more)


def turn_until(done: Callable[[], bool], *workers: Worker, turns: int = 400) -> None:
    """Turn them in turn; fails if they get nowhere."""
    for _ in range(turns):
        if done():
            return
        for one in workers:
            one.turn()
    raise AssertionError(f"not done after {turns} turns")


class Crash(BaseException):
    """As sudden as a kill: nothing in the program catches it."""


class CrashingBus(Bus):
    """A bus whose process dies at its `crash_at`-th message to Redis, right before or right after sending it."""

    def __init__(self, bus: Bus, url: str, crash_at: int, sent: bool) -> None:
        outer = self
        self.sends = 0

        class Connection(redis.UnixDomainSocketConnection):
            def send_packed_command(self, command: Any, *args: Any, **more: Any) -> None:
                outer.sends += 1
                if outer.sends == crash_at and not sent:
                    raise Crash
                super().send_packed_command(command, *args, **more)
                if outer.sends == crash_at:
                    raise Crash

        client = connect(url)
        client.connection_pool.disconnect()
        client.connection_pool.reset()
        client.connection_pool.connection_class = Connection
        super().__init__(client, bus.keys)

    def die(self) -> None:
        """What the kernel does for a dead process: close its sockets."""
        self.client.connection_pool.disconnect(inuse_connections=True)


def free_all_leases(bus: Bus) -> None:
    """What a supervisor does after a death."""
    for key in bus.client.scan_iter(match=f"{bus.keys.prefix}:*:lease:*"):
        bus.client.delete(key)


def everything(bus: Bus, spec: CameraSpec) -> dict[str, list]:
    """All entries of all streams of a camera, and its alerts, byte for byte."""
    found = {kind: bus.client.xrange(bus.keys.stream(spec.camera, kind)) for kind in (*spec.all_streams(), "alerts")}
    found["all alerts"] = [fields for _, fields in bus.client.xrange(bus.keys.alerts)]
    return found


def fed(bus: Bus, spec: CameraSpec, messages: Sequence[Message]) -> CameraSpec:
    """A registered camera whose snippets are all there."""
    announce(bus, spec)
    lease = (f"{bus.keys.prefix}:feeding", "me")
    bus.client.set(*lease)
    stream = bus.keys.stream(spec.camera, "snippets")
    for message in messages:
        bus.commit(lease, outputs=[(stream, message, Bound.of(message, spec.stream_mb, drop_oldest=spec.live))])
    return spec
