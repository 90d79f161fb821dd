"""Reads a video file to its end, whatever its state."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from stages.decode.containers.opening import clock_range_s, open_file, picture_stream, reason
from stages.decode.containers.wholeness import bytes_missing
from stages.decode.frames import DamageGate, Scaler, packets
from stages.decode.nonref import NonRefSkipper, OutOfOrder, nonref_skipper
from stages.decode.promised import Promised
from stages.decode.settings import DecodeSettings, Heartbeat, no_heartbeat
from stages.decode.snippets import DecodedFrame
from stages.decode.source import Source
from stages.decode.timestamps import Timeline, stamp_s
from stages.errors import SourceError
from stages.text import counted

READ_ERRORS = 8
"""Read errors in a row, without a packet between them, after which the rest of a file is given up."""
FILE_THREADS = 4
"""The same on every machine: see DecodeSettings.threads."""
SMALL_PIXELS = 640 * 480
"""Up to here one thread reads thousands of frames a second, and several would only cost more between them."""
HIDDEN_FRAMES = ("vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9")
"""Codecs with packets that show nothing."""


_Untimed = tuple[Callable[[], np.ndarray], str]
"""What converts a picture, and its fault."""


MISSING = "no picture came of its packet"
ONE_A_PACKET = ("h264", "hevc", "mpeg4", "mjpeg", "mpeg2video", "msmpeg4v3", "msmpeg4v2", "flv", "h263")
"""Codecs of which every packet shows a picture, as a rule."""
STARTS_BLIND = ("mpeg4", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "flv", "h263", "mpeg1video", "mpeg2video")
"""Codecs whose decoders show what is built on a picture that was never there."""
SKIPPED_BYTES = 16
"""Packets up to here may say no more than that the last picture stays."""


class _Damage(Exception):
    """Met while decoding on several threads."""


class VideoFile:
    """The pictures of one video file. `status` is valid once they have all been read.

    Several threads lose pictures around damage, how many depends on how many threads. So at the first sign of it
    the file is read again from its beginning on one thread, and what was already given out is passed over. The same
    where packets were skipped and do not come in the order that their packets promised.
    """

    def __init__(self, source: Source, settings: DecodeSettings, heartbeat: Heartbeat = no_heartbeat) -> None:
        self._source = source
        self._settings = settings
        self._heartbeat = heartbeat
        self._given = 0
        self._unread = 0
        self._faulty = 0
        self._missing = 0
        self._left_out = 0
        self._why = ""
        self._last_s = 0.0
        self._early_s = 0.0
        self._joints: list[tuple[int, float]] = []
        self.status = "complete"

    def pictures(self) -> Generator[DecodedFrame, None, None]:
        """Every picture that can be decoded. Raises SourceError if there is none."""
        size = self._size()
        try:
            with closing(self._read()) as pictures:
                for picture in pictures:
                    self._given += 1
                    yield picture
        except (_Damage, OutOfOrder):
            with closing(self._read(again=True)) as pictures:
                for index, picture in enumerate(pictures):
                    if index >= self._given:
                        self._given += 1
                        yield picture
        if self._given <= self._missing:
            why = f" ({self._why})" if self._why else ""
            raise SourceError(f"{self._source.redacted}: not one picture in it can be decoded{why}; fetch it again")
        self.status = self._verdict(size)

    def _read(self, again: bool = False) -> Generator[DecodedFrame, None, None]:
        settings = self._settings
        with open_file(self._source, settings.open_timeout_s, settings.read_timeout_s) as container:
            stream = picture_stream(container, self._source)
            threads = 1 if again else settings.threads or _threads(stream)
            stream.thread_type = "NONE" if threads == 1 else "AUTO"
            stream.codec_context.thread_count = threads
            skipper = None if again else nonref_skipper(stream, settings.fps)
            careful = threads == 1 and skipper is None
            decoder = _Decoder(container, stream, self._heartbeat, skipper, careful)
            timeline = Timeline(1 / float(stream.average_rate or stream.guessed_rate or 25), clock_range_s(container))
            untimed: deque[_Untimed] = deque()
            for pts, untimed_picture in self._untimed(decoder, stream, careful):
                untimed.append(untimed_picture)
                for time_s in timeline.add(stamp_s(pts, stream.time_base)):
                    yield self._timed(untimed.popleft(), time_s)
            for time_s in timeline.end():
                yield self._timed(untimed.popleft(), time_s)
            self._joints = timeline.joints
            self._unread, self._why, self._missing = decoder.unread, decoder.why, decoder.missing
            self._left_out = decoder.left_out
            self._early_s = _early_s(container, self._last_s)

    def _untimed(self, decoder: _Decoder, stream: VideoStream, careful: bool) -> Iterator[tuple[int | None, _Untimed]]:
        aspect = stream.sample_aspect_ratio
        scaler, gate = None, DamageGate()
        if stream.codec_context.name in STARTS_BLIND:
            gate.shut()
        for pts, frame, damaged in decoder.frames(gate):
            if frame is None:
                yield pts, (_not_decoded, MISSING if damaged else "")
                continue
            scaler = scaler or Scaler(frame, self._settings.height, aspect)
            fault = gate.fault(frame, damaged)
            if fault and not careful:
                raise _Damage
            yield pts, (partial(scaler.pixels, frame), fault)

    def _timed(self, untimed: _Untimed, time_s: float) -> DecodedFrame:
        pixels, fault = untimed
        self._last_s = time_s
        self._faulty += bool(fault)
        return DecodedFrame(time_s=time_s, pixels=pixels, fault=fault)

    def _size(self) -> int:
        return 0 if "://" in self._source.uri else _size(self._source.uri)

    def _verdict(self, size: int) -> str:
        if self._size() > size:
            return f"growing: {self._size() - size} bytes were added while it was read; score it again when it is done"
        missing = 0 if "://" in self._source.uri else bytes_missing(Path(self._source.uri))
        if missing:
            return f"truncated: the file ends {counted(missing, 'byte')} early" + self._damage("; ")
        if self._early_s:
            return f"truncated: the file ends {self._early_s:.1f} s early" + self._damage("; ")
        return self._incomplete() or self._damage("damaged: ") or self._jumped() or "complete"

    def _incomplete(self) -> str:
        """Its index has them begin before what was shown: the packets of another recording, joined to the first."""
        if not self._left_out:
            return ""
        left_out = counted(self._left_out, "packet")
        return f"incomplete: {left_out} of a second recording in this file not scored; split it" + self._damage("; ")

    def _jumped(self) -> str:
        if not self._joints:
            return ""
        frame, step_s = self._joints[0]
        first = f"{'back' if step_s <= 0 else 'forward'} by {abs(step_s):.1f} s at frame {frame}"
        more = f", and {counted(len(self._joints) - 1, 'time')} more" if len(self._joints) > 1 else ""
        return f"clock set {first}{more}: times go on there at the frame rate, they are not those of day"

    def _damage(self, lead: str) -> str:
        if not self._unread and not self._faulty:
            return ""
        unread, faulty = self._unread + self._missing, self._faulty - self._missing
        return f"{lead}{counted(unread, 'packet')} cannot be decoded, {counted(faulty, 'picture')} faulty"


class _Decoder:
    """Packets to frames, past whatever cannot be read. Not `careful`: raises _Damage instead."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        heartbeat: Heartbeat,
        skipper: NonRefSkipper | None,
        careful: bool,
    ) -> None:
        self._container = container
        self._stream = stream
        self._heartbeat = heartbeat
        self._skipper = skipper
        self._careful = careful
        self._promised: Promised[tuple[av.VideoFrame, bool]] = Promised()
        self._damaged: set[int] = set()
        self._paired = False
        self._last_dts: int | None = None
        self.missing = 0
        self.left_out = 0
        self.unread = 0
        self.why = ""

    def frames(self, gate: DamageGate) -> Iterator[tuple[int | None, av.VideoFrame | None, bool]]:
        """(pts, frame, whether its packet was damaged) in the order shown; no frame: missing or skipped."""
        index = sent = got = 0
        context = self._stream.codec_context
        context.copy_opaque = True
        counted_on = context.name in ONE_A_PACKET
        for packet in self._packets():
            self._heartbeat()
            if self._skipper and packet.size > 0 and self._skipper.skips(packet):
                continue
            index += 1
            packet.opaque = index
            if packet.size > 0 and packet.is_discard:
                self.left_out += self._last_dts is not None and (packet.dts or 0) <= self._last_dts
            elif packet.size > 0:
                sent += 1
                self._last_dts = packet.dts
                if packet.pts is None or packet.size <= SKIPPED_BYTES:
                    counted_on = counted_on and packet.pts is not None
                elif counted_on:
                    self._promised.sent(index, packet.pts, packet.dts)
            if packet.is_corrupt or (context.name == "mjpeg" and packet.size > 0 and not _has_end(bytes(packet))):
                self._met_damage()
                self._damaged.add(index)
            try:
                frames = self._stream.decode(packet)
            except av.EOFError:
                continue
            except av.FFmpegError as error:
                self._met_damage()
                self.why = reason(error)
                self.unread += not (counted_on and packet.pts is not None)  # else it will be missing
                gate.shut()
                continue
            for frame in frames:
                got += 1
                self._paired = self._paired or frame.interlaced_frame
                if self._skipper:
                    yield from self._skipped_before(frame.pts)
                number = frame.opaque if isinstance(frame.opaque, int) else None
                damaged = number in self._damaged
                yield from self._placed(self._promised.shown(number, (frame, damaged)))
        # PyAV swallows an error while it empties the decoder, and the frames after it.
        if 0 < sent - got <= 64 and context.name not in HIDDEN_FRAMES:
            self._met_damage()
        yield from self._placed(self._promised.end())
        if self._skipper:
            yield from self._skipped_before(None)

    def _placed(
        self, shown: Iterator[tuple[int, tuple[av.VideoFrame, bool] | None]]
    ) -> Iterator[tuple[int | None, av.VideoFrame | None, bool]]:
        for pts, picture in shown:
            if picture is not None:
                yield picture[0].pts, *picture
            elif not self._paired:  # of two fields, each in a packet, one picture comes
                self._met_damage()
                self.missing += 1
                yield pts, None, True

    def _skipped_before(self, pts: int | None) -> Iterator[tuple[int | None, None, bool]]:
        assert self._skipper is not None
        for earlier in self._skipper.skipped_before(pts):
            yield earlier, None, False

    def _packets(self) -> Iterator[av.Packet]:
        errors = 0
        while True:
            try:
                for packet in packets(self._container, self._stream):
                    errors = 0
                    yield packet
                return
            except av.FFmpegError as error:
                self._met_damage()
                self.unread, self.why = self.unread + 1, reason(error)
                errors += 1
                if errors == READ_ERRORS:
                    # The decoder still holds the last pictures.
                    flush = av.Packet()
                    flush.stream = self._stream
                    yield flush
                    return

    def _met_damage(self) -> None:
        if not self._careful:
            raise _Damage


def _threads(stream: VideoStream) -> int:
    return 1 if stream.width * stream.height <= SMALL_PIXELS else FILE_THREADS


def _has_end(data: bytes) -> bool:
    """Whether a JPEG picture's end marker (FFD9) follows its last scan (FFDA)."""
    return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")


def _not_decoded() -> np.ndarray:
    raise AssertionError("a frame that sub-sampling keeps was skipped")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _early_s(container: InputContainer, last_s: float) -> float:
    """Seconds by which the video ends before the container says. Only FLV is believed: others count audio or guess."""
    if container.format.name != "flv" or len(container.streams) > 1 or container.duration is None:
        return 0.0
    early_s = container.duration / av.time_base - last_s
    return early_s if early_s > 2.0 else 0.0
