"""What of a file is not decoded although it could be shown: said in one line, from its headers."""

from __future__ import annotations

from pathlib import Path

import av

from stages.text import counted


def left_out(uri: str) -> str:
    """Names the video streams of a local file beside the one that is scored; empty if there are none."""
    if "://" in uri or Path(uri).is_dir():
        return ""
    try:
        with av.open(f"file:{Path(uri).absolute()}", options={"pattern_type": "none"}) as container:
            streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
            best = container.streams.best("video")
            others = [f"{s.width}x{s.height}" for s in streams if s is not best and s.codec_context is not None]
    except (OSError, av.FFmpegError, ValueError):
        return ""
    if not others:
        return ""
    more = counted(len(others), "more video stream")
    return f"{more} in it ({', '.join(others)}) left out; extract what is wanted to a file of its own"
