"""Decode stage: a camera to snippets. One call is one run; whoever calls reconnects."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from stages.decode.containers.opening import open_address, packets, picture_stream, reason
from stages.decode.frames import DamageGate, Scaler
from stages.decode.settings import DecodeSettings, Heartbeat, no_heartbeat
from stages.decode.snippets import DecodedFrame, DecodeOutput, Run, SnippetBuilder
from stages.decode.source import DEVICE, Source
from stages.errors import SourceError
from stages.messages import Prior

KEYFRAME_WAIT_S = 60.0
"""A camera that sends no keyframe for so long is told of, rather than watched in silence."""


def never() -> bool:
    """Do not stop."""
    return False


def read_live(
    source: Source,
    settings: DecodeSettings,
    run_ms: int,
    clock: Callable[[], float],
    heartbeat: Heartbeat = no_heartbeat,
    *,
    prior: Prior | None = None,
    stopping: Callable[[], bool] = never,
    monotonic: Callable[[], float] = time.monotonic,
) -> Generator[DecodeOutput, None, None]:
    """Snippets and gaps as they fill, until the camera fails or `stopping`; then the partial last one and the End.

    `times_s` are seconds from this call to each frame's arrival, so `run_ms` + `times_s` is the time of day; the
    camera's own timestamps are not used. `clock` gives unix seconds, for `made_ms`. `heartbeat` is called before
    opening, after it, and for every packet; `stopping` is asked for every packet. Nothing before the first keyframe
    is decoded. After damage, frames are a gap until the next keyframe.
    Whoever iterates must keep up: what is not fetched piles up in the socket and then at the camera.
    Raises SourceError if the camera cannot be opened (nothing was yielded then), or fails (after the End): a read
    that blocks for `read_timeout_s`, a lost connection, an ended stream, no keyframe for a minute,
    packets of which none can be decoded for `read_timeout_s`.
    """
    began_s = monotonic()
    heartbeat()
    run = Run(camera=source.camera, run_ms=run_ms, live=True, prior=prior)
    builder = SnippetBuilder(run, clock, snippet_frames=settings.snippet_frames, fps=settings.fps)
    failure = None
    with _open(source, settings) as container:
        heartbeat()
        stream = picture_stream(container, source)
        # Threads by frame would hold back as many frames as there are threads.
        stream.thread_type = "SLICE"
        stream.codec_context.thread_count = settings.threads or 1
        elapsed_s = partial(_since, began_s, monotonic)
        with closing(_pictures(container, stream, settings, elapsed_s, heartbeat, stopping)) as pictures:
            try:
                for picture in pictures:
                    yield from builder.add(picture)
            except av.FFmpegError as error:
                failure = _why(error, settings)
            except SourceError as error:
                failure = str(error)
            else:
                failure = "" if stopping() else "the camera ended the stream"
    yield from builder.end(f"disconnected: {failure}" if failure else "stopped")
    if failure:
        raise SourceError(f"{source.redacted}: {failure}; check the camera and the network")


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
    for packet in packets(container, stream):
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
            yield DecodedFrame(time_s=last_s, pixels=partial(scaler.pixels, frame), fault=gate.fault(frame))


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


def _since(began_s: float, monotonic: Callable[[], float]) -> float:
    return max(0.0, monotonic() - began_s)


def _why(error: Exception, settings: DecodeSettings) -> str:
    if isinstance(error, av.ExitError):
        return f"nothing received for {settings.read_timeout_s:g} s"
    return f"connection lost ({reason(error)})"
