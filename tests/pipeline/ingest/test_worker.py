"""A decode worker and its decoder processes, whose part shell scripts play: what they do is how they end."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from makers import announce, spec
from toys import FakeClock

from pipeline.bus.codec import decode, decode_state
from pipeline.bus.streams import Bus
from pipeline.cameras.registry import unregister
from pipeline.ingest.file import publish_file
from pipeline.ingest.worker import DecoderProcess, DecodeWorker
from pipeline.leases.lease import Leases
from pipeline.processes.settings import WorkerSettings
from stages.stage import number

IN_THE_KERNEL = "trap '' TERM; exec sleep 60"


class Staged(DecodeWorker):
    """Its decoders run a shell script."""

    script = ""
    starts = 0

    def _start(self, decoder: DecoderProcess) -> None:
        self.starts += 1
        decoder.restarts.began(self._clock())
        decoder.pulse.beat()
        decoder.pid = os.posix_spawn("/bin/sh", ["sh", "-c", self.script], os.environ)

    def pids(self) -> list[int]:
        return [d.pid for d in self._decoders.values() if d.pid] + self._killed


def worker(bus: Bus, script: str, token: str = "w:1") -> Staged:
    settings = WorkerSettings(url="", prefix=bus.keys.prefix, lease_s=60, decode_files=4)
    leases = Leases(bus.client, bus.keys, name="w", stage="decode", token=token, lease_s=60)
    staged = Staged(bus, leases, settings, clock=FakeClock())
    staged.script = script
    return staged


def turn_until(staged: Staged, done: Callable[[], object]) -> None:
    for _ in range(2000):
        if done():
            return
        staged.turn()
        time.sleep(0.002)
    raise AssertionError("it never came to pass")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def deaths(bus: Bus) -> int:
    return number(decode_state(bus.client.hgetall(bus.keys.state("cam", "decode"))), "deaths", 0)


@pytest.mark.parametrize("script", ["kill -SEGV $$", "kill -KILL $$", "exit 1"])
def test_a_file_that_kills_its_decoders_is_given_up_whoever_starts_them(one_bus: Bus, script: str) -> None:
    entry = announce(one_bus, spec(max_deliveries=3))
    for n in range(1, 4):
        staged = worker(one_bus, script, f"w:{n}")
        turn_until(staged, lambda n=n: deaths(one_bus) == n)
        staged.close()
    one_bus.client.set(one_bus.keys.lease("cam", "decode"), "d")
    publish_file(one_bus, entry, "d", lambda: None)
    ((_, fields),) = one_bus.client.xrange(one_bus.keys.stream("cam", "snippets"))
    assert decode(fields).status == "error: its decoder died 3 times after frame 0"


@pytest.mark.parametrize("script", ["kill -TERM $$", f"exit {os.EX_TEMPFAIL}"])
def test_an_end_that_is_no_fault_of_the_file_is_not_held_against_it(one_bus: Bus, script: str) -> None:
    announce(one_bus, spec(max_deliveries=3))
    staged = worker(one_bus, script)
    turn_until(staged, lambda: staged.starts > 4)
    assert deaths(one_bus) == 0
    staged.close()


def test_a_worker_that_stops_counts_nothing_and_waits_for_nobody_for_ever(one_bus: Bus) -> None:
    for camera, script in (("cam", IN_THE_KERNEL), ("other", "sleep 60")):
        announce(one_bus, spec(camera))
        staged = worker(one_bus, script)
        turn_until(staged, lambda s=staged: s.starts)
        pids = staged.pids()
        staged._clock = itertools.count(2000, 0.5).__next__
        staged.close()
        turn_until(staged, lambda p=pids: all(map(gone, p)))
        unregister(one_bus.client, one_bus.keys, camera)
    assert deaths(one_bus) == 0


def test_a_camera_that_goes_takes_its_decoder_with_it(one_bus: Bus) -> None:
    announce(one_bus, spec())
    staged = worker(one_bus, IN_THE_KERNEL)
    turn_until(staged, staged.pids)
    (pid,) = staged.pids()
    unregister(one_bus.client, one_bus.keys, "cam")
    turn_until(staged, lambda: not staged.pids())
    assert gone(pid)
    staged.close()


def test_a_decoder_that_hangs_is_killed_and_that_is_held_against_its_file(one_bus: Bus) -> None:
    announce(one_bus, spec())
    staged = worker(one_bus, IN_THE_KERNEL)
    turn_until(staged, staged.pids)
    (decoder,) = staged._decoders.values()
    decoder.pulse.age_s = lambda: 1e6  # type: ignore[method-assign]
    turn_until(staged, lambda: deaths(one_bus))
    staged.close()


@pytest.mark.parametrize("error", [redis.exceptions.RedisClusterException("no node"), redis.ReadOnlyError("READONLY")])
def test_trouble_with_redis_does_not_end_the_worker(
    one_bus: Bus, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    announce(one_bus, spec())
    staged = worker(one_bus, "sleep 60")
    troubled = iter([error, error])

    def trouble(now_s: float) -> bool:
        for one in troubled:
            raise one
        return turn(now_s)

    turn = staged._assignment.rebalance
    monkeypatch.setattr(staged._assignment, "rebalance", trouble)
    turn_until(staged, staged.pids)
    staged.close()
