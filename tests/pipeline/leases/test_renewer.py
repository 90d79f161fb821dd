"""Leases are kept while a stage works, and a stage that never returns ends its worker."""

from __future__ import annotations

import threading

from pipeline.bus.streams import OUTAGE
from pipeline.leases.assignment import Renewer


class Renewed:
    """Counts, and may find that Redis is away."""

    def __init__(self, error: Exception | None = None) -> None:
        self.times = threading.Semaphore(0)
        self._error = error

    def renew(self) -> None:
        self.times.release()
        if self._error is not None:
            raise self._error


def test_leases_are_renewed_while_a_turn_lasts_too_long() -> None:
    leases = Renewed()
    with Renewer(leases, 0.01):
        assert leases.times.acquire(timeout=10)


def test_a_hung_turn_ends_the_process() -> None:
    died = threading.Event()
    with Renewer(Renewed(), 0.01, hang_s=0.05, die=lambda code: died.set()):
        assert died.wait(10)


def test_trouble_with_redis_does_not_end_the_renewer() -> None:
    leases = Renewed(OUTAGE[0]("away"))
    with Renewer(leases, 0.01):
        assert leases.times.acquire(timeout=10)
        assert leases.times.acquire(timeout=10)
