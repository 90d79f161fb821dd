"""alerts.jsonl holds every alert message once, whatever dies between writing and acknowledging."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.alerts.feed import AlertFeed
from pipeline.alerts.folder import FolderSink
from pipeline.bus.streams import Bus
from stages.errors import OddwatchError

GROUP = "jsonl"


def json_lines(bus: Bus, folder: Path) -> AlertFeed:
    return AlertFeed(bus, GROUP, FolderSink(folder))


def alert(bus: Bus, n: int, snapshot: str | None = None) -> None:
    bus.client.xadd(bus.keys.alerts, {"alert": json.dumps({"id": f"cam-1-{n}", "phase": "open", "snapshot": snapshot})})


def lines(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (folder / "alerts.jsonl").read_text().splitlines()]


def test_each_alert_is_a_line_with_its_picture_beside_it(bus: Bus, tmp_path: Path) -> None:
    sink = json_lines(bus, tmp_path / "out")
    key = bus.keys.snapshot("cam", "cam-1-0")
    bus.client.set(key, b"jpeg")
    alert(bus, 0, key)
    alert(bus, 1, bus.keys.snapshot("cam", "gone"))
    assert [a["id"] for a in sink.turn()] == ["cam-1-0", "cam-1-1"]
    assert sink.turn() == []
    sink.close()
    first = json.loads((tmp_path / "out/alerts.jsonl").read_text().splitlines()[0])
    assert first["snapshot"] == "snapshots/cam-1-0.jpg"
    assert (tmp_path / "out" / first["snapshot"]).read_bytes() == b"jpeg"


def test_what_came_while_nobody_listened_is_written_later(bus: Bus, tmp_path: Path) -> None:
    first = json_lines(bus, tmp_path)
    alert(bus, 0)
    first.turn()
    first.close()
    alert(bus, 1)
    second = json_lines(bus, tmp_path)
    second.turn()
    second.close()
    assert lines(tmp_path) == ["cam-1-0", "cam-1-1"]


def test_a_kill_between_the_line_and_its_acknowledgement_writes_it_once(bus: Bus, tmp_path: Path) -> None:
    sink = FolderSink(tmp_path)
    AlertFeed(bus, GROUP, sink)
    for n in range(3):
        alert(bus, n)
    ((_, entries),) = bus.client.xreadgroup(GROUP, GROUP, {bus.keys.alerts: ">"})
    entry_id, fields = entries[0]
    sink.deliver(json.loads(fields[b"alert"]) | {"entry": entry_id.decode()}, None)  # no XACK: killed
    sink.close()
    successor = json_lines(bus, tmp_path)
    successor.turn()
    successor.close()
    assert lines(tmp_path) == ["cam-1-0", "cam-1-1", "cam-1-2"]
    assert bus.client.xpending(bus.keys.alerts, GROUP)["pending"] == 0


@pytest.mark.parametrize("torn", ['{"id": "cam-1-0", "ent', "{"])
def test_a_line_that_was_cut_off_is_written_again_whole(bus: Bus, tmp_path: Path, torn: str) -> None:
    sink = json_lines(bus, tmp_path)
    alert(bus, 0)
    bus.client.xreadgroup(GROUP, GROUP, {bus.keys.alerts: ">"})
    sink.close()
    path = tmp_path / "alerts.jsonl"
    path.write_text('{"id": "before", "entry": "1-1"}\n' + torn)
    successor = json_lines(bus, tmp_path)
    successor.turn()
    successor.close()
    assert lines(tmp_path) == ["before", "cam-1-0"]


def test_a_folder_that_cannot_be_written_is_named(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OddwatchError, match=r"file/out/alerts\.jsonl: cannot be written"):
        json_lines(bus, tmp_path / "file" / "out")
