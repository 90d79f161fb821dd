"""A quick look at a file, without decoding it."""

from __future__ import annotations

from pathlib import Path

import av

from stages.decode.containers.boxes import tracks
from stages.decode.natural_order import pictures_in


def frames_promised(uri: str) -> int:
    """How many frames a file or folder of pictures says it has; 0 if it does not say. For progress only."""
    path = Path(uri)
    try:
        if path.is_dir():
            return len(pictures_in(path))
        # FFmpeg would make an index of every frame, and the room it leaves behind fits no second one.
        told = [] if "://" in uri else [track.samples for track in tracks(path) if track.kind == b"vide"]
        if told and told[0]:
            return told[0]
        with av.open(uri, timeout=(2, 2)) as container:
            if not container.streams.video:
                return 0
            stream = container.streams.video[0]
            if stream.frames:
                return stream.frames
            if container.duration and stream.average_rate:
                return round(container.duration / av.time_base * float(stream.average_rate))
            return 0
    except (OSError, av.FFmpegError, ValueError):
        return 0
