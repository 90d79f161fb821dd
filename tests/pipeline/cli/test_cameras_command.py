"""Cameras that nobody names any more go by themselves or by hand; dead letters are listed and dropped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from e2e import Ended, oddwatch
from makers import announce, spec

from pipeline.bus.codec import Entry
from pipeline.bus.streams import Bus
from pipeline.cameras.announce import Announcer


def ask(bus: Bus, folder: Path, *words: str) -> Ended:
    config = folder / "c.yaml"
    url = f"unix://{bus.client.connection_pool.connection_kwargs['path']}"
    config.write_text(f"redis: {{url: '{url}', prefix: {bus.keys.prefix}}}\n")
    done = oddwatch(*words, "--config", config)
    assert "Traceback" not in done.err
    return done


def live(name: str, origin: str):  # type: ignore[no-untyped-def]
    return spec(name, live=True, origin=origin, source=f"rtsp://me:pw@{name}/a")


@pytest.mark.parametrize(("then", "left"), [("b:/c.yaml", {b"door"}), ("a:/c.yaml", {b"door"}),
                                            ("b:/other.yaml", {b"door", b"yard"})])  # fmt: skip
@pytest.mark.parametrize("forgotten", [True, False])
def test_a_container_with_a_new_host_name_removes_what_its_file_names_no_more(
    one_bus: Bus, then: str, left: set[bytes], forgotten: bool
) -> None:
    before = "a:/c.yaml"
    Announcer(one_bus, [live("door", before), live("yard", before)], before).announce()
    if forgotten:
        one_bus.client.delete(one_bus.keys.origins)
    else:  # heard of long ago
        said = {"cameras": ["door", "yard"], "seen_ms": one_bus.now_ms() - 60_000}
        one_bus.client.hset(one_bus.keys.origins, before, json.dumps(said))
    Announcer(one_bus, [live("door", then)], then).announce()
    assert set(one_bus.client.hkeys(one_bus.keys.cameras)) == left


def test_another_host_in_use_keeps_its_cameras(one_bus: Bus) -> None:
    Announcer(one_bus, [live("yard", "a:/c.yaml")], "a:/c.yaml").announce()
    Announcer(one_bus, [live("door", "b:/c.yaml")], "b:/c.yaml").announce()
    assert set(one_bus.client.hkeys(one_bus.keys.cameras)) == {b"door", b"yard"}


def test_cameras_are_listed_and_removed(one_bus: Bus, tmp_path: Path) -> None:
    Announcer(one_bus, [live("door", "a:/c.yaml")], "a:/c.yaml").announce()
    announce(one_bus, live("yard", "old:/c.yaml"))
    one_bus.client.hset(one_bus.keys.cameras, b"\xffbad", "hello")
    listed = ask(one_bus, tmp_path, "cameras", "list").out
    assert "door: rtsp://***@door/a (of a:/c.yaml)" in listed
    assert "yard: rtsp://***@yard/a (of old:/c.yaml, which is not in use)" in listed
    assert "cannot be used" in listed
    refused = ask(one_bus, tmp_path, "cameras", "remove", "door")
    assert (refused.code, "is in use" in refused.err) == (2, True)
    assert ask(one_bus, tmp_path, "cameras", "remove", "yard").out == "yard: removed\n"
    bad = next(line for line in listed.splitlines() if "cannot be used" in line).partition(":")[0]
    assert ask(one_bus, tmp_path, "cameras", "remove", bad).code == 0
    assert one_bus.client.hkeys(one_bus.keys.cameras) == [b"door"]
    assert not list(one_bus.client.scan_iter(match=one_bus.keys.all_of("yard")))
    assert ask(one_bus, tmp_path, "cameras", "remove", "nobody").code == 2


def test_dead_letters_are_listed_and_dropped(one_bus: Bus, tmp_path: Path) -> None:
    assert ask(one_bus, tmp_path, "dead", "list").out == "no dead letters\n"
    one_bus.bury("temporal:m", "door", Entry((5, 6), {}), "RuntimeError: at rtsp://me:pw@cam/a\x1b[2J", 3)
    one_bus.bury("alerting", "yard", Entry((5, 7), {}), "ValueError", 3)
    lines = ask(one_bus, tmp_path, "dead", "list").out.splitlines()
    assert len(lines) == 2
    assert "door temporal:m 5-6: RuntimeError: at rtsp://***@cam/a" in lines[0]
    assert lines[0].isprintable()
    (only,) = ask(one_bus, tmp_path, "dead", "list", "--camera", "yard").out.splitlines()
    assert ask(one_bus, tmp_path, "dead", "drop", only.split()[0]).out == "dropped: 1\n"
    assert ask(one_bus, tmp_path, "dead", "drop").code == 2
    assert ask(one_bus, tmp_path, "dead", "drop", "x").code == 2
    assert ask(one_bus, tmp_path, "dead", "drop", "--all").out == "dropped: 1\n"
