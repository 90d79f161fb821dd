"""A full Redis gives back what nobody needs, and everything goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from makers import announce, features, snippet, spec
from toys import turn_until, worker

from pipeline.bus.codec import Bound, decode
from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from pipeline.cameras.spec import CameraSpec
from pipeline.ingest.publish import Publisher
from stages.messages import Snippet

GROUP = "features:motion"
TOKEN = "decoder:1"
MIB = 2**20


@pytest.fixture
def bus(server: EmbeddedServer) -> Iterator[Bus]:
    """On a server that may be filled."""
    with EmbeddedServer(binary=server.binary, memory_mb=256) as own:
        client = connect(own.url)
        yield Bus(client, Keys("own"))
        client.close()


@pytest.fixture(autouse=True)
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are noted, not waited."""
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        assert len(waited) < 20, "it waits for ever"

    monkeypatch.setattr("pipeline.ingest.publish.time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("pipeline.workers.loop.POLL_S", 0.004)
    monkeypatch.setattr("pipeline.workers.loop.FULL_POLL_S", 0.002)
    return waited


def large(seq: int, live: bool = False) -> Snippet:
    """A snippet of 3 MiB."""
    return replace(snippet(seq, live=live), pixels=np.zeros((4, 512, 512, 3), np.uint8))


def publisher_for(bus: Bus, entry: CameraSpec) -> Publisher:
    announce(bus, entry)
    bus.client.set(bus.keys.lease("cam", "decode"), TOKEN)
    return Publisher(bus, entry, TOKEN, lambda: None)


def stream_of(bus: Bus, kind: str = "snippets") -> str:
    return bus.keys.stream("cam", kind)


def seqs(bus: Bus, kind: str = "snippets") -> list[int]:
    return [decode(fields).seq for _, fields in bus.client.xrange(stream_of(bus, kind))]


def read_all(bus: Bus) -> None:
    """The readers keep up."""
    while found := bus.read_new([(stream_of(bus), GROUP)], 0):
        for (stream, group), entry in found.items():
            bus.client.xack(stream, group, entry.id_text)


def fill(bus: Bus, too_much: int = MIB) -> None:
    """Let the server hold `too_much` bytes more than it may."""
    bus.client.config_set("maxmemory", int(bus.client.info("memory")["used_memory"]) - too_much)


@pytest.mark.parametrize("live", [True, False], ids=["camera", "file"])
def test_what_has_been_read_makes_room_for_the_next_snippet(bus: Bus, sleeps: list[float], live: bool) -> None:
    publisher = publisher_for(bus, spec(live=live, stream_mb=100))
    for n in range(3):
        publisher.publish(large(n, live), {"next_frame": n})
    read_all(bus)
    fill(bus)
    publisher.publish(large(3, live), {"next_frame": 3})
    assert seqs(bus) == [3]
    assert sleeps == []


def test_a_camera_whose_readers_are_behind_loses_its_oldest(
    bus: Bus, sleeps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    publisher = publisher_for(bus, spec(live=True, stream_mb=100))
    for n in range(4):
        publisher.publish(large(n, True), {"next_frame": n})
    fill(bus)
    with caplog.at_level(logging.WARNING):
        for n in range(4, 8):
            publisher.publish(large(n, True), {"next_frame": n})
    assert seqs(bus)[-1] == 7
    assert 0 not in seqs(bus)
    assert len(caplog.records) == 1
    assert "Redis is full; dropping its oldest snippets" in caplog.text


def test_a_file_whose_readers_are_behind_waits_and_loses_nothing(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = publisher_for(bus, spec(stream_mb=100))
    for n in range(2):
        publisher.publish(large(n), {"next_frame": n})
    fill(bus)
    waits: list[list[int]] = []

    def sleep(_: float) -> None:
        waits.append(seqs(bus))
        assert len(waits) < 20, "it waits for ever"
        if len(waits) == 5:
            read_all(bus)

    monkeypatch.setattr("pipeline.ingest.publish.time", SimpleNamespace(sleep=sleep))
    publisher.publish(large(2), {"next_frame": 2})
    assert waits == [[0, 1]] * 5
    assert seqs(bus) == [2]


def test_a_camera_keeps_only_what_is_unread(bus: Bus) -> None:
    publisher = publisher_for(bus, spec(live=True))
    for n in range(4):
        publisher.publish(snippet(n, live=True), {"next_frame": n})
        if n < 3:
            read_all(bus)
    assert seqs(bus) == [3]


def test_a_cameras_streams_downstream_are_trimmed_now_and_then(bus: Bus) -> None:
    publisher = publisher_for(bus, spec(live=True))
    workers = [worker(bus, stage) for stage in ("features", "temporal", "alerting")]
    for n in range(40):
        publisher.publish(snippet(n, live=True), {"next_frame": n})
        turn_until(lambda n=n: bus.last_id(stream_of(bus, "scores"))[1] == n, *workers)
    assert len(seqs(bus, "features:motion")) <= 16
    assert len(seqs(bus, "scores:novelty")) <= 16
    assert len(seqs(bus, "scores")) == 40  # has no groups: for anyone to read


def test_a_worker_makes_room_for_its_output(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """The file's decoder has gone: nobody else would trim what has been read."""
    publisher = publisher_for(bus, spec(stream_mb=100))
    for n in range(3):
        publisher.publish(large(n), {"next_frame": n})
    one = worker(bus, GROUP.partition(":")[0])
    turn_until(lambda: seqs(bus, GROUP) == [0, 1], one)
    fill(bus, 9 * MIB // 2)  # more than the server's buffers of clients may still give back, less than two snippets
    with caplog.at_level(logging.WARNING):
        turn_until(lambda: seqs(bus, GROUP) == [0, 1, 2], one)
    assert seqs(bus) == [2]
    assert caplog.text.count("Redis is full") == 1


def test_a_live_stream_that_nobody_acknowledges_gives_its_older_half(bus: Bus) -> None:
    lease = ("own:lease", "me")
    bus.client.set(*lease)
    entry, out = spec(live=True), stream_of(bus, "scores")
    assert not bus.make_room(out, drop_unread=True)
    for n in range(5):
        bus.commit(lease, outputs=[(out, features(n), Bound.of(features(n), entry.stream_mb, drop_oldest=entry.live))])
    assert not bus.make_room(out, drop_unread=False)
    assert seqs(bus, "scores") == [0, 1, 2, 3, 4]
    assert bus.make_room(out, drop_unread=True)
    assert seqs(bus, "scores") == [3, 4]
    while bus.make_room(out, drop_unread=True):
        pass
    assert seqs(bus, "scores") == [4]  # the last one stays: what is written next follows it
