"""What is next comes with the commit of what was last: and is neither lost, repeated nor blamed for anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from makers import end, snippet, spec
from toys import ToyExtractor, fed, worker

from pipeline.bus.codec import decode
from pipeline.bus.streams import Bus
from pipeline.cameras.spec import CameraSpec
from pipeline.workers.loop import Worker
from stages.messages import Features, Message
from stages.stage import Processor, StageProcessor, State

GROUP = "features:motion"
COUNT = 40


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workers.loop.POLL_S", 0.004)
    monkeypatch.setattr("pipeline.workers.loop.FULL_POLL_S", 0.002)


def file(bus: Bus, camera: str = "cam", **settings: object) -> None:
    """A file whose snippets are all there."""
    fed(bus, spec(camera, **settings), [replace(m, camera=camera) for m in [*map(snippet, range(COUNT)), end(COUNT)]])


def described(bus: Bus, camera: str = "cam") -> list[Message]:
    return [decode(fields) for _, fields in bus.client.xrange(bus.keys.stream(camera, GROUP))]


def pending(bus: Bus, camera: str = "cam") -> int:
    return int(bus.client.xpending(bus.keys.stream(camera, "snippets"), GROUP)["pending"])


def turned(one: Worker, times: int) -> Worker:
    for _ in range(times):
        one.turn()
    return one


def whole(bus: Bus, camera: str = "cam") -> bool:
    """Whether every snippet was described once, in order, and nothing was buried."""
    kinds = [type(m).__name__ for m in described(bus, camera)]
    in_order = [m.seq for m in described(bus, camera)] == list(range(COUNT + 1))
    return in_order and kinds == ["Features"] * COUNT + ["End"] and not bus.client.xlen(bus.keys.dead)


@contextmanager
def full(bus: Bus) -> Iterator[None]:
    """While Redis takes nothing new."""
    before = bus.client.config_get("maxmemory")["maxmemory"]
    bus.client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        bus.client.config_set("maxmemory", before)


def test_a_files_next_message_is_known_when_one_is_committed(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    file(bus)
    one = turned(worker(bus, "features"), 3)
    done = len(described(bus))
    assert pending(bus) == (0 if bus.is_cluster else 1)
    if not bus.is_cluster:
        monkeypatch.setattr(bus, "read_new", lambda *_: pytest.fail("asked for what was known"))
    turned(one, 4)
    assert len(described(bus)) == done + 4


def test_a_camera_and_a_file_with_few_attempts_are_not_read_ahead(bus: Bus) -> None:
    file(bus, "few", max_deliveries=2)
    file(bus, "live", live=True)
    turned(worker(bus, "features"), 4)
    assert (pending(bus, "few"), pending(bus, "live")) == (0, 0)
    assert described(bus, "few")
    assert described(bus, "live")


def test_after_a_restart_no_file_waits_for_another(one_bus: Bus) -> None:
    for camera in ("a", "b", "c"):
        file(one_bus, camera)
    turned(worker(one_bus, "features", name="first"), 3).close()
    second = turned(worker(one_bus, "features", name="second"), 30)
    assert min(len(described(one_bus, camera)) for camera in ("a", "b", "c")) > 20
    turned(second, 60)
    assert all(whole(one_bus, camera) for camera in ("a", "b", "c"))


def test_a_failure_after_a_restart_is_a_first_failure(one_bus: Bus) -> None:
    file(one_bus, max_deliveries=3)
    turned(worker(one_bus, "features", name="first"), 3).close()
    failed = []

    class FailsOnce(ToyExtractor):
        def process(self, batch: Sequence[tuple[object, State]]) -> list[tuple[list[Features], State]]:
            if batch[0][0].seq == 20 and len(failed) < 2:  # type: ignore[attr-defined]
                failed.append(1)
                raise RuntimeError("out of memory")
            return super().process(batch)

    build: Callable[[CameraSpec, str], Processor] = lambda *_: StageProcessor(FailsOnce())  # noqa: E731
    turned(worker(one_bus, "features", name="second", processor_for=build), 300)
    assert len(failed) == 2
    assert whole(one_bus)


@pytest.mark.parametrize("restarted", [False, True], ids=["at work", "restarted"])
def test_a_full_redis_makes_nothing_pending_and_buries_nothing(
    one_bus: Bus, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    file(one_bus)
    one = turned(worker(one_bus, "features", name="first"), 3)
    if restarted:
        one.close()
        one = worker(one_bus, "features", name="second")
        with monkeypatch.context() as held_back:
            held_back.setattr(one, "_recover", lambda: 0)
            turned(one, 1)  # takes its leases while there is room for them
    with full(one_bus):
        turned(one, 200)
        assert pending(one_bus) <= 2
    turned(one, 200)
    assert whole(one_bus)
