"""Makes tiny videos, whole and broken ones."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TIME_BASE = Fraction(1, 90_000)


def picture(index: int, width: int, height: int) -> np.ndarray:
    """uint8 (H, W, 3): a gray ramp and on it a bright orange square, whose place tells `index` from 0 to 39."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = np.linspace(40, 160, width, dtype=np.uint8)[None, :, None]
    top, left = height * (index // 10 % 4) // 5, width * (index % 10) // 12
    pixels[top : top + max(1, height // 4), left : left + max(1, width // 6)] = (255, 220, 100)
    return pixels


def write_video(
    path: Path,
    frames: int = 40,
    size: tuple[int, int] = (64, 48),
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    fps: int = 25,
    times_s: Sequence[float] | None = None,
    gop: int = 12,
    b_frames: int = 0,
    rotation: int = 0,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    first: int = 0,
) -> Path:
    """A video of `picture(first)`, `picture(first + 1)` ...; with `times_s` its frame rate varies."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        if codec in ("libx264", "libx265"):
            stream.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if times_s is not None:
            stream.codec_context.time_base = TIME_BASE
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(first + index, *size), format="rgb24")
            frame.pts = index if times_s is None else round(times_s[index] / TIME_BASE)
            frame.time_base = Fraction(1, fps) if times_s is None else TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_audio(path: Path, seconds: float = 0.5) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, int(8000 * seconds)), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(path: Path, share: float) -> Path:
    """Keep the first `share` of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def scribble(path: Path, at: float, length: int, seed: int = 0) -> Path:
    """Overwrite `length` bytes with noise, beginning at the share `at` of a file."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + length] = np.random.default_rng(seed).bytes(length)
    path.write_bytes(data)
    return path
