"""Sub-sampled H.264: non-reference frames that sub-sampling drops are counted, not decoded (`skip_frame=nonref`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

import av
from av.video.stream import VideoStream

from stages.decode.timestamps import grid_point, stamp_s

WAITING = 256
"""Packets without a picture between them that is shown, after which the order is given up."""
RECENT = 32
"""Packets among which an earlier one for the same point of the grid is looked for."""
LEAP_S = 5.0
"""From one packet's stamp to the next: after more than this, times may not follow the stamps."""
SLICE, SEI, DELIMITER, FILLER = 1, 6, 9, 12


class OutOfOrder(Exception):
    """The pictures are not those of the packets, one by one, in the order of their timestamps."""


class NonRefSkipper:
    """Says of each packet of a file, in decoding order, whether to skip it, and where the skipped ones are shown.

    A packet is skipped if no other picture refers to it (`nal_ref_idc` is 0), and an earlier frame is nearest to the
    same point of the grid of `fps`; so what is kept, and every frame's number and time, is what it would be if all
    were decoded. Relies on one picture a packet, with a timestamp, and checks that: raises OutOfOrder otherwise,
    always before a picture out of place is yielded.
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
        self._waiting: list[tuple[int, bool]] = []  # heap of (pts, whether it is skipped), not shown yet

    def skips(self, packet: av.Packet) -> bool:
        """Whether the next packet need not be decoded. Raises OutOfOrder."""
        pts = packet.pts
        if self._start is None and pts is not None and packet.is_keyframe:
            self._start = pts
        if pts is None or self._start is None or packet.is_discard or packet.is_corrupt or pts < self._start:
            raise OutOfOrder
        if (self._shown is not None and pts <= self._shown) or len(self._waiting) == WAITING or self._leaps(pts):
            raise OutOfOrder
        point = grid_point(
            (stamp_s(pts, self._time_base) or 0.0) - (stamp_s(self._start, self._time_base) or 0.0), self._fps
        )
        wanted = not any(earlier < pts and same == point for earlier, same in self._recent)
        skipped = not wanted and _is_nonref(bytes(packet), self._length_bytes)
        self._recent.append((pts, point))
        heappush(self._waiting, (pts, skipped))
        return skipped

    def _leaps(self, pts: int) -> bool:
        """Whether the time of this picture may not be what its stamp says."""
        if not self._recent or self._time_base is None:
            return False
        return abs(pts - self._recent[-1][0]) * self._time_base > LEAP_S or any(pts == at for at, _ in self._recent)

    def skipped_before(self, pts: int | None) -> Iterator[int]:
        """The pts of the skipped pictures that are shown before the decoded one at `pts`; None: all that are left."""
        if pts is None:
            yield from self._until(float("inf"))
            return
        yield from self._until(pts)
        if not self._waiting or heappop(self._waiting) != (pts, False):
            raise OutOfOrder
        self._shown = pts

    def _until(self, pts: float) -> Iterator[int]:
        while self._waiting and self._waiting[0][0] < pts:
            earlier, skipped = heappop(self._waiting)
            if not skipped:
                raise OutOfOrder
            self._shown = earlier
            yield earlier


def nonref_skipper(stream: VideoStream, fps: float | None) -> NonRefSkipper | None:
    """A skipper for a stream of which `fps` are kept; None where every packet must be decoded."""
    usable = fps is not None and stream.codec_context.name == "h264" and stream.time_base
    return NonRefSkipper(stream, fps) if usable and fps is not None else None


def _is_nonref(data: bytes, length_bytes: int) -> bool:
    """Whether a packet holds slices of a non-reference picture and nothing else that decoding depends on."""
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
