"""Opens containers, and says in one line why one cannot be opened."""

from __future__ import annotations

import os
import time
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from stages.decode.containers.encrypted import is_encrypted
from stages.decode.containers.wholeness import lacks_index
from stages.decode.containers.without_audio import without_audio
from stages.decode.redact import redact
from stages.decode.source import Source
from stages.errors import SourceError

TEXT_CODECS = ("ansi", "bintext", "idf", "xbin")
"""FFmpeg draws text files as pictures, with these."""

CLOCK_RANGES_S = {"mpegts": 2**33 / 90_000, "mpeg": 2**33 / 90_000, "flv": 2**32 / 1000}
"""Of transport and programme streams (33 bits, ISO 13818-1) and Flash video (32 bits of milliseconds)."""


def open_file(source: Source, open_timeout_s: float, read_timeout_s: float) -> InputContainer:
    """Open a local file or one on a web server. Raises SourceError."""
    if "://" in source.uri:
        return open_address(source, {}, None, open_timeout_s, read_timeout_s)
    try:
        # Python's errors are clear where FFmpeg's are not; and the prefix stops FFmpeg reading `a:b.mp4` as a protocol.
        with open(source.uri, "rb") as f:
            empty = not f.read(1)
        if empty:
            raise SourceError(f"{source.redacted}: the file is empty; delete it or fetch it again")
        if is_encrypted(Path(source.uri)):
            raise SourceError(f"{source.redacted}: is encrypted; decrypt it first, with the key of whoever made it")
        video_only = without_audio(Path(source.uri))
        # A name like `img%03d.jpg` is a name here, not a pattern of others.
        options = {"pattern_type": "none"}
        return av.open(video_only or f"file:{os.path.abspath(source.uri)}", options=options, metadata_errors="replace")
    except IsADirectoryError as error:
        raise SourceError(f"{source.redacted}: is a folder; name it as one, or the videos in it") from error
    except FileNotFoundError as error:
        raise SourceError(f"{source.redacted}: no such file; check the path") from error
    except PermissionError as error:
        raise SourceError(f"{source.redacted}: may not be read by this user; change its permissions") from error
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{source.redacted}: {_not_a_video(source, error)}") from error


def open_address(
    source: Source, options: dict[str, str], container: str | None, open_timeout_s: float, read_timeout_s: float
) -> InputContainer:
    """Open something on a network, or a device. Raises SourceError, within twice `open_timeout_s`."""
    began_s = time.monotonic()
    try:
        return av.open(
            source.uri,
            format=container,
            options=options,
            metadata_errors="replace",
            timeout=(open_timeout_s, read_timeout_s),
        )
    except (av.FFmpegError, OSError) as error:
        late = time.monotonic() - began_s >= 0.95 * open_timeout_s
        why = f"no answer within {open_timeout_s:g} s" if late else reason(error)
        raise SourceError(
            f"{source.redacted}: cannot be opened ({why}); check address, password and network"
        ) from error


def picture_stream(container: InputContainer, source: Source) -> VideoStream:
    """The video stream to decode; cover pictures and drawn text do not count. Raises SourceError."""
    wanted = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not wanted:
        raise SourceError(f"{source.redacted}: holds no video ({_holds(container)}); leave it out")
    best = container.streams.best("video")
    stream = best if best in wanted else wanted[0]
    if stream.codec_context is None:
        raise SourceError(f"{source.redacted}: its codec is not known to this FFmpeg; convert it to H.264")
    if stream.codec_context.name in TEXT_CODECS:
        raise SourceError(f"{source.redacted}: is a text, not a video; leave it out")
    return stream


def clock_range_s(container: InputContainer) -> float | None:
    """Seconds after which the stamps of a format begin again; None where that takes centuries."""
    return CLOCK_RANGES_S.get(container.format.name)


def reason(error: Exception) -> str:
    """What an FFmpeg or system error says, without the address and the password in it."""
    return redact(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _holds(container: InputContainer) -> str:
    kinds = sorted({s.type for s in container.streams})
    return f"only {', '.join(kinds)}" if kinds else "nothing at all"


def _not_a_video(source: Source, error: Exception) -> str:
    if lacks_index(Path(source.uri)):
        return "its index (moov) is missing, the recording was never finished; repair it or record to MKV or TS"
    return f"not a video, or a damaged one ({reason(error)}); try it in a player, or fetch it again"
