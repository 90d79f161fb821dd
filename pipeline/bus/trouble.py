"""Trouble with Redis, said once and by its true reason: away, full, read-only, and so on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import redis

from pipeline.bus.connect import reason

CALM_S = 30.0
"""Without trouble, after which the same trouble is said again."""
TROUBLES = {
    "is full": ("OOM ", "used memory >"),
    "is read-only": ("READONLY", "NOREPLICAS", "read only replica"),
    "cannot write to its disk": ("MISCONF",),
    "is loading its data": ("LOADING", "Redis is loading"),
    "has too many clients": ("max number of clients",),
    "refuses the login": ("NOAUTH", "WRONGPASS", "AUTH ", "Authentication required", "invalid username-password"),
    "does not allow a command to this login": ("NOPERM", "no permissions", "has no permissions"),
    "has lost its master": ("MASTERDOWN", "CLUSTERDOWN", "Link with MASTER", "cluster is down", "No master found"),
}
"""What is wrong, by what Redis or its client says of it."""


def trouble_kind(error: BaseException) -> str:
    """In a word or two what is wrong with Redis: equal for errors that one line is enough for."""
    text = str(error)
    for kind, words in TROUBLES.items():
        if any(word in text for word in words):
            return kind
    return "refuses" if isinstance(error, redis.ResponseError) else "does not answer"


def trouble_said(error: BaseException) -> str:
    """The true reason why Redis is of no use now: `is full (...)`, not `does not answer` for all."""
    return f"{trouble_kind(error)} ({reason(error)})"


class Trouble:
    """Says each kind of trouble once, until it has been calm for a while: it may come several times a second."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._kind = ""
        self._last_s = 0.0

    def say(self, error: BaseException) -> None:
        """There is trouble now."""
        now_s, kind = self._clock(), trouble_kind(error)
        if kind != self._kind or now_s - self._last_s > CALM_S:
            self._log.warning("Redis %s; waiting for it", trouble_said(error))
        self._kind, self._last_s = kind, now_s
