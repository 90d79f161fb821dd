"""A decoder process for a live camera: one run after another, for weeks."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import redis

from pipeline.backoff import Backoff, Restarts
from pipeline.bus.streams import OUTAGE, Bus
from pipeline.cameras.repair import decoder_state
from pipeline.cameras.spec import CameraSpec
from pipeline.ingest.publish import Beat, Publisher
from pipeline.pixels.writer import FrameWriter
from stages.errors import SourceError
from stages.messages import Message, Prior
from stages.stage import number

log = logging.getLogger(__name__)

RECONNECT = Backoff(1.0, 60.0)
QUEUED = 4
"""Messages with frames that wait while Redis is slow; beyond, the oldest is dropped (its frames: a gap, `behind`)."""


class PublishThread:
    """Publishes from a thread, so that the camera is always read: what it sends must not pile up in sockets."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._queue: deque[tuple[Message, dict[str, int], dict[str, str]]] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def put(self, message: Message, state: dict[str, int], health: dict[str, str]) -> None:
        """Queue a message; never waits. Raises what ended the thread: LeaseLost once another decoder has the camera."""
        if self._failure is not None:
            raise self._failure
        with self._ready:
            self._queue.append((message, state, health))
            # An End without frames stays: it says how many its run had, even if all else of the run is dropped.
            droppable = [i for i, (queued, _, _) in enumerate(self._queue) if len(queued.times_s)]
            if len(droppable) > QUEUED:
                del self._queue[droppable[0]]
            self._ready.notify()

    def close(self, limit_s: float) -> None:
        """Publish what is queued, for at most `limit_s`."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join(limit_s)

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                message, state, health = self._queue.popleft()
            try:
                self._publisher.publish(message, state, health)
            except Exception as error:
                self._failure = error
                return


def publish_camera(
    bus: Bus, spec: CameraSpec, token: str, beat: Beat, uri: str, frames: FrameWriter | None = None
) -> None:  # fmt: skip
    """Watch a camera until SIGTERM, reconnecting with back-off; each connection is a new run.

    Raises LeaseLost when another decoder has taken it over.
    """
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    publisher = Publisher(bus, spec, token, beat, frames)
    saved = decoder_state(bus, spec)
    last = None
    if number(saved, "run_ms") >= 0:
        last = Prior(run_ms=number(saved, "run_ms"), frames=number(saved, "next_frame", 0), down_s=0.0)
    camera = LiveCamera(publisher, uri, last, number(saved, "last_ms", 0), stopped.is_set)
    restarts = Restarts(RECONNECT)
    offline_ms = 0
    while not stopped.is_set():
        problem = camera.one_run(restarts)
        if stopped.is_set():
            break
        if camera.opened or not offline_ms:
            offline_ms = round(time.time() * 1000)
        wait_s = restarts.ended(time.monotonic())
        log.warning("%s: %s; trying again in %.0f s", spec.camera, problem, wait_s)
        publisher.note(status="offline", error=problem, offline_ms=str(offline_ms))
        until = time.monotonic() + wait_s
        while time.monotonic() < until and not stopped.wait(0.2):
            beat()
    camera.close()
    publisher.note(status="stopped")


class LiveCamera:
    """Opens a camera again and again, and remembers what the last run left."""

    def __init__(
        self, publisher: Publisher, uri: str, last: Prior | None, last_ms: int, stopping: Callable[[], bool]
    ) -> None:
        """`last`: the run before, its `down_s` still unknown; `last_ms`: when its last frame came, unix ms."""
        self._publisher = publisher
        self._uri = uri
        self._last = last
        self._last_ms = last_ms
        self._stopping = stopping
        self._queued = PublishThread(publisher)
        self.opened = False
        """Whether a picture came in the run that ended last."""

    def one_run(self, restarts: Restarts) -> str:
        """From opening to the end of the connection; returns why it ended."""
        from stages.decode.read import read_live
        from stages.decode.source import live_source

        spec = self._publisher.spec
        run_ms = self._next_run_ms()
        prior, self.opened = self._last, False
        try:
            messages = read_live(
                live_source(self._uri, spec.camera), spec.decode_settings, run_ms, time.time, self._publisher.beat,
                stopping=self._stopping,
            )  # fmt: skip
            with closing(messages):
                for message in messages:
                    if not self.opened:
                        self.opened = True
                        restarts.began(time.monotonic())
                        self._publisher.note(status="online", error="")
                        if prior is not None and len(message.times_s):
                            down_ms = run_ms + message.times_s[0] * 1000 - self._last_ms
                            prior = replace(prior, down_s=max(0.0, round(float(down_ms) / 1000, 3)))
                    self._put(replace(message, prior=prior))
        except SourceError as error:
            return str(error)
        return "the stream ended"

    def _next_run_ms(self) -> int:
        """A run's id must lie behind all earlier ones, even if the clock was set back."""
        known_ms = self._last.run_ms if self._last else 0
        try:
            known_ms = max(known_ms, self._publisher.bus.last_id(self._publisher.stream)[0])
        except (redis.RedisError, *OUTAGE) as error:
            log.debug("%s: Redis cannot say which runs there were: %s", self._publisher.spec.camera, error)
        return max(round(time.time() * 1000), known_ms + 1)

    def close(self) -> None:
        """Publish what is still queued."""
        self._queued.close(5.0)

    def _put(self, message: Message) -> None:
        if len(message.times_s):
            self._last_ms = message.run_ms + round(float(message.times_s[-1]) * 1000)
        self._last = Prior(run_ms=message.run_ms, frames=message.next_frame, down_s=0.0)
        state = {"run_ms": message.run_ms, "next_frame": message.next_frame, "last_ms": self._last_ms}
        self._queued.put(message, state, {"last_frame_ms": str(self._last_ms), "run_ms": str(message.run_ms)})
