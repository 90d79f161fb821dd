"""Reads a live camera: one connection to it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from stages.decode.containers.opening import open_address, picture_stream, reason
from stages.decode.frames import DamageGate, Scaler, packets
from stages.decode.settings import DecodeSettings, Heartbeat
from stages.decode.snippets import DecodedFrame
from stages.decode.source import Source
from stages.decode.sources.kinds import DEVICE
from stages.errors import SourceError

KEYFRAME_WAIT_S = 60.0
"""A camera that sends no keyframe for so long is told of, rather than watched in silence."""


@contextmanager
def opened(
    source: Source,
    settings: DecodeSettings,
    heartbeat: Heartbeat,
    elapsed_s: Callable[[], float],
    stopping: Callable[[], bool],
) -> Iterator[Iterator[DecodedFrame]]:
    """The camera's pictures from its first keyframe on. `heartbeat` and `stopping` are called for every packet.

    Raises SourceError if it cannot be opened; the pictures raise one for a read that blocks for `read_timeout_s`, a
    lost connection, no keyframe for a minute, packets of which none can be decoded for `read_timeout_s`.
    """
    with _open(source, settings) as container:
        heartbeat()
        stream = picture_stream(container, source)
        # Threads by frame would hold back as many frames as there are threads.
        stream.thread_type = "SLICE"
        stream.codec_context.thread_count = settings.threads or 1
        with closing(_pictures(container, stream, settings, elapsed_s, heartbeat, stopping)) as pictures:
            yield pictures


def _open(source: Source, settings: DecodeSettings) -> InputContainer:
    scheme = source.uri.partition("://")[0].lower()
    # Nobody asks for the frame rate, and measuring it takes seconds. Not FFmpeg's nobuffer: it discards what it probed.
    options = {"fpsprobesize": "0"}
    if scheme in ("rtsp", "rtsps", "http", "https"):
        # Also for sockets that block where PyAV's time limit does not reach. Called stimeout before FFmpeg 5.
        options["timeout"] = str(round(settings.read_timeout_s * 1e6))
    if scheme in ("rtsp", "rtsps"):
        options |= {"rtsp_transport": settings.transport, "allowed_media_types": "video"}
    container = "v4l2" if DEVICE.match(source.uri) else None
    return open_address(source, options, container, settings.open_timeout_s, settings.read_timeout_s)


def _pictures(
    container: InputContainer,
    stream: VideoStream,
    settings: DecodeSettings,
    elapsed_s: Callable[[], float],
    heartbeat: Heartbeat,
    stopping: Callable[[], bool],
) -> Generator[DecodedFrame, None, None]:
    scaler, gate = None, DamageGate()
    last_s: float | None = None  # of the first keyframe, then of the latest picture
    for packet in _packets(container, stream, settings):
        heartbeat()
        if stopping():
            return
        if last_s is None and packet.is_keyframe:
            last_s = elapsed_s()
        if last_s is None:
            if elapsed_s() > KEYFRAME_WAIT_S:
                raise SourceError(f"no keyframe within {KEYFRAME_WAIT_S:g} s; shorten the camera's I-frame interval")
            continue
        frames = _decoded(stream, packet, gate)
        if not frames and elapsed_s() - last_s > settings.read_timeout_s:
            raise SourceError(f"sends data, but for {settings.read_timeout_s:g} s no picture in it can be decoded")
        for frame in frames:
            scaler = scaler or Scaler(frame, settings.height, stream.sample_aspect_ratio)
            last_s = elapsed_s()
            yield DecodedFrame(time_s=last_s, pixels=partial(_pixels, scaler, frame), fault=gate.fault(frame))


def _packets(container: InputContainer, stream: VideoStream, settings: DecodeSettings) -> Iterator[av.Packet]:
    try:
        yield from packets(container, stream)
    except av.ExitError:
        raise SourceError(f"nothing received for {settings.read_timeout_s:g} s") from None
    except av.FFmpegError as error:
        raise SourceError(f"connection lost ({reason(error)})") from error


def _pixels(scaler: Scaler, frame: av.VideoFrame) -> np.ndarray:
    try:
        return scaler.pixels(frame)
    except av.FFmpegError as error:
        raise SourceError(f"a picture cannot be scaled ({reason(error)})") from error


def _decoded(stream: VideoStream, packet: av.Packet, gate: DamageGate) -> list[av.VideoFrame]:
    # Not FFmpeg's discardcorrupt: it would drop the packet without a word, and the smear after it would be scored.
    if packet.is_corrupt:
        gate.shut()
        return []
    try:
        return stream.decode(packet)
    except av.FFmpegError:
        gate.shut()
        return []
