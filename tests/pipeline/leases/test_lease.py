"""Leases: at most one holder ever, every task held in the end, fair shares, no move without need."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Sequence
from itertools import islice

import pytest
from makers import announce, spec
from toys import Crash, CrashingBus, FakeClock

from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.streams import Bus
from pipeline.cameras.registry import REREAD_EVERY, Registry, register, registered, unregister
from pipeline.leases.assignment import Assignment
from pipeline.leases.lease import Leases, TaskId, fair_share, heartbeats, release


class Host:
    """One worker's assignment, turned by the test."""

    def __init__(self, bus: Bus, name: str, clock: FakeClock, *, able: bool = True, lease_s: float = 60) -> None:
        self.bus, self.clock, self.name = bus, clock, name
        self.able = able
        self.leases = Leases(bus.client, bus.keys, name=name, stage="alerting", token=f"{name}:1", lease_s=lease_s)
        self.assignment = Assignment(bus, self.leases)

    def turn(self) -> bool:
        tasks, now_s = self.assignment, self.clock.now_s
        if not tasks.rebalance(now_s):
            return False
        for free in tasks.offers(tasks.missing() if self.able else iter(()), now_s):
            tasks.take(free if self.able else [])
        tasks.could_take(sum(1 for _ in islice(tasks.missing(), tasks.room)) if self.able else 0)
        return True

    @property
    def cameras(self) -> set[str]:
        return {camera for camera, _ in self.assignment.held}

    def die(self) -> None:
        """Killed; its supervisor frees what it held."""
        for camera, stage in self.assignment.held:
            release(self.bus.client, self.bus.keys, camera, stage, self.leases.token)
        self.bus.client.hdel(self.bus.keys.workers, self.name)


def cameras(bus: Bus, count: int) -> set[str]:
    return {announce(bus, spec(f"c{n:02}")).camera for n in range(count)}


def turn_long(clock: FakeClock, *hosts: Host, turns: int = 30, step_s: float = 5.0) -> None:
    """Long enough for renewals (every 15 s of this clock) and for what follows from them."""
    for _ in range(turns):
        clock.sleep(step_s)
        for host in hosts:
            host.turn()


@pytest.mark.parametrize(
    ("tasks", "workers", "share"),
    [(0, 3, (0, 0)), (6, 3, (2, 2)), (7, 3, (2, 3)), (1, 2, (0, 1)), (5, 0, (5, 5))],
)
def test_shares_are_even_and_find_a_place_for_all(tasks: int, workers: int, share: tuple[int, int]) -> None:
    assert fair_share(tasks, workers) == share


def test_a_lease_has_one_holder_until_it_is_given_back_or_runs_out(bus: Bus) -> None:
    first, second = (
        Leases(bus.client, bus.keys, name=n, stage="alerting", token=f"{n}:1", lease_s=60) for n in ("a", "b")
    )
    assert first.acquire("cam", "alerting")
    assert first.acquire("cam", "alerting")  # found again
    assert not second.acquire("cam", "alerting")
    second.release("cam", "alerting")  # not its own: nothing happens
    assert not second.acquire("cam", "alerting")
    first.release("cam", "alerting")
    assert second.acquire("cam", "alerting")
    assert first.renew([TaskId("cam", "alerting")]) == [("cam", "alerting")]
    bus.client.delete(bus.keys.lease("cam", "alerting"))  # as if it had run out
    assert first.acquire("cam", "alerting")
    assert 0 < bus.client.pttl(bus.keys.lease("cam", "alerting")) <= 60_000


def test_leases_are_taken_and_given_back_together(bus: Bus) -> None:
    first, second = (
        Leases(bus.client, bus.keys, name=n, stage="alerting", token=f"{n}:1", lease_s=60) for n in ("a", "b")
    )
    tasks = [TaskId(f"c{n}", "alerting") for n in range(4)]
    assert first.acquire_all(tasks[:1]) == tasks[:1]
    assert second.acquire_all(tasks[1:2]) == tasks[1:2]
    assert first.free(tasks) == [tasks[0], *tasks[2:]]  # its own counts as free
    assert first.acquire_all(tasks) == [tasks[0], *tasks[2:]]
    first.release_all(tasks)
    assert second.free(tasks) == tasks
    assert first.free(tasks) == [tasks[0], *tasks[2:]]
    assert first.acquire_all([]) == []


def test_finding_a_lease_again_prolongs_it(bus: Bus) -> None:
    leases = Leases(bus.client, bus.keys, name="a", stage="alerting", token="a:1", lease_s=60)
    leases.acquire("cam", "alerting")
    bus.client.pexpire(bus.keys.lease("cam", "alerting"), 500)
    assert leases.acquire("cam", "alerting")
    assert bus.client.pttl(bus.keys.lease("cam", "alerting")) > 30_000


def test_a_lone_worker_takes_everything_at_once(bus: Bus) -> None:
    every = cameras(bus, 5)
    one = Host(bus, "one", FakeClock())
    one.turn()
    assert one.cameras == every


def test_cameras_move_to_a_worker_that_joins_and_back_when_it_dies(bus: Bus) -> None:
    every, clock = cameras(bus, 7), FakeClock()
    hosts = [Host(bus, name, clock) for name in ("a", "b", "c")]
    turn_long(clock, hosts[0])
    assert hosts[0].cameras == every
    turn_long(clock, *hosts)
    assert sorted(len(h.cameras) for h in hosts) == [2, 2, 3]
    assert set.union(*(h.cameras for h in hosts)) == every
    kept = hosts[0].cameras
    hosts[2].die()
    turn_long(clock, *hosts[:2])
    assert sorted(len(h.cameras) for h in hosts[:2]) == [3, 4]
    assert hosts[0].cameras >= kept  # nothing moves without need


def test_nothing_moves_once_it_is_fair(bus: Bus) -> None:
    cameras(bus, 5)
    clock = FakeClock()
    hosts = [Host(bus, name, clock) for name in ("a", "b")]
    turn_long(clock, *hosts)
    before = [h.cameras for h in hosts]
    for _ in range(20):
        turn_long(clock, *hosts, turns=1)
        assert [h.cameras for h in hosts] == before


def test_a_worker_that_cannot_do_the_work_leaves_no_camera_unwatched(bus: Bus) -> None:
    every, clock = cameras(bus, 4), FakeClock()
    unable, able = Host(bus, "unable", clock, able=False), Host(bus, "able", clock)
    turn_long(clock, unable, able)
    assert able.cameras == every
    unable.able = True  # its weights have come
    turn_long(clock, unable, able)
    assert (len(unable.cameras), len(able.cameras)) == (2, 2)


def test_a_lease_that_was_lost_and_is_free_again_is_seen_as_lost(bus: Bus) -> None:
    """In between another may have worked: what this one remembers of the camera must be read anew."""
    cameras(bus, 1)
    clock = FakeClock()
    one = Host(bus, "one", clock)
    one.turn()
    bus.client.delete(bus.keys.lease("c00", "alerting"))
    clock.sleep(20)
    assert one.turn()
    assert one.cameras == set()
    clock.sleep(1)
    assert one.turn()
    assert one.cameras == {"c00"}


def test_many_lost_leases_are_one_line_in_the_log(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    cameras(bus, 9)
    clock = FakeClock()
    one = Host(bus, "one", clock)
    one.turn()
    for n in range(9):
        bus.client.delete(bus.keys.lease(f"c{n:02}", "alerting"))
    turn_long(clock, one, turns=4)
    assert [r.message for r in caplog.records] == [
        "lost the lease of c00 alerting, c01 alerting, c02 alerting and 6 more"
    ]


def test_what_others_hold_is_asked_for_less_often_the_more_it_is(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.leases.assignment.LOOK_COST_S", 1.0)
    cameras(bus, 5)
    clock = FakeClock()
    hosts = [Host(bus, name, clock, lease_s=1000) for name in ("a", "b")]
    turn_long(clock, *hosts, step_s=300)
    small = min(hosts, key=lambda host: len(host.cameras))
    assert len(small.cameras) == 2
    looks: list[float] = []
    free = small.leases.free
    small.leases.free = lambda tasks: looks.append(clock.now_s) or free(tasks)  # type: ignore[method-assign]
    turn_long(clock, small, turns=50, step_s=0.4)
    assert 5 <= len(looks) <= 8  # every 3 s for 3 tasks, in 20 s
    turn_long(clock, small, turns=1, step_s=4)
    announce(bus, spec("new"))
    turn_long(clock, small, turns=1, step_s=0.4)
    assert "new" in small.cameras  # a change of the registry is followed at once


def test_a_camera_that_did_not_change_stays_the_same_when_others_do(bus: Bus) -> None:
    """So what follows the registry need not compare settings."""
    cameras(bus, 2)
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    before = dict(registry.specs)
    announce(bus, spec("c01", run_ms=77))
    assert registry.refresh()
    assert registry.specs["c00"] is before["c00"]
    assert registry.specs["c01"].run_ms == 77


def test_a_removed_camera_is_let_go_and_its_lease_is_gone(bus: Bus) -> None:
    cameras(bus, 2)
    clock = FakeClock()
    one = Host(bus, "one", clock)
    one.turn()
    unregister(bus.client, bus.keys, "c00")
    turn_long(clock, one, turns=1)
    assert one.cameras == {"c01"}
    assert not bus.client.exists(bus.keys.lease("c00", "alerting"))


def test_a_camera_that_is_removed_right_before_its_lease_is_renewed_is_no_loss(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cameras(bus, 2)
    clock = FakeClock()
    one = Host(bus, "one", clock)
    one.turn()
    renew = one.leases.renew

    def removed_first(held: object) -> list[TaskId]:
        unregister(bus.client, bus.keys, "c01")
        return renew(held)  # type: ignore[arg-type]

    monkeypatch.setattr(one.leases, "renew", removed_first)
    turn_long(clock, one, turns=4)
    assert one.cameras == {"c00"}
    assert not caplog.records


def test_a_camera_that_vanishes_while_it_is_taken_is_not_held(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry was read, then the camera removed, then its lease taken: nobody would ever clean that up."""
    cameras(bus, 1)
    one = Host(bus, "one", FakeClock())
    acquire_all = one.leases.acquire_all

    def removed_first(tasks: Sequence[TaskId]) -> list[TaskId]:
        unregister(bus.client, bus.keys, "c00")
        return acquire_all(tasks)

    monkeypatch.setattr(one.leases, "acquire_all", removed_first)
    one.turn()
    assert one.cameras == set()
    assert not bus.client.exists(bus.keys.lease("c00", "alerting"))


def test_a_change_after_a_restart_of_redis_is_noticed(bus: Bus) -> None:
    """A counter would show the number again that it had before."""
    cameras(bus, 1)
    clock = FakeClock()
    one = Host(bus, "one", clock)
    one.turn()
    bus.client.delete(bus.keys.cameras, bus.keys.cameras_version)
    announce(bus, spec("c00", run_ms=77))
    turn_long(clock, one, turns=1)
    assert [s.run_ms for s in one.assignment.held.values()] == [77]


def test_the_long_dead_are_cleared_from_the_list_of_workers(bus: Bus) -> None:
    old = Leases(bus.client, bus.keys, name="old", stage="alerting", token="old:1", lease_s=1)
    new = Leases(bus.client, bus.keys, name="new", stage="alerting", token="new:1", lease_s=1)
    old.beat(1_000, 0)
    assert new.beat(1_500, 0).workers == 2
    assert new.beat(2_500, 0).workers == 1  # silent for longer than a lease
    new.beat(20_000, 0)
    assert [h.name for h in heartbeats(bus.client, bus.keys)] == ["new"]


def test_a_worker_of_a_later_version_that_says_more_is_understood(bus: Bus) -> None:
    Leases(bus.client, bus.keys, name="a", stage="alerting", token="a:1", lease_s=60).beat(1_000, 3)
    said = json.loads(bus.client.hget(bus.keys.workers, "a"))
    bus.client.hset(bus.keys.workers, "b", json.dumps(said | {"name": "b", "gpu_memory_mb": 7}))
    assert [(h.name, h.tasks) for h in heartbeats(bus.client, bus.keys)] == [("a", 3), ("b", 3)]


def test_a_heartbeat_says_what_other_versions_read(bus: Bus) -> None:
    leases = Leases(bus.client, bus.keys, name="a", stage="alerting", token="a:1", lease_s=60)
    leases.beat(1_000, 3, below_least=1, below_most=2)
    said = json.loads(bus.client.hget(bus.keys.workers, "a"))
    assert (said["lanes"], said["hungry"], said["room"]) == (3, 1, 2)
    assert not {"tasks", "below_least", "below_most"} & set(said)


def test_a_change_whose_version_was_never_told_is_noticed_in_the_end(bus: Bus) -> None:
    """Whoever registered a Cluster's camera died between two of its nodes."""
    registry = Registry(bus.client, bus.keys)
    cameras(bus, 1)
    registry.refresh()
    bus.client.hset(bus.keys.cameras, "late", spec("late").model_dump_json())
    assert any(registry.refresh() for _ in range(REREAD_EVERY))
    assert "late" in registry.specs


def test_a_camera_is_registered_with_a_new_version_or_not_at_all(one_bus: Bus, one_server: EmbeddedServer) -> None:
    for crash_at in range(1, 9):
        for sent in (False, True):
            doomed, entry = CrashingBus(one_bus, one_server.url, crash_at, sent), spec(f"c{crash_at}-{sent}")
            before = one_bus.client.get(one_bus.keys.cameras_version)
            with contextlib.suppress(Crash):
                register(doomed.client, one_bus.keys, entry)
            doomed.die()
            is_there = bool(registered(one_bus.client, one_bus.keys, [entry.camera]))
            assert is_there == (one_bus.client.get(one_bus.keys.cameras_version) != before)


@pytest.mark.parametrize("seed", range(12))
def test_joins_and_deaths_at_random(one_bus: Bus, seed: int) -> None:
    rng, clock = random.Random(seed), FakeClock()
    every = cameras(one_bus, rng.randint(1, 9))
    hosts = [Host(one_bus, "h0", clock)]
    born = 1
    for _ in range(60):
        event = rng.random()
        if event < 0.12 and len(hosts) < 5:
            hosts.append(Host(one_bus, f"h{born}", clock, able=rng.random() < 0.8))
            born += 1
        elif event < 0.2 and len(hosts) > 1:
            hosts.pop(rng.randrange(len(hosts))).die()
        clock.sleep(rng.choice([0.1, 0.3, 16.0]))
        rng.choice(hosts).turn()
        held = [camera for h in hosts for camera in h.cameras]
        assert len(held) == len(set(held)), "two holders"
        for h in hosts:
            for camera in h.cameras:
                assert one_bus.client.get(one_bus.keys.lease(camera, "alerting")).decode() == h.leases.token
    hosts.append(Host(one_bus, "last", clock))
    turn_long(clock, *hosts)
    able = [h for h in hosts if h.able]
    assert set.union(*(h.cameras for h in hosts)) == every
    if len(able) == len(hosts):
        shares = [len(h.cameras) for h in hosts]
        assert max(shares) - min(shares) <= 1
