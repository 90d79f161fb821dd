"""Decoded frames of one run -> snippets, gaps and an end. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from stages.decode.timestamps import grid_point
from stages.messages import End, Gap, Prior, Snippet
from stages.pace import Pace

THUMB_QUALITY = 80

DecodeOutput = Snippet | Gap | End
"""What decoding a run yields; the End comes last."""
Allocate = Callable[[tuple[int, ...]], np.ndarray]
"""Allocates the pixels of a snippet: uint8 of that shape."""


def allocate_new(shape: tuple[int, ...]) -> np.ndarray:
    """A new array for each snippet."""
    return np.empty(shape, np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedFrame:
    """One decoded frame, not yet converted."""

    time_s: float
    pixels: Callable[[], np.ndarray]
    """Converts it: uint8 (H, W, 3) RGB at analysis size. Called at once or never."""
    fault: str = ""
    """Why it must not be scored; empty for a sound frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What every message of a run says of it."""

    camera: str
    run_ms: int
    live: bool = False
    prior: Prior | None = None


class SnippetBuilder:
    """Builds the messages of one run. Spans are contiguous: every frame added is in exactly one Snippet or Gap.

    With `fps`, the frames nearest to a grid of that rate are kept, and every other frame lies in the span of the
    kept one before it; so a snippet closes when the next kept frame comes, and always begins with a kept frame.
    Neither reaches across a hole in time (stages.pace).
    Messages with seq < `skip_until_seq` are counted, not made: their frames are never converted.
    `allocate` is called once a snippet, when its first frame comes.
    """

    def __init__(
        self,
        run: Run,
        clock: Callable[[], float],
        *,
        snippet_frames: int = 16,
        fps: float | None = None,
        skip_until_seq: int = 0,
        allocate: Allocate = allocate_new,
    ) -> None:
        self._allocate = allocate
        self._run = run
        self._clock = clock
        self._snippet_frames = snippet_frames
        self._fps = fps
        self._skip_until_seq = skip_until_seq
        self._seq = 0
        self._first_frame = 0
        self._times_s: list[float] = []
        self._picked: list[int] = []
        self._pixels: np.ndarray | None = None  # (snippet_frames, H, W, 3): each picture is copied once, to its place
        self._thumb = b""
        self._fault = ""
        self._slot = -1
        self._last_s = 0.0
        self._pace = Pace()

    @property
    def frames(self) -> int:
        """Frames added so far."""
        return self._first_frame + len(self._times_s)

    def add(self, frame: DecodedFrame) -> Iterator[DecodeOutput]:
        """Take the next frame of the run; yields what it completes."""
        step_s = frame.time_s - self._last_s
        hole = self.frames > 0 and self._pace.is_hole(step_s)
        self._pace = self._pace.after(step_s) if self.frames else self._pace
        self._last_s = frame.time_s
        if self._times_s and (frame.fault != self._fault or hole):
            yield from self._close()
        if frame.fault:
            self._fault = frame.fault
            self._times_s.append(frame.time_s)
            if len(self._times_s) == self._snippet_frames:
                yield from self._close()
            return
        keep = self._keeps(frame.time_s)
        if keep and len(self._picked) == self._snippet_frames:
            yield from self._close()
        if keep:
            if not self._skipping:
                self._copy_in(frame.pixels())
            self._picked.append(len(self._times_s))
        self._times_s.append(frame.time_s)
        if self._fps is None and len(self._picked) == self._snippet_frames:
            yield from self._close()

    def end(self, status: str = "complete") -> Iterator[DecodeOutput]:
        """The run is over; yields what is left (even one frame) and the End."""
        yield from self._close()
        if not self._skipping:
            yield End(**self._span(), status=status)

    @property
    def _skipping(self) -> bool:
        return self._seq < self._skip_until_seq

    def _keeps(self, time_s: float) -> bool:
        if self._fps is None:
            return True
        nearest = grid_point(time_s, self._fps)
        if self._picked and nearest <= self._slot:
            return False
        self._slot = nearest
        return True

    def _span(self) -> dict:
        return {
            "camera": self._run.camera,
            "run_ms": self._run.run_ms,
            "seq": self._seq,
            "first_frame": self._first_frame,
            "times_s": np.array(self._times_s, np.float64),
            "made_ms": round(self._clock() * 1000),
            "prior": self._run.prior,
            "live": self._run.live,
        }

    def _close(self) -> Iterator[DecodeOutput]:
        if not self._times_s:
            return
        if not self._skipping and self._fault:
            yield Gap(**self._span(), cause="corrupt", detail=self._fault)
        elif self._pixels is not None:
            pixels = self._pixels[: len(self._picked)]
            picked = np.array(self._picked, np.int32)
            span = self._span()
            is_full = len(pixels) == self._snippet_frames
            thumb = self._thumb if is_full else jpeg(pixels[len(pixels) // 2])
            yield Snippet(**span, picked=picked, thumb=thumb, pixels=pixels)
        self._seq += 1
        self._first_frame += len(self._times_s)
        self._times_s, self._picked, self._pixels, self._fault = [], [], None, ""

    def _copy_in(self, pixels: np.ndarray) -> None:
        if self._pixels is None:
            self._pixels = self._allocate((self._snippet_frames, *pixels.shape))
        self._pixels[len(self._picked)] = pixels
        if len(self._picked) == self._snippet_frames // 2:
            # Not once the last picture has come: that one is waited for.
            self._thumb = jpeg(pixels)


def jpeg(pixels: np.ndarray) -> bytes:
    """JPEG of uint8 (H, W, 3) RGB."""
    _, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, THUMB_QUALITY])
    return data.tobytes()
