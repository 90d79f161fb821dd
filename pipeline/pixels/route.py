"""Which way a decoder's pixels go: through shared memory while all that read them are on this host, else inline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

import redis

from pipeline.bus.streams import Bus
from pipeline.cameras.spec import CameraSpec
from pipeline.leases.lease import heartbeats
from pipeline.pixels.memory import host_id, namespace_of, own_folder, shm_root
from pipeline.pixels.writer import FrameWriter

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
SILENT_MS = 20_000
"""A worker that says nothing for so long reads nothing."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class PixelRoute:
    """Follows the heartbeats of the workers that read pixels."""

    def __init__(self, bus: Bus, wanted: Literal["auto", "shared", "inline"], url: str) -> None:
        self._bus = bus
        self._wanted = wanted
        self._url = url
        self._host = host_id() if wanted != "inline" else ""
        if wanted != "inline" and not self._host:
            log.warning(
                "%s is missing or cannot be written to: frames go through Redis, which is slower; mount it, or set "
                "frames.transport: inline", shm_root(),
            )  # fmt: skip
        self._hosts: dict[str, set[str]] = {}
        """Stage -> whose memory its live workers read."""
        self._next_look_s = 0.0

    def look(self, now_s: float) -> None:
        """Ask Redis who is there, now and then."""
        if self._wanted != "auto" or not self._host or now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        now_ms, self._hosts = self._bus.now_ms(), {}
        for beat in heartbeats(self._bus.client, self._bus.keys):
            if now_ms - beat.beat_ms < SILENT_MS:
                self._hosts.setdefault(beat.stage, set()).add(beat.frames)

    def is_shared(self, spec: CameraSpec) -> bool:
        """Whether this camera's pixels can go through shared memory now."""
        if self._wanted != "auto" or not self._host:
            return bool(self._host)
        stages = {group.partition(":")[0] for group in spec.groups("snippets")}
        hosts = set().union(*(self._hosts.get(stage, set()) for stage in stages))
        return hosts == {self._host} or (not hosts and is_local(self._url))

    def writer(self, bus: Bus, spec: CameraSpec, allowed: Callable[[], bool]) -> FrameWriter | None:
        """For a decoder process; None where everything goes inline."""
        if not self._host:
            return None
        try:
            namespace = namespace_of(bus.client, bus.keys, self._url)
        except redis.ResponseError as error:
            log.warning("%s: its pictures go through Redis, which cannot name their memory (%s)", spec.camera, error)
            return None
        return FrameWriter(own_folder() / namespace, self._host, spec.camera, allowed)


def is_local(url: str) -> bool:
    """Whether a Redis is reached in a way that only works on its own host."""
    return url.startswith("unix://") or urlsplit(url).hostname in LOCAL_HOSTS
