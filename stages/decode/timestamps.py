"""Presentation timestamps -> seconds since the first frame, true wherever the stamps are, and never falling."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from stages.pace import Pace

OUTLIERS = 3
"""Wrong stamps in a row at most: with more, the clock has been set."""
AHEAD = OUTLIERS + 1
"""Stamps that must be known after one before its time is."""
TREND = 2.0
"""A stamp goes on from earlier ones if it is at most so many times nearer or further on than usual steps would be."""
JITTER_S = 0.5
"""A clock that is not set back by more has not been set: the order of its stamps is not that of the pictures."""
LAST_STEP_S = 10.0
"""A step longer than this, and than ten usual ones, is not believed of the last stamps, which too few confirm."""
LONGEST_HOLE_S = 30 * 86_400.0
"""A longer step is no hole in a recording: the clock was set, from 1970 to today for example."""


def stamp_s(pts: int | None, time_base: Fraction | None) -> float | None:
    """Seconds of a timestamp, correctly rounded; None if it is not known."""
    return None if pts is None or time_base is None else pts * time_base.numerator / time_base.denominator


def grid_point(time_s: float, fps: float) -> int:
    """The point of a grid of `fps` that a frame is nearest to. Sub-sampling keeps the first frame of each."""
    return int(time_s * fps + 0.5)


class Timeline:
    """Times of frames in the order shown, each given once the stamps after it are known.

    Sound stamps are taken as they are, steps of any length forward too: where nothing was recorded, time passes. A few
    stamps that are missing, or off the line from those before to those after them, are spread evenly on it. A clock
    that is set back, or forward by more than a recording can pause, is joined: time goes on by one usual step, then at
    the stamps' own rate. `wrap_s`: the clock's whole range, where it begins again when it has reached its end.
    """

    def __init__(self, period_s: float, wrap_s: float | None = None) -> None:
        """`period_s`: the step from frame to frame until the stamps have shown another."""
        self._pace = Pace()
        self._period_s = period_s
        self._wrap_s = wrap_s
        self._held: list[float | None] = []
        self._offset_s: float | None = None  # stamps are so much ahead of times
        self._frames = 0
        self._last_s = -period_s
        self.joints: list[tuple[int, float]] = []
        """Where the clock was set: (frame, seconds by which it jumped)."""

    def add(self, stamp_s: float | None) -> list[float]:
        """The next frame's stamp, None if it has none -> the times that are certain now, in order."""
        self._held.append(stamp_s)
        return [self._decide()] if len(self._held) > AHEAD else []

    def end(self) -> list[float]:
        """There are no more frames -> the times of those that are left."""
        return [self._decide() for _ in range(len(self._held))]

    def _decide(self) -> float:
        stamp = self._held.pop(0)
        time_s = self._time_s(stamp)
        if self._frames:
            self._pace = self._pace.after(time_s - self._last_s)
        self._last_s = time_s
        self._frames += 1
        return time_s

    def _time_s(self, stamp: float | None) -> float:
        next_s = self._last_s + self._step_s
        if self._offset_s is None:
            if stamp is not None:
                self._offset_s = stamp - max(0.0, next_s)
                return stamp - self._offset_s
            return next_s
        if stamp is not None:
            stamp = self._unwrapped(stamp)
        ahead = [None if s is None else self._unwrapped(s) for s in self._held]
        last = self._last_s + self._offset_s
        step_s = self._even_step(stamp, ahead, last)
        if step_s is not None:
            return self._last_s + step_s
        if stamp is None:
            return next_s
        step = stamp - last
        confirmed = sum(s is not None and s > stamp for s in ahead) >= OUTLIERS
        if not confirmed and step > max(LAST_STEP_S, 10 * self._step_s):
            return next_s
        if -JITTER_S <= step <= 0:
            return next_s
        if step <= 0 or step > LONGEST_HOLE_S:
            self.joints.append((self._frames, step))
            self._offset_s = stamp - next_s
            return next_s
        return stamp - self._offset_s

    @property
    def _step_s(self) -> float:
        return self._pace.usual_s or self._period_s

    def _unwrapped(self, stamp: float) -> float:
        assert self._offset_s is not None
        last = self._last_s + self._offset_s
        if self._wrap_s is None or abs(stamp - last) <= self._wrap_s / 2:
            return stamp
        return stamp - self._wrap_s * round((stamp - last) / self._wrap_s)

    def _even_step(self, stamp: float | None, ahead: list[float | None], last: float) -> float | None:
        """Seconds on from `last`, on an even line to the stamp ahead that goes on from there, if this one does not."""
        for index, later in enumerate(ahead[:OUTLIERS]):
            if later is None or later <= last:
                continue
            if stamp is not None and stamp > last:
                if later < stamp:
                    return (later - last) / (index + 2)
                continue
            expected_s = (index + 2) * self._step_s
            on_line = expected_s / TREND <= later - last <= TREND * expected_s
            return (later - last) / (index + 2) if on_line and not _is_even([stamp, *ahead[: index + 1]]) else None
        return None


def _is_even(stamps: list[float | None]) -> bool:
    """Whether three stamps or more rise by like steps: a clock of its own, not wrong ones in another's."""
    known = [s for s in stamps if s is not None]
    steps = [b - a for a, b in pairwise(known)]
    return len(known) == len(stamps) > 2 and 0 < max(steps) <= TREND * min(steps)
