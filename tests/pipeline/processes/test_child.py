"""A forked child does one thing, says how it went, and is known by its title."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.processes.child import fork, how_it_ended


def test_the_exit_code_is_what_the_body_returns() -> None:
    _, status = os.waitpid(fork("counter", lambda: 3), 0)
    assert how_it_ended(status) == "ended with code 3"


def test_a_body_that_raises_ends_with_1_and_not_in_its_parents_code() -> None:
    def body() -> int:
        raise KeyError("nothing")

    _, status = os.waitpid(fork("loser", body), 0)
    assert how_it_ended(status) == "ended with code 1"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_it_has_a_title_and_goes_at_sigterm() -> None:
    pid = fork("sleeper (s-1)", lambda: time.sleep(60) or 0)
    deadline = time.monotonic() + 20
    while b"oddwatch sleeper (s-1)" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    assert how_it_ended(status) == f"was killed by signal {signal.SIGTERM.value}"
