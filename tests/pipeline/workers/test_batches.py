"""Snippets of many cameras are given to a stage together: how many, and how long the first one waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from makers import announce, features, publish, spec
from toys import FakeClock, ToyModel, turn_until, worker

from pipeline.bus.streams import Bus
from pipeline.cameras.spec import CameraSpec
from stages.stage import Processor, StageProcessor, State

CAMERAS = ("a", "b", "c", "d", "e")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workers.loop.POLL_S", 0.004)
    monkeypatch.setattr("pipeline.workers.loop.FULL_POLL_S", 0.002)


class Counting(ToyModel):
    """Notes which cameras came together."""

    def __init__(self, batches: list[str]) -> None:
        super().__init__("novelty")
        self._batches = batches

    def process(self, batch: Sequence[tuple[Any, State]]) -> list:
        self._batches.append("".join(item.camera for item, _ in batch))
        return super().process(batch)


def counting_worker(bus: Bus, batches: list[str], **more: Any):  # type: ignore[no-untyped-def]
    def build(_: CameraSpec, __: str) -> Processor:
        return StageProcessor(Counting(batches))

    return worker(bus, "temporal", processor_for=build, **more)


def send(bus: Bus, camera: str, *seqs: int) -> None:
    publish(bus, bus.keys.stream(camera, "features:motion"), *(features(n, camera=camera) for n in seqs))


def outputs(bus: Bus) -> dict[str, list]:
    return {camera: bus.client.xrange(bus.keys.stream(camera, "scores:novelty")) for camera in CAMERAS}


def done(bus: Bus, count: int, cameras: Sequence[str] = CAMERAS) -> bool:
    return all(bus.client.xlen(bus.keys.stream(camera, "scores:novelty")) == count for camera in cameras)


def test_the_size_of_a_batch_changes_no_score(one_bus: Bus) -> None:
    found = []
    for size in (1, 2, 32):
        batches: list[str] = []
        for camera in CAMERAS:
            announce(one_bus, spec(camera))
            send(one_bus, camera, *range(4))
        one = counting_worker(one_bus, batches, batch=size)
        turn_until(lambda: done(one_bus, 4), one)
        found.append(outputs(one_bus))
        assert max(map(len, batches)) == min(size, len(CAMERAS))
        assert sum(map(len, batches)) == 4 * len(CAMERAS)
        one.close()
        for camera in CAMERAS:
            one_bus.client.delete(*one_bus.client.keys(one_bus.keys.all_of(camera)))
    assert found[0] == found[1] == found[2]


def test_a_batch_waits_for_the_cameras_that_are_a_little_later(one_bus: Bus) -> None:
    batches: list[str] = []
    for camera in CAMERAS:
        announce(one_bus, spec(camera))
    one = counting_worker(one_bus, batches, batch=16, batch_wait_s=1000.0)
    for camera in CAMERAS:
        for _ in range(5):
            one.turn()
        assert batches == []
        send(one_bus, camera, 0)
    turn_until(lambda: done(one_bus, 1), one)
    assert batches == ["abcde"]


def test_a_full_batch_does_not_wait(one_bus: Bus) -> None:
    batches: list[str] = []
    for camera in CAMERAS:
        announce(one_bus, spec(camera))
        send(one_bus, camera, 0)
    one = counting_worker(one_bus, batches, batch=2, batch_wait_s=1000.0)
    turn_until(lambda: len(batches) == 2, one)
    for _ in range(10):
        one.turn()
    assert batches == ["ab", "cd"]  # the last one has nobody to share a batch with yet


def test_a_batch_waits_only_so_long(one_bus: Bus) -> None:
    batches: list[str] = []
    clock = FakeClock()
    for camera in CAMERAS:
        announce(one_bus, spec(camera))
    one = counting_worker(one_bus, batches, batch=16, batch_wait_s=100.0, clock=clock)
    send(one_bus, "b", 0)
    for _ in range(10):
        one.turn()
    assert batches == []
    clock.sleep(100.0)
    turn_until(lambda: done(one_bus, 1, "b"), one)
    assert batches == ["b"]
