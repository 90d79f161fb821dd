"""How long to wait before a camera is tried again."""

from __future__ import annotations


class Backoff:
    """1 s, doubling to 60 s; from the start again after a run that stayed healthy for 10 s."""

    def __init__(self, first_s: float = 1.0, most_s: float = 60.0, healthy_s: float = 10.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._healthy_s = healthy_s
        self._next_s = first_s
        self._opened_s: float | None = None

    def opened(self, now_s: float) -> None:
        """The camera sent its first picture at `now_s`."""
        self._opened_s = now_s

    def failed(self, now_s: float) -> float:
        """The run, or the attempt, ended at `now_s`; returns the seconds to wait."""
        if self._opened_s is not None and now_s - self._opened_s >= self._healthy_s:
            self._next_s = self._first_s
        self._opened_s = None
        delay_s, self._next_s = self._next_s, min(2 * self._next_s, self._most_s)
        return delay_s
