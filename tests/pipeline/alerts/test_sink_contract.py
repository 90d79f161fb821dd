"""What every registered sink promises, and what its options and its failures look like to whoever configures it."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from plugged import plug_in
from pydantic import BaseModel

from pipeline.alerts.feed import AGAIN_S, LOOK_EVERY_S, REDIS_AGAIN_S, AlertFeed, Deliveries, Delivery
from pipeline.alerts.sink import SINKS, NamedSink, Sink, SinkKind, alert_key, checked_options, open_sinks
from pipeline.archive.records import FileResult, read_record, write_record
from pipeline.archive.tell import Teller
from pipeline.bus.streams import Bus
from pipeline.config.load import load_config
from stages.errors import ConfigError, OddwatchError

every_kind = pytest.mark.parametrize("kind", SINKS.names())


def options_of(kind: str, folder: Path) -> dict[str, Any]:
    """Options that work here. A new kind adds its own."""
    return {"folder": {"folder": folder / "told"}}[kind]


def message(n: int, **more: Any) -> dict[str, Any]:
    return {"id": f"cam-1-{n}", "phase": "open", "end_frame": 9, "snapshot": None, "camera": "cam", "peak": 0.8, **more}


def opened(kind: str, folder: Path) -> Sink:
    return SINKS.get(kind).open(checked_options(kind, options_of(kind, folder)))


@every_kind
def test_it_takes_alerts_with_and_without_pictures_and_the_same_again(kind: str, tmp_path: Path) -> None:
    sink = opened(kind, tmp_path)
    for _ in range(2):
        sink.deliver(message(0, entry="1-1"), b"\xff\xd8jpeg\xff\xd9")
    sink.deliver(message(1), None)
    sink.close()


@every_kind
def test_it_goes_on_where_another_process_left_it(kind: str, tmp_path: Path) -> None:
    for n in range(2):
        sink = opened(kind, tmp_path)
        sink.deliver(message(n, entry=f"1-{n}"), None)
        sink.close()


@every_kind
def test_an_option_that_it_does_not_know_is_named_and_its_value_is_not_shown(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"odd_one: .*options of") as caught:
        checked_options(kind, {**options_of(kind, tmp_path), "odd_one": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("sinks", "says"),
    [
        ("{a: {kind: carrier}}", "unknown kind of sink 'carrier'; known: .*folder"),
        ("{a: {kind: folder}}", "sinks.a: folder: field required"),
        ("{a: {folder: x}}", "sinks.a.kind: field required"),
        ("{'a b': {kind: folder, folder: x}}", "the name 'a b' must be 1 to 64"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_place(tmp_path: Path, sinks: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(f"sinks: {sinks}\n")
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(tmp_path / "c.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/c.yaml:1: sinks")


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("sinks: {a: {kind: folder, folder: told}}\n")
    (sink,) = open_sinks(load_config(tmp_path / "c.yaml").sinks_with_options()).values()
    sink.deliver(message(0), None)
    sink.close()
    assert json.loads((tmp_path / "told/alerts.jsonl").read_text())["id"] == "cam-1-0"


def test_a_message_is_known_by_its_id_and_revision() -> None:
    assert alert_key(message(0, revision=3)) == "cam-1-0:3"
    assert alert_key(message(0)) == "cam-1-0:open:9"


class Options(BaseModel):
    pass


class Flaky:
    """Fails while told to; what somebody else wrote may raise anything."""

    failing = False
    told: list[str] = []  # noqa: RUF012

    def deliver(self, alert: dict[str, Any], picture: bytes | None) -> None:
        if self.failing:
            raise KeyError("no route")
        self.told.append(alert["id"])

    def close(self) -> None:
        pass


FLAKY = SinkKind(name="flaky", options=Options, open=lambda options: Flaky())


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(Flaky, "told", [])
    monkeypatch.setattr(Flaky, "failing", False)
    return Flaky.told


def test_a_sink_that_fails_is_told_of_once_and_tried_again(
    one_bus: Bus, monkeypatch: pytest.MonkeyPatch, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    delivery = Delivery(one_bus, "bad", NamedSink("bad", FLAKY, Options()))
    one_bus.client.xadd(one_bus.keys.alerts, {"alert": json.dumps(message(0))})
    monkeypatch.setattr(Flaky, "failing", True)
    assert [delivery.turn(), delivery.turn()] == [AGAIN_S, AGAIN_S]
    assert told == []
    assert caplog.text.count("sink bad: 'no route'; trying again every 5 s") == 1
    monkeypatch.setattr(Flaky, "failing", False)
    assert [delivery.turn(), delivery.turn()] == [LOOK_EVERY_S, LOOK_EVERY_S]
    delivery.close()
    assert told == ["cam-1-0"]


def test_a_sink_that_hangs_keeps_nobody_waiting(one_bus: Bus, told: list[str]) -> None:
    hung = threading.Event()

    class Hung(Flaky):
        def deliver(self, alert: dict[str, Any], picture: bytes | None) -> None:
            hung.wait(60)

    deliveries = Deliveries(one_bus, {"hung": Hung(), "good": Flaky()})
    one_bus.client.xadd(one_bus.keys.alerts, {"alert": json.dumps(message(0))})
    deliveries.close(limit_s=1.0)
    assert told == ["cam-1-0"]
    hung.set()


def test_what_came_while_nobody_listened_is_delivered_later(one_bus: Bus, told: list[str]) -> None:
    AlertFeed(one_bus, "sink:a", Flaky())
    one_bus.client.xadd(one_bus.keys.alerts, {"alert": json.dumps(message(0))})
    (alert,) = AlertFeed(one_bus, "sink:a", Flaky()).turn()
    assert alert["entry"].endswith("-0")
    assert told == ["cam-1-0"]


def test_a_redis_that_lost_everything_is_read_again_once_it_has_something(one_bus: Bus, told: list[str]) -> None:
    delivery = Delivery(one_bus, "a", NamedSink("a", FLAKY, Options()))
    one_bus.client.delete(one_bus.keys.alerts)
    assert delivery.turn() == REDIS_AGAIN_S
    one_bus.client.xadd(one_bus.keys.alerts, {"alert": json.dumps(message(0))})
    assert delivery.turn() == LOOK_EVERY_S
    delivery.close()
    assert told == ["cam-1-0"]


def result(n: int) -> FileResult:
    return FileResult(
        file=f"{n}.mp4", camera=f"c{n}", config_hash="h", csv=None, models=["m"], alerts=[message(n)], status="complete"
    )


def test_each_sink_is_told_of_a_finished_file_once_in_whichever_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    sinks = {"a": NamedSink("a", FLAKY, Options())}
    first = Teller(tmp_path, sinks).tell(result(0))
    assert (first.told, told) == (["a"], ["cam-1-0"])
    monkeypatch.setattr(Flaky, "failing", True)
    failing = Teller(tmp_path, sinks)
    kept = failing.tell(result(1))
    assert failing.tell(first) == first
    assert (kept.told, failing.problems) == ([], {"a": "sink a: 'no route'"})
    monkeypatch.setattr(Flaky, "failing", False)
    again = Teller(tmp_path, sinks | {"b": NamedSink("b", FLAKY, Options())})
    assert [again.tell(r).told for r in (first, kept)] == [["a", "b"], ["a", "b"]]
    assert told == ["cam-1-0", "cam-1-0", "cam-1-1", "cam-1-1"]


def test_a_record_remembers_who_was_told(tmp_path: Path) -> None:
    write_record(tmp_path, result(0))
    (tmp_path / "c.csv").write_text("")
    done = Teller(tmp_path, {"a": Flaky()}).tell(result(0))
    assert json.loads((tmp_path / ".oddwatch/c0.json").read_text())["told"] == done.told == ["a"]
    assert read_record(tmp_path, "c0", "h") is None  # it has no scores; what it says of sinks is no reason to keep it


def test_a_sink_that_cannot_be_opened_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "c.yaml").write_text("sinks: {a: {kind: folder, folder: file/out}}\n")
    with pytest.raises(OddwatchError, match=r"sink a: .*file/out/alerts\.jsonl: cannot be written"):
        open_sinks(load_config(tmp_path / "c.yaml").sinks_with_options())


def test_a_third_party_sink_is_configured_like_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "flaky_module", sys.modules[__name__])
    plug_in(monkeypatch, tmp_path / "installed", "flaky", "oddwatch.sinks", flaky="flaky_module:FLAKY")
    (tmp_path / "c.yaml").write_text("sinks: {a: {kind: flaky}}\n")
    (sink,) = open_sinks(load_config(tmp_path / "c.yaml").sinks_with_options()).values()
    sink.deliver(message(7), None)
    assert told == ["cam-1-7"]
