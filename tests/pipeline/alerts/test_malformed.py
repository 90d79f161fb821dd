"""What lies in `oddwatch:alerts` and is no alert is skipped, counted and said once; nothing in it chooses a path."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from e2e import oddwatch

from pipeline.alerts.feed import PICTURE_BYTES, AlertFeed
from pipeline.alerts.folder import FolderSink
from pipeline.bus.streams import Bus
from stages.alerting.alert import alert_line

SOUND = {
    "id": "cam-1-0", "phase": "open", "camera": "cam", "start_s": 1.0, "end_s": 2.0, "peak": 0.8, "severity": "high",
    "started_at": None, "snapshot": None,
}  # fmt: skip
MALFORMED: dict[str, dict[str, str | bytes]] = {
    "no field": {"hello": "world"},
    "not JSON": {"alert": "hello"},
    "not UTF-8": {"alert": b"\xff\xfe{}"},
    "no object": {"alert": "[1, 2]"},
    "null": {"alert": "null"},
    "nested without end": {"alert": "[" * 100_000},
    "no id": {"alert": json.dumps({"phase": "open"})},
    "a path for an id": {"alert": json.dumps(SOUND | {"id": "../../../escaped"})},
    "a number for an id": {"alert": json.dumps(SOUND | {"id": 7})},
    "an unknown phase": {"alert": json.dumps(SOUND | {"phase": ["open"]})},
    "a terminal's commands": {"alert": json.dumps(SOUND | {"camera": "\x1b[2Jcam"})},
    "NaN": {"alert": json.dumps(SOUND | {"peak": float("nan")})},
    "a text for a number": {"alert": json.dumps(SOUND | {"start_s": "soon"})},
    "a number for a time": {"alert": json.dumps(SOUND | {"started_at": 5})},
    "a list for a picture": {"alert": json.dumps(SOUND | {"snapshot": ["x"]})},
    "too long": {"alert": json.dumps(SOUND | {"note": "x" * 300_000})},
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_entry_stops_neither_the_folder_nor_the_reader(
    one_bus: Bus, tmp_path: Path, fields: dict[str, str | bytes], caplog: pytest.LogCaptureFixture
) -> None:
    stream = one_bus.keys.alerts
    one_bus.client.xadd(stream, fields)
    one_bus.client.xadd(stream, {"alert": json.dumps(SOUND)})
    one_bus.client.xadd(stream, fields)
    feed = AlertFeed(one_bus, "jsonl", FolderSink(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert [a["id"] for a in feed.turn()] == ["cam-1-0"]
        assert [a["id"] for a in one_bus.alerts_after("0")[1]] == ["cam-1-0"]
        assert feed.turn() == []
    feed.close()
    assert one_bus.client.xpending(stream, "jsonl")["pending"] == 0
    assert one_bus.alert_entries.skipped == 2
    assert len([r for r in caplog.records if "is not an alert" in r.message]) == 1
    assert [path.name for path in tmp_path.parent.rglob("*escaped*")] == []


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_the_command_that_reads_alerts_passes_over_what_is_none(
    one_bus: Bus, as_json: list[str], tmp_path: Path
) -> None:
    for fields in MALFORMED.values():
        one_bus.client.xadd(one_bus.keys.alerts, fields)
    one_bus.client.xadd(one_bus.keys.alerts, {"alert": json.dumps(SOUND)})
    config = tmp_path / "c.yaml"
    url = f"unix://{one_bus.client.connection_pool.connection_kwargs['path']}"
    config.write_text(f"redis: {{url: '{url}', prefix: {one_bus.keys.prefix}}}\n")
    done = oddwatch("alerts", "--config", config, *as_json)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    assert "Traceback" not in done.err
    assert f"not alerts: {len(MALFORMED)}" in done.err


def test_a_picture_is_only_taken_from_where_the_picture_of_that_alert_lies(one_bus: Bus, tmp_path: Path) -> None:
    keys, client = one_bus.keys, one_bus.client
    client.set(keys.cameras_version, "secret")
    client.set(keys.snapshot("cam", "cam-1-9"), "another's")
    client.set(keys.snapshot("cam", "cam-1-3"), b"x" * (PICTURE_BYTES + 1))
    client.rpush(keys.snapshot("cam", "cam-1-4"), "a list")
    client.set(keys.snapshot("cam", "cam-1-5"), b"jpeg")
    places = {
        "cam-1-0": keys.cameras_version, "cam-1-1": keys.snapshot("cam", "cam-1-9"), "cam-1-2": "x",
        "cam-1-3": keys.snapshot("cam", "cam-1-3"), "cam-1-4": keys.snapshot("cam", "cam-1-4"),
        "cam-1-5": keys.snapshot("cam", "cam-1-5"),
    }  # fmt: skip
    for id_, place in places.items():
        client.xadd(keys.alerts, {"alert": json.dumps(SOUND | {"id": id_, "snapshot": place})})
    feed = AlertFeed(one_bus, "jsonl", FolderSink(tmp_path))
    assert len(feed.turn()) == len(places)
    feed.close()
    assert [p.name for p in (tmp_path / "snapshots").iterdir()] == ["cam-1-5.jpg"]


def test_an_alert_of_another_version_is_told_with_what_it_says() -> None:
    assert alert_line({"id": "c-1-0", "phase": "open", "camera": "c"}).startswith("open   c  at 0:00.0")
