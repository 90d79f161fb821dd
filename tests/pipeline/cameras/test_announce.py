"""Cameras in the registry: configurations on several hosts agree, and one that stops leaves nothing to be seen."""

from __future__ import annotations

import logging

import pytest
from makers import publish, snippet, spec

from pipeline.bus.streams import Bus
from pipeline.cameras.announce import IN_USE_S, Announcer
from pipeline.cameras.models import ModelSpec
from pipeline.cameras.registry import Registry
from pipeline.cameras.spec import CameraSpec


def named_by(origin: str, *names: str, **settings: object) -> list[CameraSpec]:
    """As that host's configuration names them; its checkpoints lie in a folder of its own."""
    model = ModelSpec(kind="mil", features="motion", checkpoint=f"/{origin}/m.safetensors", sha256="ab")
    return [spec(name, live=True, models=(), origin=origin, **settings).model_copy(
        update={"models": {"m": model}}) for name in names]  # fmt: skip


def announcer(bus: Bus, origin: str, *names: str, **settings: object) -> Announcer:
    return Announcer(bus, named_by(origin, *names, **settings), origin)


def registered(bus: Bus) -> dict[str, CameraSpec]:
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    return registry.specs


def pass_time(bus: Bus, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now_ms = bus.now_ms() + round(seconds * 1000)
    monkeypatch.setattr(bus, "now_ms", lambda: now_ms)


def test_two_hosts_with_the_same_configuration_leave_each_other_alone(
    one_bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = [announcer(one_bus, origin, "door", "yard") for origin in ("a", "b")]
    versions = set()
    for _ in range(3):
        for host in hosts:
            host.announce()
            versions.add(one_bus.client.get(one_bus.keys.cameras_version))
    assert {s.origin for s in registered(one_bus).values()} == {"a"}
    assert len(versions) == 1, "it was registered again"
    assert not caplog.records, "where a checkpoint lies is no setting"
    assert one_bus.client.exists(one_bus.keys.stream("door", "snippets"))


def test_settings_that_differ_do_not_take_turns(
    one_bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = announcer(one_bus, "a", "door"), announcer(one_bus, "b", "door", height=99)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            one.announce()
            other.announce()
    assert registered(one_bus)["door"].height == 16
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == ["door"]

    pass_time(one_bus, monkeypatch, IN_USE_S + 1)
    other.announce()
    assert registered(one_bus)["door"].height == 99, "nobody else names it any more"


def test_a_changed_configuration_is_followed(one_bus: Bus) -> None:
    announcer(one_bus, "a", "door", "yard").announce()
    announcer(one_bus, "b", "yard").announce()
    announcer(one_bus, "a", "door", height=99).announce()
    found = registered(one_bus)
    assert found["door"].height == 99
    assert set(found) == {"door", "yard"}, "another configuration still names the yard"


def test_what_the_last_one_to_stop_named_is_watched_no_longer(one_bus: Bus) -> None:
    one, other = announcer(one_bus, "a", "door", "yard"), announcer(one_bus, "b", "yard")
    one.announce()
    other.announce()
    publish(one_bus, one_bus.keys.stream("door", "snippets"), snippet(0, camera="door", live=True))
    one_bus.client.hset(one_bus.keys.health("door"), "account", "{}")

    one.withdraw()
    assert set(registered(one_bus)) == {"yard"}
    assert not one_bus.client.exists(one_bus.keys.stream("door", "snippets"))
    assert one_bus.client.exists(one_bus.keys.health("door")), "its account can still be read"
    other.withdraw()
    assert registered(one_bus) == {}
    one.announce()
    assert set(registered(one_bus)) == {"door", "yard"}
    assert one_bus.client.xinfo_groups(one_bus.keys.stream("door", "snippets"))
