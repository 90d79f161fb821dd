"""A decoder process for an archive file: every frame once, whatever dies on the way."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from pipeline.bus.streams import Bus
from pipeline.cameras.repair import decoder_state
from pipeline.cameras.spec import CameraSpec
from pipeline.ingest.publish import Beat, Publisher
from pipeline.pixels.writer import FrameWriter
from stages.errors import ConfigError, SourceError
from stages.messages import End
from stages.stage import State, number
from stages.text import printable

log = logging.getLogger(__name__)


def publish_file(
    bus: Bus, spec: CameraSpec, token: str, beat: Beat, frames: FrameWriter | None = None
) -> None:  # fmt: skip
    """Publish the file as run `spec.run_ms` to its end; continues behind what an earlier process published.

    A file that cannot be read ends with `error: ...`. One that killed its decoder `max_deliveries` times (see
    `count_death`) without getting further ends so too. Raises LeaseLost when another decoder has taken it over.
    """
    from stages.decode.containers.left_out import left_out
    from stages.decode.containers.probe import frames_promised
    from stages.decode.read import read_messages
    from stages.decode.snippets import allocate_new
    from stages.decode.source import Source

    publisher = Publisher(bus, spec, token, beat, frames)
    done_seq, state = _reached(publisher)
    deaths = _deaths(state, done_seq)
    next_frame = number(state, "next_frame", 0) if done_seq >= 0 else 0
    seq = done_seq + 1
    error = ""
    if deaths >= spec.max_deliveries:
        error = f"its decoder died {deaths} times after frame {next_frame}"
    elif unlike := _no_recording(spec.source):
        error = unlike
    else:
        source = Source(kind=spec.kind, uri=spec.source, redacted=printable(spec.source), camera=spec.camera)
        publisher.note(promised=str(frames_promised(spec.source)), left_out=left_out(spec.source))
        try:
            allocate = allocate_new if frames is None else frames.allocate
            messages = read_messages(
                source, spec.decode_settings, spec.run_ms, time.time, beat, skip_until_seq=seq, allocate=allocate
            )
            with closing(messages):
                for message in messages:
                    done = isinstance(message, End)
                    state_now = {"next_frame": message.next_frame, **({"done": spec.run_ms} if done else {})}
                    publisher.publish(message, state_now)
                    seq, next_frame = message.seq + 1, message.next_frame
                    if done:
                        return
        except (SourceError, ConfigError) as problem:  # the latter: its kind of source is not installed here
            # Whoever shows it knows the file by the name that the user gave it.
            error = str(problem).removeprefix(f"{source.redacted}: ")
    end = End(
        camera=spec.camera, run_ms=spec.run_ms, seq=seq, first_frame=next_frame, times_s=np.empty(0),
        status=f"error: {error}",
    )  # fmt: skip
    publisher.publish(end, {"next_frame": next_frame, "done": spec.run_ms})


def _no_recording(source: str) -> str:
    """Why a path cannot be one, in one line: opening a pipe would wait for ever, reading a device never end."""
    path = Path(source)
    if "://" in source or path.is_file() or path.is_dir() or not path.exists():
        return ""
    return f"{source}: neither a file nor a folder"


def count_death(bus: Bus, spec: CameraSpec, token: str) -> None:
    """Hold it against the file that its decoder died just now; forgiven once another gets further.

    For the decoder's parent: whoever is stopped together with the decoder counts nothing. Raises LeaseLost.
    """
    publisher = Publisher(bus, spec, token, lambda: None)
    done_seq, state = _reached(publisher)
    publisher.remember({"deaths": 1 + _deaths(state, done_seq), "died_at": done_seq})


def _reached(publisher: Publisher) -> tuple[int, State]:
    """The last seq that was published in this run (-1: none), and what was saved with it."""
    run_ms, seq = publisher.bus.last_id(publisher.stream)
    state = decoder_state(publisher.bus, publisher.spec)
    return (seq if run_ms == publisher.spec.run_ms else -1), state


def _deaths(state: State, done_seq: int) -> int:
    return number(state, "deaths", 0) if number(state, "died_at", -2) == done_seq else 0
