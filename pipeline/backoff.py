"""How long to wait before something that failed is tried again: doubling, and spread by chance.

Without chance, all that one outage has stopped would come back in step and strike together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

JITTER = 0.25
"""Share of a wait that chance may take off."""


class Backoff:
    """Waits of `first_s`, then twice as long each time, up to `most_s`; each up to a quarter shorter by chance."""

    def __init__(self, first_s: float, most_s: float, chance: Callable[[], float] = random.random) -> None:
        """`chance`: numbers in [0, 1); Python's own draws others in each forked process."""
        if not 0 < first_s <= most_s:
            raise ValueError(f"first_s must be in (0, most_s], got {first_s=} {most_s=}")
        self._first_s = first_s
        self._most_s = most_s
        self._chance = chance
        self._doublings = math.ceil(math.log2(most_s / first_s))

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th failure in a row, counted from 1; 0 where nothing has failed."""
        if attempt < 1:
            return 0.0
        # Not 2**attempt: an outage of a weekend has more attempts than a float has exponents.
        whole_s = min(self._most_s, self._first_s * 2 ** min(attempt - 1, self._doublings))
        return whole_s * (1 - JITTER * self._chance())


class Restarts:
    """When to start again what keeps ending; from the first wait again after it was healthy for a while."""

    def __init__(self, backoff: Backoff, healthy_s: float = 10.0) -> None:
        self._backoff = backoff
        self._healthy_s = healthy_s
        self._began_s: float | None = None
        self.failures = 0
        """In a row, none of them after a healthy while."""

    def began(self, now_s: float) -> None:
        """It works since `now_s`, as far as can be told."""
        self._began_s = now_s

    def ended(self, now_s: float) -> float:
        """It ended at `now_s`, whether or not it ever began to work; returns the seconds to wait."""
        was_healthy = self._began_s is not None and now_s - self._began_s >= self._healthy_s
        self._began_s = None
        self.failures = 1 if was_healthy else self.failures + 1
        return self._backoff.delay_s(self.failures)
