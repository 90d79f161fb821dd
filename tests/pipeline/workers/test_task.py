"""What a task waits for, and whose memory it takes over."""

from __future__ import annotations

import json

import pytest
from makers import announce, end, publish, scores, spec
from toys import CrashingBus, FakeClock, toy_work, turn_until, worker

from pipeline.bus.codec import decode
from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.streams import Bus
from pipeline.cameras.registry import register
from pipeline.workers.task import TaskSpec, open_tasks
from stages.messages import Fused

WAIT_S = 5.0


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workers.loop.POLL_S", 0.004)
    monkeypatch.setattr("pipeline.workers.loop.FULL_POLL_S", 0.002)


def fused(bus: Bus) -> list[Fused]:
    return [m for _, f in bus.client.xrange(bus.keys.stream("cam", "scores")) if isinstance(m := decode(f), Fused)]


def task_spec(bus: Bus, name: str) -> TaskSpec:
    return TaskSpec.of(bus.keys, spec(name), "alerting", "me", toy_work(spec(name), "alerting"))


def opened(bus: Bus, *names: str) -> list[str]:
    specs = [task_spec(bus, name) for name in names]
    return [task.spec.id.camera for task in open_tasks(bus, specs)]


def test_tasks_are_opened_together_but_not_those_whose_lease_has_gone(bus: Bus) -> None:
    for name, holder in (("a", "me"), ("b", "other"), ("c", "me")):
        bus.client.set(bus.keys.lease(name, "alerting"), holder)
    assert opened(bus, "a", "b", "c", "d") == ["a", "c"]
    there = [name for name in "abcd" if bus.client.exists(bus.keys.stream(name, "scores:novelty"))]
    assert there == ["a", "c"]  # nobody's camera gets no streams
    assert opened(bus) == []


def test_only_what_was_left_pending_must_be_recovered(bus: Bus) -> None:
    for name in ("left", "clean"):
        bus.client.set(bus.keys.lease(name, "alerting"), "me")
    specs = [task_spec(bus, name) for name in ("left", "clean")]
    open_tasks(bus, specs)
    publish(bus, specs[0].inputs[0], scores(0, camera="left"))
    bus.read_new([(specs[0].inputs[0], "alerting")], 0)
    assert [bool(task.reading.recovering) for task in open_tasks(bus, specs)] == [True, False]


def test_to_take_many_cameras_takes_few_messages(one_bus: Bus, one_server: EmbeddedServer) -> None:
    for n in range(60):
        announce(one_bus, spec(f"c{n}"))
    counting = CrashingBus(one_bus, one_server.url, crash_at=10**9, sent=True)
    one = worker(counting, "alerting")
    one.turn()
    assert len(one._tasks) == 60
    one.close()
    counting.die()
    assert counting.sends < 60
    assert not list(one_bus.client.scan_iter(match=f"{one_bus.keys.prefix}:*:lease:*"))


class TwoModels:
    """An alerting worker on a camera with a quick and a slow model; the slow one says nothing at first."""

    def __init__(self, bus: Bus, live: bool = True) -> None:
        self.bus, self.clock, self.live = bus, FakeClock(), live
        announce(bus, spec(live=live, models=("quick", "slow"), join_wait_s=WAIT_S))
        self.worker = worker(bus, "alerting", clock=self.clock)

    def say(self, model: str, seq: int) -> None:
        publish(self.bus, self.bus.keys.stream("cam", f"scores:{model}"), scores(seq, model=model, live=self.live))

    def turn(self, times: int = 3) -> None:
        for _ in range(times):
            self.worker.turn()

    def models_of(self, seq: int) -> set[str]:
        return next((set(m.raw) for m in fused(self.bus) if m.seq == seq), set())


def test_a_dead_model_costs_a_camera_one_wait_and_no_more(one_bus: Bus) -> None:
    cam = TwoModels(one_bus)
    cam.say("quick", 0)
    cam.turn()
    assert fused(one_bus) == []
    cam.clock.sleep(WAIT_S)
    cam.turn()
    before_s = cam.clock.now_s
    for seq in range(1, 30):
        cam.say("quick", seq)
        cam.turn()
    assert [m.seq for m in fused(one_bus)] == list(range(30))
    assert cam.clock.now_s - before_s < 2 * WAIT_S


def test_a_model_that_keeps_up_again_is_waited_for_again(one_bus: Bus) -> None:
    cam = TwoModels(one_bus)
    cam.say("quick", 0)
    cam.turn()
    cam.clock.sleep(WAIT_S)
    cam.turn()
    cam.say("quick", 1)
    cam.turn()
    cam.say("slow", 0)  # far behind
    cam.turn()
    cam.say("quick", 2)
    cam.turn()
    assert cam.models_of(2) == {"quick"}
    cam.say("slow", 2)  # a moment behind: a wait would have been enough
    cam.turn()
    cam.say("quick", 3)
    cam.turn()
    assert cam.models_of(3) == set()
    cam.say("slow", 3)
    cam.turn()
    assert cam.models_of(3) == {"quick", "slow"}


def test_a_model_that_is_ahead_is_not_late(one_bus: Bus) -> None:
    cam = TwoModels(one_bus)
    cam.say("quick", 0)
    cam.turn()
    cam.clock.sleep(WAIT_S)
    cam.turn()
    cam.say("slow", 1)
    cam.turn()
    assert cam.models_of(1) == set()
    cam.say("quick", 1)
    cam.turn()
    assert cam.models_of(1) == {"quick", "slow"}


def test_a_file_waits_for_each_of_its_scores(one_bus: Bus) -> None:
    cam = TwoModels(one_bus, live=False)
    for seq in range(2):
        cam.say("quick", seq)
    cam.turn()
    cam.clock.sleep(100 * WAIT_S)
    cam.turn()
    assert fused(one_bus) == []


def test_an_open_alert_is_closed_and_the_account_goes_on_under_changed_alert_settings(one_bus: Bus) -> None:
    bus, stream = one_bus, one_bus.keys.stream("cam", "scores:novelty")
    entry = announce(bus, spec(live=True, config_hash="a" * 8))
    clock = FakeClock()
    one = worker(bus, "alerting", clock=clock)
    publish(bus, stream, *[scores(n, level=3.0, live=True) for n in range(8)])
    turn_until(lambda: len(fused(bus)) == 8, one)
    stricter = entry.alerts.model_copy(update={"raise_at": 0.9})
    register(bus.client, bus.keys, entry.model_copy(update={"alerts": stricter, "config_hash": "b" * 8}))
    clock.sleep(1)
    one.turn()
    publish(bus, stream, *[scores(n, live=True) for n in range(8, 30)], end(30, live=True))
    turn_until(lambda: len(fused(bus)) == 30, one)
    alerts = [json.loads(f[b"alert"]) for _, f in bus.client.xrange(bus.keys.stream("cam", "alerts"))]
    assert [a["phase"] for a in alerts] == ["open", "close"]
    assert [a["config_hash"] for a in alerts] == ["a" * 8, "b" * 8]  # the new settings do the work
    turn_until(lambda: b'"status": "complete"' in bus.client.hget(bus.keys.health("cam"), "account"), one)
    found = json.loads(bus.client.hget(bus.keys.health("cam"), "account"))
    assert (found["scored"], found["balanced"]) == (30 * 4, True)
