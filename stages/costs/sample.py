"""A made clip of a camera's size and codec, to measure costs on where no footage is at hand."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np

from stages.demo.footage import CLOCK_START_S, film
from stages.demo.scene import make_scene
from stages.demo.walks import crowd
from stages.errors import UsageError

ENCODERS = {"h264": "libx264", "hevc": "libx265", "mpeg4": "mpeg4", "mjpeg": "mjpeg"}
FASTEST = {"libx264": {"preset": "superfast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"}}
SECONDS = 4.0
"""Short, because it is encoded first; it is played several times over."""


def make_sample(path: Path, *, codec: str, height: int, fps: float, mbit: float) -> Path:
    """Write a clip of the demo's courtyard as a 16:9 camera sends it: no B-frames, a key frame every two seconds.

    Raises UsageError for a codec that is not among ENCODERS.
    """
    if codec not in ENCODERS:
        raise UsageError(
            f"--codec {codec}: not one of {', '.join(ENCODERS)}; or give footage of your own with --sample"
        )
    encoder, frames = ENCODERS[codec], round(SECONDS * fps)
    rng = np.random.default_rng(0)
    size = (2 * round(height * 8 / 9), 2 * (height // 2))
    # What enlarging takes away: a camera's picture has noise in every pixel, and its decoder the work of it.
    grain = np.repeat(rng.normal(0, 2.0, (size[1] + 64, size[0] + 64, 1)).astype(np.int8), 3, axis=2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=round(fps), options=FASTEST.get(encoder, {}))
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        context = stream.codec_context
        context.bit_rate, context.gop_size, context.max_b_frames = int(mbit * 1e6), round(2 * fps), 0
        for picture in film(make_scene(rng), crowd([], SECONDS, rng), frames, rng, CLOCK_START_S):
            large = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
            down, right = rng.integers(64, size=2)
            noisy = cv2.add(large, grain[down : down + size[1], right : right + size[0]], dtype=cv2.CV_8U)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode())
    return path
