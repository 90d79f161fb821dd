"""A camera's decoder while Redis is slow, away, or refuses: what it decoded stays in the account."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from makers import PRIOR, end, snippet, spec

from pipeline.backoff import Backoff, Restarts
from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from pipeline.ingest.camera import QUEUED, LiveCamera, PublishThread
from pipeline.ingest.publish import Publisher
from stages.errors import SourceError
from stages.messages import Message


class SlowPublisher:
    """Publishes nothing before it may; then fails if it is to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.may = threading.Event()
        self.failure = failure
        self.published: list[Message] = []

    def publish(self, message: Message, *_: Any) -> None:
        assert self.may.wait(20)
        if self.failure is not None:
            raise self.failure
        self.published.append(message)


def test_whatever_ends_the_publishing_ends_the_decoder() -> None:
    publisher = SlowPublisher(ValueError("not to be encoded"))
    queued = PublishThread(publisher)  # type: ignore[arg-type]
    queued.put(snippet(0, live=True), {}, {})
    publisher.may.set()
    queued._thread.join(20)
    with pytest.raises(ValueError, match="not to be encoded"):
        queued.put(snippet(1, live=True), {}, {})


def test_the_oldest_frames_are_dropped_but_never_the_end_that_tells_of_them() -> None:
    publisher = SlowPublisher()
    queued = PublishThread(publisher)  # type: ignore[arg-type]
    run = [snippet(n, live=True) for n in range(3)] + [end(3, live=True)]
    later = [snippet(n, live=True, run_ms=run[0].run_ms + 9) for n in range(9)]
    for message in run + later:
        queued.put(message, {}, {})
    publisher.may.set()
    queued.close(20)
    kept = (
        publisher.published if publisher.published[0] is not run[0] else publisher.published[1:]
    )  # it may have been on its way
    assert kept == [run[-1], *later[-QUEUED:]]


def test_a_camera_that_drops_while_redis_is_away_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def no_camera(source: object, settings: object, run_ms: int, *_: object, **__: object) -> None:
        opened.append(run_ms)
        raise SourceError("it is not there")

    monkeypatch.setattr("stages.decode.read.read_live", no_camera)
    ahead = PRIOR.__class__(run_ms=99_000_000_000_000, frames=7, down_s=0.0)
    with EmbeddedServer(memory_mb=64) as server:
        bus = Bus(connect(server.url), Keys())
        publisher = Publisher(bus, spec(live=True), "d:1", lambda: None)
        camera = LiveCamera(publisher, "rtsp://127.0.0.1:9/x", ahead, 0, lambda: False)
    assert camera.one_run(Restarts(Backoff(1, 60))) == "it is not there"
    assert opened == [ahead.run_ms + 1], "an id must lie behind the earlier ones, though Redis cannot say them"
    assert not camera.opened
    bus.client.close()
