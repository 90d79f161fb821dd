"""A decoder process for a live camera: one run after another, for weeks."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from contextlib import closing
from dataclasses import replace

import numpy as np

from pipeline.codec import decode_state, number
from pipeline.backoff import Backoff
from pipeline.bus import Bus
from pipeline.errors import LeaseLost, SourceError
from pipeline.feed import Beat, Feed
from pipeline.messages import End, Message, Prior
from pipeline.spec import CameraSpec

log = logging.getLogger(__name__)

QUEUED = 4
"""Snippets that wait in memory while Redis is slow; beyond, the oldest is dropped (its frames are a gap, `behind`)."""


class Stopped(Exception):
    """The decoder was asked to end."""


class Outbox:
    """Publishes from a thread, so that the camera is always read: what it sends must not pile up in sockets."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._queue: deque[tuple[Message, dict[str, int], dict[str, str]]] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self.lost: LeaseLost | None = None
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def put(self, message: Message, state: dict[str, int], health: dict[str, str]) -> None:
        """Queue a message; never waits. Raises LeaseLost once another decoder has the camera."""
        if self.lost is not None:
            raise self.lost
        with self._ready:
            self._queue.append((message, state, health))
            if len(self._queue) > QUEUED:
                self._queue.popleft()
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
                self._feed.publish(message, state, health)
            except LeaseLost as error:
                self.lost = error
                return


def feed_live(bus: Bus, spec: CameraSpec, token: str, beat: Beat, uri: str) -> None:
    """Watch a camera until SIGTERM, reconnecting with back-off; each connection is a new run.

    Raises LeaseLost when another decoder has taken it over.
    """

    def stop(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    feed = Feed(bus, spec, token, beat)
    saved = decode_state(bus.client.hgetall(feed.state_key))
    last: Prior | None = None
    if number(saved, "run_ms") >= 0:
        last = Prior(run_ms=number(saved, "run_ms"), frames=number(saved, "next_frame", 0), down_s=0.0)
    camera = LiveCamera(feed, uri, last, number(saved, "last_ms", 0), beat)
    backoff = Backoff()
    try:
        while True:
            problem = camera.one_run(backoff)
            wait_s = backoff.failed(time.monotonic())
            log.warning("%s: %s; trying again in %.0f s", spec.camera, problem, wait_s)
            feed.note(status="offline", error=problem, offline_ms=str(round(time.time() * 1000)))
            until = time.monotonic() + wait_s
            while time.monotonic() < until:
                beat()
                time.sleep(0.2)
    except Stopped:
        camera.end_run("stopped")
        feed.note(status="stopped")


class LiveCamera:
    """Opens a camera again and again, and remembers what the last run left."""

    def __init__(self, feed: Feed, uri: str, last: Prior | None, last_ms: int, beat: Beat) -> None:
        self._feed = feed
        self._uri = uri
        self._last = last
        self._last_ms = last_ms
        self._beat = beat
        self._prior: Prior | None = None
        self._outbox = Outbox(feed)
        self._newest: Message | None = None
        """The last message of the open run; None between runs."""

    def one_run(self, backoff: Backoff) -> str:
        """From opening to the end of the connection; returns why it ended."""
        from stages.decode import DecodeSettings
        from stages.live import read_live
        from stages.sources import live_source

        spec = self._feed.spec
        settings = DecodeSettings(
            height=spec.height, snippet_frames=spec.decode.snippet_frames, fps=spec.decode.fps,
            open_timeout_s=spec.decode.open_timeout_s, read_timeout_s=spec.decode.read_timeout_s,
            transport=spec.decode.transport,
        )  # fmt: skip
        # A run's id must lie behind all earlier ones, even if the clock was set back.
        run_ms = max(round(time.time() * 1000), self._feed.bus.last_id(self._feed.stream)[0] + 1)
        problem = "the stream ended"
        self._prior = None
        try:
            source = live_source(self._uri, spec.camera)
            with closing(read_live(source, settings, run_ms, time.time, self._beat)) as messages:
                for message in messages:
                    if isinstance(message, End):
                        problem = message.status if message.status != "complete" else problem
                        continue
                    if self._newest is None:
                        backoff.opened(time.monotonic())
                        self._feed.note(status="online", error="")
                    self._put(message)
        except SourceError as error:
            problem = str(error)
        self.end_run("disconnected")
        return problem

    def _put(self, message: Message) -> None:
        if self._prior is None and self._last is not None:
            first_ms = message.made_ms - message.times_s[-1] * 1000
            self._prior = replace(self._last, down_s=max(0.0, round((first_ms - self._last_ms) / 1000, 3)))
        message = replace(message, prior=self._prior, live=True)
        self._newest = message
        self._last_ms = message.made_ms
        state = {"run_ms": message.run_ms, "next_frame": message.next_frame, "last_ms": message.made_ms}
        self._outbox.put(message, state, {"last_frame_ms": str(message.made_ms), "run_ms": str(message.run_ms)})

    def end_run(self, status: str) -> None:
        """Publish the end of the open run, if there is one."""
        newest, self._newest = self._newest, None
        if newest is None:
            return
        self._last = Prior(run_ms=newest.run_ms, frames=newest.next_frame, down_s=0.0)
        end = End(
            camera=newest.camera, run_ms=newest.run_ms, seq=newest.seq + 1, first_frame=newest.next_frame,
            times_s=np.empty(0), made_ms=newest.made_ms, prior=newest.prior, live=True, status=status,
        )  # fmt: skip
        state = {"run_ms": newest.run_ms, "next_frame": newest.next_frame, "last_ms": newest.made_ms}
        self._outbox.put(end, state, {})
        if status == "stopped":
            self._outbox.close(5.0)
