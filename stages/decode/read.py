"""Decode stage: archived videos and folders of pictures to snippets. Cameras are in stages/decode/sources/camera.py."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing

from stages.decode.settings import DecodeSettings as DecodeSettings
from stages.decode.settings import Heartbeat, no_heartbeat
from stages.decode.snippets import Allocate, DecodeOutput, Run, SnippetBuilder, allocate_new
from stages.decode.source import Source
from stages.decode.sources.image_folder import ImageFolder
from stages.decode.sources.video_file import VideoFile


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
    """Every snippet and gap of a file or a folder of pictures, then its End. Memory does not grow with its length.

    `clock` gives unix seconds and fills in `made_ms`; all else is the same, byte for byte, however often it is read.
    Messages with seq < `skip_until_seq` are not yielded, and their pictures not converted, which saves about half.
    `heartbeat` is called for every packet or picture file that is read, whether or not a message comes of it.
    What can be decoded of a damaged file is; `End.status` says in one line what was wrong.
    `allocate` may return the same memory again: use a message before asking for the next one.
    Closing the iterator closes the file. Raises SourceError if it cannot be opened or holds no picture.
    """
    if source.kind == "live":
        raise ValueError(f"{source.redacted} is live; read it with stages.decode.sources.camera.read_live")
    run = Run(camera=source.camera, run_ms=run_ms)
    builder = SnippetBuilder(
        run,
        clock,
        snippet_frames=settings.snippet_frames,
        fps=settings.fps,
        skip_until_seq=skip_until_seq,
        allocate=allocate,
    )
    kind = ImageFolder if source.kind == "images" else VideoFile
    reader = kind(source, settings, heartbeat)
    with closing(reader.pictures()) as pictures:
        for picture in pictures:
            yield from builder.add(picture)
    yield from builder.end(reader.status)
