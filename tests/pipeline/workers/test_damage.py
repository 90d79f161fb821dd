"""What is damaged in Redis stops only what it belongs to, and that only until it is gone."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest
from makers import announce, publish, snippet, spec
from toys import FakeClock, turn_until, worker

from pipeline.bus.streams import Bus
from pipeline.cameras.announce import Announcer
from pipeline.cameras.repair import decoder_state, mend_types
from pipeline.leases.lease import Leases, heartbeats
from pipeline.observe.status import read_status
from pipeline.observe.status_text import status_lines

STAGES = ("features", "temporal", "alerting")
BEAT = {
    "name": "w", "stage": "features", "token": "w:1", "host": "h", "pid": 1, "beat_ms": 1000, "started_ms": 1,
    "lanes": 0, "hungry": 0, "room": 0, "error": "", "frames": "",
}  # fmt: skip
BEATS = {
    "not JSON": b"hello",
    "not UTF-8": b"\xff",
    "a list": b"[1]",
    "nothing": b"{}",
    "nested without end": b"[" * 100_000,
    "a text for a number": json.dumps(BEAT | {"beat_ms": "soon"}).encode(),
    "a number for a text": json.dumps(BEAT | {"stage": 7}).encode(),
    "below zero": json.dumps(BEAT | {"hungry": -5}).encode(),
    "another's name": json.dumps(BEAT | {"name": "somebody"}).encode(),
    "a terminal's commands": json.dumps(BEAT | {"host": "\x1b[2J"}).encode(),
    "the year 2100": json.dumps(BEAT | {"beat_ms": 4102444800000}).encode(),
}


@pytest.mark.parametrize("beat", BEATS.values(), ids=BEATS.keys())
def test_a_damaged_heartbeat_is_nobody_and_goes(one_bus: Bus, beat: bytes) -> None:
    one_bus.client.hset(one_bus.keys.workers, "w", beat)
    leases = Leases(one_bus.client, one_bus.keys, name="me", stage="features", token="me:1", lease_s=5)
    assert leases.beat(one_bus.now_ms(), 0).workers == 1
    assert [h.name for h in heartbeats(one_bus.client, one_bus.keys)] == ["me"]
    assert one_bus.client.hlen(one_bus.keys.workers) == 1


@pytest.mark.parametrize("said", [b"hello", b"[]", b'{"seen_ms": "x", "cameras": []}', b'{"seen_ms": 1}', b"[" * 10**5])
def test_a_damaged_origin_stops_nobody_from_announcing(one_bus: Bus, said: bytes) -> None:
    one_bus.client.hset(one_bus.keys.origins, b"\xff other", said)
    Announcer(one_bus, [spec("c", live=True, origin="me")], "me").announce()
    assert one_bus.client.hkeys(one_bus.keys.cameras) == [b"c"]
    assert one_bus.client.hkeys(one_bus.keys.origins) == [b"me"]


def wrong_state(bus: Bus, key: str) -> None:
    bus.client.hset(key, mapping={"last": "soon", "by": b"\xff", "x": b"123", "x:array": "float32 7"})


def wrong_array(bus: Bus, key: str) -> None:
    held = bus.client.hget(key, "by") or b""
    bus.client.hset(key, mapping={"by": held, "seen": b"123", "seen:array": "float64 1"})


def a_string(bus: Bus, key: str) -> None:
    bus.client.delete(key)
    bus.client.set(key, "x")


def a_list(bus: Bus, key: str) -> None:
    bus.client.delete(key)
    bus.client.rpush(key, "x")


def a_hash(bus: Bus, key: str) -> None:
    bus.client.delete(key)
    bus.client.hset(key, "x", "y")


DAMAGE: dict[str, tuple[Callable[[Bus], str], Callable[[Bus, str], None]]] = {
    "a state that is garbage": (lambda bus: bus.keys.state("bad", "temporal:novelty"), wrong_state),
    "a state of the wrong length": (lambda bus: bus.keys.state("bad", "temporal:novelty"), wrong_array),
    "a state that is a string": (lambda bus: bus.keys.state("bad", "temporal:novelty"), a_string),
    "the state of features, a list": (lambda bus: bus.keys.state("bad", "features:motion"), a_list),
    "a stream that is a hash": (lambda bus: bus.keys.stream("bad", "scores:novelty"), a_hash),
    "scores that are a string": (lambda bus: bus.keys.stream("bad", "scores"), a_string),
    "a lease that is a hash": (lambda bus: bus.keys.lease("bad", "temporal:novelty"), a_hash),
    "health that is a string": (lambda bus: bus.keys.health("bad"), a_string),
    "dead letters that are a list": (lambda bus: bus.keys.dead, a_list),
    "the list of workers, a string": (lambda bus: bus.keys.workers, a_string),
    "the version of the registry, a list": (lambda bus: bus.keys.cameras_version, a_list),
}


@pytest.mark.parametrize(("where", "damage"), DAMAGE.values(), ids=DAMAGE.keys())
def test_other_cameras_are_scored_and_so_is_the_damaged_one(
    one_bus: Bus, where: Callable[[Bus], str], damage: Callable[[Bus, str], None]
) -> None:
    bus = one_bus
    for camera in ("bad", "good"):
        announce(bus, spec(camera, live=True))
        publish(bus, bus.keys.stream(camera, "snippets"), snippet(0, camera=camera, live=True))
    clock = FakeClock()
    workers = [worker(bus, s, clock=clock) for s in STAGES]
    turn_until(lambda: all(bus.client.xlen(bus.keys.stream(c, "scores")) == 1 for c in ("bad", "good")), *workers)
    for one in workers:
        one.close()
    damage(bus, where(bus))
    assert "good" in "\n".join(status_lines(read_status(bus), "redis"))
    for camera in ("bad", "good"):
        publish(bus, bus.keys.stream(camera, "snippets"), *[snippet(n, camera=camera, live=True) for n in (1, 2)])
    workers = [worker(bus, s, clock=clock) for s in STAGES]

    def scored(camera: str) -> bool:
        found = bus.client.xrevrange(bus.keys.stream(camera, "scores"), count=1)
        return bool(found) and found[0][0].endswith(b"-2")

    turn_until(lambda: scored("good") and scored("bad"), *workers, turns=900)
    for one in workers:
        one.close()


@pytest.mark.parametrize("damage", [wrong_array, wrong_state, a_string, a_list])
def test_a_decoder_starts_without_a_state_that_is_damaged(
    one_bus: Bus, damage: Callable[[Bus, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    key = one_bus.keys.state("bad", "decode")
    damage(one_bus, key)
    with caplog.at_level(logging.ERROR):
        assert decoder_state(one_bus, spec("bad")) == {}
    assert not one_bus.client.exists(key)
    assert len(caplog.records) == 1
    assert one_bus.client.xlen(one_bus.keys.dead) == 1
    assert mend_types(one_bus, [spec("bad")]) == []


def test_status_of_a_damaged_account_is_told(one_bus: Bus) -> None:
    announce(one_bus, spec("bad", live=True))
    damaged = {"account": "[1]", "total:decoded": "many", "offline_ms": "x", "status": b"\xff"}
    one_bus.client.hset(one_bus.keys.health("bad"), mapping=damaged)
    one_bus.client.hset(one_bus.keys.jobs, "x", "hello")
    assert read_status(one_bus)["cameras"]["bad"]["run"] is None
