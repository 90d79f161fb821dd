"""A decoder's side of the bus: archives wait, cameras do not, trouble with Redis is waited out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from makers import FRAMES, RUN, announce, end, snippet, spec

from pipeline.backoff import JITTER
from pipeline.bus.codec import Bound, decode, decode_state
from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from pipeline.cameras.spec import CameraSpec
from pipeline.ingest.file import count_death, publish_file
from pipeline.ingest.publish import Publisher
from stages.errors import LeaseLost
from stages.messages import End
from stages.stage import number

TOKEN = "decoder:1"


def publisher_for(bus: Bus, entry: CameraSpec, beat: Callable[[], None] = lambda: None) -> Publisher:
    announce(bus, entry)
    bus.client.set(bus.keys.lease(entry.camera, "decode"), TOKEN)
    return Publisher(bus, entry, TOKEN, beat)


def published(bus: Bus, camera: str = "cam") -> list[int]:
    return [decode(f).seq for _, f in bus.client.xrange(bus.keys.stream(camera, "snippets"))]


@pytest.fixture
def own_bus(server: EmbeddedServer) -> Bus:
    """On a server that may be mistreated."""
    with EmbeddedServer(binary=server.binary, memory_mb=64) as own:
        client = connect(own.url)
        yield Bus(client, Keys("own"))
        client.close()


@pytest.fixture(autouse=True)
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits are noted, not waited; a test can hook into them."""
    waited: list[float] = []
    monkeypatch.setattr("pipeline.ingest.publish.time", SimpleNamespace(sleep=waited.append))
    return waited


def test_an_archive_waits_until_its_readers_have_acknowledged(bus: Bus) -> None:
    entry = spec(stream_mb=0.004)
    bound = Bound.of(snippet(0), entry.stream_mb, drop_oldest=entry.live).entries
    beats = []

    def beat() -> None:
        beats.append(1)
        stream = bus.keys.stream("cam", "snippets")
        assert bus.client.xlen(stream) <= bound
        if len(beats) % 5 == 0:  # a slow reader
            for _, got in bus.client.xreadgroup("features:motion", "x", {stream: ">"}, count=1) or []:
                bus.client.xack(stream, "features:motion", got[0][0])

    publisher = publisher_for(bus, entry, beat)
    for n in range(12):
        publisher.publish(snippet(n), {"next_frame": n})
    assert published(bus)[-1] == 11
    assert bus.client.xinfo_groups(bus.keys.stream("cam", "snippets"))[0]["entries-read"] >= 12 - bound


def test_a_camera_never_waits_and_loses_its_oldest(bus: Bus, sleeps: list[float]) -> None:
    entry = spec(live=True, stream_mb=0.004)
    publisher = publisher_for(bus, entry)
    for n in range(30):
        publisher.publish(snippet(n, live=True), {"next_frame": n})
    bound = Bound.of(snippet(0), entry.stream_mb, drop_oldest=entry.live).entries
    assert published(bus) == list(range(30 - bound, 30))
    assert sleeps == []


def test_state_and_health_are_written_with_the_message(bus: Bus) -> None:
    publisher = publisher_for(bus, spec())
    publisher.publish(snippet(0), {"next_frame": 4}, {"status": "online"})
    publisher.remember({"attempts": 2})
    publisher.note(error="none")
    state = decode_state(bus.client.hgetall(bus.keys.state("cam", "decode")))
    assert (number(state, "next_frame"), number(state, "attempts")) == (4, 2)
    assert bus.client.hgetall(bus.keys.health("cam")) == {b"status": b"online", b"error": b"none"}


def test_a_decoder_without_the_lease_writes_nothing_at_all(bus: Bus) -> None:
    publisher = publisher_for(bus, spec())
    bus.client.set(bus.keys.lease("cam", "decode"), "another:1")
    with pytest.raises(LeaseLost):
        publisher.publish(snippet(0), {"next_frame": 4})
    with pytest.raises(LeaseLost):
        publisher.remember({"attempts": 2})
    publisher.note(status="online")
    assert published(bus) == []
    assert not bus.client.exists(bus.keys.state("cam", "decode"), bus.keys.health("cam"))


def trouble_full(bus: Bus) -> Callable[[], None]:
    bus.client.config_set("maxmemory", 1)
    return lambda: bus.client.config_set("maxmemory", 0)


def trouble_readonly(bus: Bus) -> Callable[[], None]:
    bus.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: bus.client.execute_command("REPLICAOF", "NO", "ONE")


def trouble_misconf(bus: Bus) -> Callable[[], None]:
    bus.client.config_set("min-replicas-to-write", 1)
    return lambda: bus.client.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("trouble", [trouble_full, trouble_readonly, trouble_misconf])
@pytest.mark.parametrize("live", [True, False], ids=["camera", "file"])
def test_a_redis_that_cannot_write_is_waited_for(
    own_bus: Bus,
    sleeps: list[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[[Bus], Callable[[], None]],
    live: bool,
) -> None:
    publisher = publisher_for(own_bus, spec(live=live))
    publisher.publish(snippet(0, live=live), {"next_frame": 4})
    relieve = trouble(own_bus)

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        assert len(sleeps) < 20, "it waits for ever"
        if len(sleeps) == 8:
            relieve()

    monkeypatch.setattr("pipeline.ingest.publish.time", SimpleNamespace(sleep=sleep))
    with caplog.at_level(logging.INFO):
        publisher.publish(snippet(1, live=live), {"next_frame": 8})
    assert published(own_bus) == [0, 1]
    assert len(sleeps) == 8
    assert 2.0 * (1 - JITTER) < sleeps[-1] <= 2.0
    assert len(caplog.records) <= 1


def test_an_answer_that_got_lost_does_not_repeat_the_message(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, sleeps: list[float]
) -> None:
    publisher = publisher_for(bus, spec())
    commit = bus.commit
    calls = []

    def deaf(*args: object, **more: object) -> int:
        length = commit(*args, **more)
        calls.append(length)
        if len(calls) == 1:
            raise redis.TimeoutError("no answer")
        return length

    monkeypatch.setattr(bus, "commit", deaf)
    publisher.publish(snippet(0), {"next_frame": 4})
    assert len(calls) == 2
    assert published(bus) == [0]


def test_a_file_that_is_no_video_ends_with_an_error(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("no video")
    entry = spec(source=str(path))
    publisher_for(bus, entry)
    publish_file(bus, entry, TOKEN, lambda: None)
    ((_, fields),) = bus.client.xrange(bus.keys.stream("cam", "snippets"))
    message = decode(fields)
    assert isinstance(message, End)
    assert message.status.startswith("error: ")
    assert number(decode_state(bus.client.hgetall(bus.keys.state("cam", "decode"))), "done") == RUN


def test_a_file_that_keeps_killing_its_decoder_is_given_up(bus: Bus) -> None:
    """Each death at the same place counts, and no decoder may get so far as to say that it failed."""
    entry = spec(source="/nowhere.mp4")
    publisher = publisher_for(bus, entry)
    publisher.publish(snippet(0), {"next_frame": FRAMES})
    for _ in range(entry.max_deliveries):
        count_death(bus, entry, TOKEN)
    publish_file(bus, entry, TOKEN, lambda: None)
    last = decode(bus.client.xrange(bus.keys.stream("cam", "snippets"))[-1][1])
    assert (last.seq, last.first_frame) == (1, FRAMES)
    assert last.status == "error: its decoder died 3 times after frame 4"


def test_getting_further_forgives_earlier_deaths(bus: Bus) -> None:
    entry = spec(source="/nowhere.mp4")
    publisher = publisher_for(bus, entry)
    for _ in range(entry.max_deliveries):
        count_death(bus, entry, TOKEN)
    publisher.publish(snippet(0), {"next_frame": FRAMES})
    publish_file(bus, entry, TOKEN, lambda: None)
    last = decode(bus.client.xrange(bus.keys.stream("cam", "snippets"))[-1][1])
    assert "died" not in last.status


def test_the_end_of_a_run_is_published_like_any_message(bus: Bus) -> None:
    publisher = publisher_for(bus, spec())
    publisher.publish(snippet(0), {"next_frame": 4})
    publisher.publish(end(1), {"next_frame": 4, "done": RUN})
    assert published(bus) == [0, 1]
