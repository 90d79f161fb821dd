"""Waits double, differ by chance, and begin anew after a healthy run."""

from __future__ import annotations

import random

import pytest

from pipeline.backoff import JITTER, Backoff, Restarts


def never() -> float:
    return 0.0


def test_waits_double_to_a_minute_and_a_healthy_run_resets_them() -> None:
    restarts = Restarts(Backoff(1.0, 60.0, never))
    assert [restarts.ended(float(i)) for i in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    restarts.began(100.0)
    assert restarts.ended(105.0) == 60
    restarts.began(200.0)
    assert restarts.ended(210.0) == 1
    assert restarts.ended(300.0) == 2


def test_nothing_failed_nothing_to_wait_for_and_no_outage_is_too_long() -> None:
    backoff = Backoff(0.1, 5.0, never)
    assert [backoff.delay_s(n) for n in (-1, 0, 1, 10**9)] == [0, 0, 0.1, 5]


def test_chance_takes_off_a_quarter_at_most_and_sets_two_apart() -> None:
    one, other = (Backoff(1.0, 60.0, random.Random(seed).random) for seed in (1, 2))
    waits = [(one.delay_s(n), other.delay_s(n)) for n in range(1, 20)]
    for n, pair in enumerate(waits):
        whole_s = min(60.0, 2.0**n)
        assert all((1 - JITTER) * whole_s < wait <= whole_s for wait in pair)
    assert all(a != b for a, b in waits)


@pytest.mark.parametrize("most_s", [0.5, 0.0])
def test_a_most_below_the_first_is_refused(most_s: float) -> None:
    with pytest.raises(ValueError, match="first_s"):
        Backoff(1.0, most_s)
