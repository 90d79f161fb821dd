"""Sub-sampled H.264: pictures that are neither kept nor built upon need not be decoded, only counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

import av
from av.video.stream import VideoStream

from stages.decode.timeline import slot, stamp_s

WAITING = 256
"""Packets without a picture between them that is shown, after which the order is given up."""
RECENT = 32
"""Packets among which an earlier one for the same point of the grid is looked for."""
SLICE, SEI, DELIMITER, FILLER = 1, 6, 9, 12


class OutOfOrder(Exception):
    """The pictures are not those of the packets, one by one, in the order of their timestamps."""


class Sparing:
    """Decides for each packet of a file, in the order read, and tells where the spared ones belong.

    A packet is spared if no other picture builds on its own (H.264 says so), and an earlier frame is nearest to the
    same point of the grid of `fps`; so what is kept, and every frame's number and time, is what it would be if all
    were decoded. Relies on one picture a packet, with a timestamp, and checks that: raises OutOfOrder else, always
    before a picture out of place is given out.
    """

    def __init__(self, stream: VideoStream, fps: float) -> None:
        extradata = stream.codec_context.extradata or b""
        # ISO 14496-15: the header of MP4 and Matroska begins with 1 and tells how long the lengths of units are.
        self._length_bytes = (extradata[4] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > 4 else 0
        self._time_base = stream.time_base
        self._fps = fps
        self._start: int | None = None
        self._shown: int | None = None
        self._recent: deque[tuple[int, int]] = deque(maxlen=RECENT)  # (pts, point of the grid)
        self._waiting: list[tuple[int, bool]] = []  # heap of (pts, whether it is spared), not shown yet

    def note(self, packet: av.Packet) -> bool:
        """Take the next packet; whether it is spared."""
        pts = packet.pts
        if self._start is None and pts is not None and packet.is_keyframe:
            self._start = pts
        if pts is None or self._start is None or packet.is_discard or packet.is_corrupt or pts < self._start:
            raise OutOfOrder
        if (self._shown is not None and pts <= self._shown) or len(self._waiting) == WAITING:
            raise OutOfOrder
        point = slot((stamp_s(pts, self._time_base) or 0.0) - (stamp_s(self._start, self._time_base) or 0.0), self._fps)
        wanted = not any(earlier < pts and same == point for earlier, same in self._recent)
        spared = not wanted and _unreferenced(bytes(packet), self._length_bytes)
        self._recent.append((pts, point))
        heappush(self._waiting, (pts, spared))
        return spared

    def before(self, pts: int | None) -> Iterator[int]:
        """The pts of the spared pictures that are shown before the decoded one at `pts`; None: all that are left."""
        if pts is None:
            yield from self._until(float("inf"))
            return
        yield from self._until(pts)
        if not self._waiting or heappop(self._waiting) != (pts, False):
            raise OutOfOrder
        self._shown = pts

    def _until(self, pts: float) -> Iterator[int]:
        while self._waiting and self._waiting[0][0] < pts:
            earlier, spared = heappop(self._waiting)
            if not spared:
                raise OutOfOrder
            self._shown = earlier
            yield earlier


def sparing(stream: VideoStream, fps: float | None) -> Sparing | None:
    """What can be spared of a stream of which `fps` are kept; None: nothing."""
    usable = fps is not None and stream.codec_context.name == "h264" and stream.time_base
    return Sparing(stream, fps) if usable and fps is not None else None


def _unreferenced(data: bytes, length_bytes: int) -> bool:
    """Whether a packet holds one picture's slices, marked as not referred to, and nothing else of consequence."""
    units = _lengthed(data, length_bytes) if length_bytes else _delimited(data)
    slices = 0
    for header in units:
        kind, referred = header & 31, header & 96
        if kind not in (SLICE, SEI, DELIMITER, FILLER) or (kind == SLICE and referred):
            return False
        slices += kind == SLICE
    return slices > 0


def _lengthed(data: bytes, length_bytes: int) -> Iterator[int]:
    """The first byte of each unit of an MP4 or Matroska packet."""
    at = 0
    while at + length_bytes < len(data):
        yield data[at + length_bytes]
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")


def _delimited(data: bytes) -> Iterator[int]:
    """The first byte of each unit of a packet with start codes."""
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        yield data[at + 3]
        at = data.find(b"\0\0\1", at + 3)
