"""Presentation timestamps -> seconds since the first frame, also where they are missing or fall back."""

from __future__ import annotations

from fractions import Fraction


def stamp_s(pts: int | None, time_base: Fraction | None) -> float | None:
    """Seconds of a timestamp, correctly rounded; None if it is not known."""
    return None if pts is None or time_base is None else pts * time_base.numerator / time_base.denominator


def grid_point(time_s: float, fps: float) -> int:
    """The point of a grid of `fps` that a frame is nearest to. Sub-sampling keeps the first frame of each."""
    return int(time_s * fps + 0.5)


class PresentationClock:
    """Seconds since the first frame, never falling.

    A timestamp that is missing or not after its predecessor's is replaced by one `period_s` after it, so a file whose
    clock starts again goes on at its frame rate. Jumps forward are believed: such a file may be a time lapse.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._start_s: float | None = None
        self._last_s = -period_s

    def next_s(self, stamp_s: float | None) -> float:
        """The time of the next frame, shown at `stamp_s` if it is known."""
        if stamp_s is not None and self._start_s is None:
            self._start_s = stamp_s - max(0.0, self._last_s + self._period_s)
        time_s = None if stamp_s is None or self._start_s is None else stamp_s - self._start_s
        if time_s is None or time_s <= self._last_s:
            time_s = self._last_s + self._period_s
        self._last_s = time_s
        return time_s
