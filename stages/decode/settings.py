"""How pictures are read, whatever they are read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Heartbeat = Callable[[], None]
"""Called while pictures are read, also where none come out: who is silent for long is taken to hang."""


def no_heartbeat() -> None:
    """Does nothing: no one waits for a sign of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """How pictures are read."""

    height: int = 240
    """Pixels; pictures are analysed at most this high, in their display aspect, upright, and never enlarged."""
    snippet_frames: int = 16
    """Kept frames in a snippet."""
    fps: float | None = None
    """Frames kept per second; None keeps all. In H.264 files, a picture that is dropped and that no other builds on is
    not decoded, but counted and timed all the same: every message is as if it were, in a file that is sound."""
    image_fps: float = 25.0
    """Frames per second of a folder of pictures, which does not say."""
    open_timeout_s: float = 10.0
    read_timeout_s: float = 20.0
    transport: str = "tcp"
    """How RTSP carries video: `tcp` or `udp`."""
    threads: int = 0
    """Decoding threads; 0: four for a file larger than VGA, else one. Not the number of cores: what is left of a
    damaged picture can depend on the number of threads, and a file must give the same bytes on every machine."""

    def __post_init__(self) -> None:
        if self.height < 16:
            raise ValueError(f"height must be at least 16 pixels, got {self.height}")
        if self.snippet_frames < 1 or self.threads < 0:
            raise ValueError(f"{self.snippet_frames=} must be at least 1 and {self.threads=} not negative")
        if (self.fps is not None and self.fps <= 0) or self.image_fps <= 0:
            raise ValueError(f"{self.fps=} and {self.image_fps=} must be positive")
        if self.open_timeout_s <= 0 or self.read_timeout_s <= 0:
            raise ValueError(f"{self.open_timeout_s=} and {self.read_timeout_s=} must be positive")
        if self.transport not in ("tcp", "udp"):
            raise ValueError(f"transport must be tcp or udp, got {self.transport!r}")
