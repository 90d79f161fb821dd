"""Decode stage: sources of any kind to snippets, gaps and the end of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing

from stages.decode.settings import DecodeSettings as DecodeSettings
from stages.decode.settings import Heartbeat, no_heartbeat
from stages.decode.snippets import Allocate, DecodeOutput, Run, SnippetBuilder, allocate_new
from stages.decode.source import Source
from stages.decode.sources.registry import SOURCES, Reader
from stages.errors import SourceError
from stages.messages import Prior
from stages.plugins import load


def read_messages(
    source: Source,
    settings: DecodeSettings,
    run_ms: int,
    clock: Callable[[], float],
    heartbeat: Heartbeat = no_heartbeat,
    *,
    skip_until_seq: int = 0,
    allocate: Allocate = allocate_new,
) -> Generator[DecodeOutput, None, None]:
    """Every snippet and gap of a recording, then its End. Memory does not grow with its length.

    `clock` gives unix seconds and fills in `made_ms`; all else is the same, byte for byte, however often it is read.
    Messages with seq < `skip_until_seq` are not yielded, and their pictures not converted, which saves about half.
    `heartbeat` is called for every packet or picture file that is read, whether or not a message comes of it.
    What can be decoded of a damaged file is; `End.status` says in one line what was wrong.
    `allocate` may return the same memory again: use a message before asking for the next one.
    Closing the iterator closes the file. Raises SourceError if it cannot be opened or holds no picture.
    """
    if source.live:
        raise ValueError(f"{source.redacted} is live; read it with read_live")
    run = Run(camera=source.camera, run_ms=run_ms)
    builder = SnippetBuilder(
        run,
        clock,
        snippet_frames=settings.snippet_frames,
        fps=settings.fps,
        skip_until_seq=skip_until_seq,
        allocate=allocate,
    )
    reader = open_recording(source, settings, heartbeat)
    with closing(reader.pictures()) as pictures:
        for picture in pictures:
            yield from builder.add(picture)
    yield from builder.end(reader.status)


def open_recording(source: Source, settings: DecodeSettings, heartbeat: Heartbeat = no_heartbeat) -> Reader:
    """What reads a source that is not live. Raises ConfigError for a kind that is not installed here."""
    reader: Reader = load(SOURCES.get(source.kind).read)(source, settings, heartbeat)
    return reader


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
    Raises SourceError if the camera cannot be opened (nothing was yielded then), or fails or ends (after the End).
    """
    began_s = monotonic()
    heartbeat()
    run = Run(camera=source.camera, run_ms=run_ms, live=True, prior=prior)
    builder = SnippetBuilder(run, clock, snippet_frames=settings.snippet_frames, fps=settings.fps)
    opened = load(SOURCES.get(source.kind).read)
    with opened(source, settings, heartbeat, lambda: max(0.0, monotonic() - began_s), stopping) as pictures:
        try:
            for picture in pictures:
                yield from builder.add(picture)
        except SourceError as error:
            failure = str(error)
        else:
            failure = "" if stopping() else "the camera ended the stream"
    yield from builder.end(f"disconnected: {failure}" if failure else "stopped")
    if failure:
        raise SourceError(f"{source.redacted}: {failure}; check the camera and the network")
