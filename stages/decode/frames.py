"""Between a container and a snippet: packets, and what becomes of a decoded frame: RGB at analysis size, or a fault."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from stages.errors import SourceError

# Bit-exact: without it the same picture gives other bytes on a processor with other vector units.
AREA = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
GATE_FRAMES = 300
"""Frames after which the gate opens without a keyframe: cameras with intra refresh send none."""


def analysis_size(width: int, height: int, aspect: Fraction | None, most_height: int) -> tuple[int, int]:
    """(width, height) at which a picture with pixels of `aspect` (width / height) is analysed.

    Square pixels, at most `most_height` high, even width, never larger than the picture in either direction.
    An aspect beyond 4:1 is taken for a wrong header and ignored.
    """
    if aspect is None or not Fraction(1, 4) <= aspect <= 4:
        aspect = Fraction(1)
    shown_width, shown_height = width * min(aspect, Fraction(1)), height / max(aspect, Fraction(1))
    scale = min(Fraction(1), most_height / Fraction(shown_height))
    even_width = 2 * min(round(shown_width * scale / 2), width // 2)
    return max(2, even_width), max(1, round(shown_height * scale))


class Scaler:
    """Converts the pictures of one run; all of them to the size of the first, upright as its camera stood.

    Rotation metadata (multiples of 90 degrees) and sample aspect ratio are applied, mirroring is not. A picture of
    another size in mid-run is stretched to the first one's. Deterministic: libswscale, area averaging, bit-exact.
    """

    def __init__(self, first: av.VideoFrame, most_height: int, aspect: Fraction | None = None) -> None:
        turned = _quarter_turns(first) % 2
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        self._size = analysis_size(width, height, 1 / aspect if turned and aspect else aspect, most_height)
        self._reformatter = VideoReformatter()

    def pixels(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 (H, W, 3) RGB, rows not always contiguous. Raises SourceError for an inconvertible pixel format."""
        turns = _quarter_turns(frame)
        width, height = self._size[::-1] if turns % 2 else self._size
        rgb = self._convert(frame, width, height).to_ndarray()
        return np.rot90(rgb, turns) if turns else rgb

    def _convert(self, frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        convert = partial(
            self._reformatter.reformat, frame, width, height, format="rgb24", interpolation=AREA, threads=1
        )
        try:
            return convert()
        except av.FFmpegError:
            # libswscale refuses reserved colour spaces, which some cameras write; they mean the usual one.
            pass
        try:
            return convert(src_colorspace=Colorspace.ITU601)
        except av.FFmpegError as error:
            raise SourceError(
                f"pictures of format {frame.format.name} cannot be converted ({error.strerror})"
            ) from error


class DamageGate:
    """Shut by damage until the next sound keyframe: what is smeared stays smeared until then."""

    def __init__(self) -> None:
        self._shut_for = 0

    def shut(self) -> None:
        """Something was lost before the next picture."""
        self._shut_for = GATE_FRAMES

    def fault(self, frame: av.VideoFrame, damaged: bool = False) -> str:
        """Why the next decoded frame must not be scored; empty if it may. `damaged`: its packet was known to be."""
        if frame.is_corrupt or damaged:
            self._shut_for = GATE_FRAMES
        elif frame.key_frame:
            self._shut_for = 0
        elif self._shut_for:
            self._shut_for -= 1
        return "damaged picture, or one that builds on it" if self._shut_for else ""


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Anticlockwise, 0 to 3."""
    return int(round(frame.rotation / 90) % 4)


def packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """The packets of a stream, then an empty one that flushes the decoder."""
    try:
        yield from container.demux(stream)
    except IndexError:
        # At the very end, PyAV trips over streams that appeared after the opening.
        return
