"""Keeps the workers of a host alive: starts them, restarts those that die, frees what they held."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import redis

from pipeline.backoff import Backoff, Restarts
from pipeline.bus.keys import Keys
from pipeline.bus.streams import OUTAGE, Bus, connect
from pipeline.leases.lease import release, worker_name
from pipeline.observe.status import drained
from pipeline.processes.child import fork, how_it_ended
from pipeline.processes.settings import WorkerSettings
from pipeline.processes.this_process import die_with_parent, log_to_stderr, set_title
from pipeline.supervisor.worker_process import run_worker
from stages.errors import BusError, OddwatchError

log = logging.getLogger(__name__)

GRACE_S = 10.0
"""Seconds a worker has to finish its turn before it is killed."""
DRAIN_S = 10.0
"""Seconds that the stages have to finish what was decoded."""
RESTART = Backoff(0.1, 30.0)
MOST_FAILURES = 3
"""Supervisors that end soon after their start, one after the other, before it is given up."""
START = "import sys; sys.path[:] = sys.argv[1:]; from pipeline.supervisor.supervisor import main; main()"
"""Code of the supervisor process; `-m` would look for modules in the current folder first, which may hold anything."""


@dataclass(slots=True)
class Child:
    """One place for a worker process, and the process now in it."""

    stage: str
    name: str
    pid: int = 0
    token: str = ""
    restart_at_s: float = 0.0
    restarts: Restarts = field(default_factory=lambda: Restarts(RESTART))


class Supervisor:
    """Forks one process per place in `stages` and restarts what ends. Single-threaded, so forking is safe."""

    def __init__(
        self, settings: WorkerSettings, stages: dict[str, int], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._children = [
            Child(stage, worker_name(f"{stage}-{n}")) for stage, count in stages.items() for n in range(count)
        ]
        self.stopping = False

    def run(self) -> None:
        """Keep everything running until `stopping`; then end the workers, decoders first."""
        while not self.stopping:
            self.turn()
            time.sleep(0.05)
        self._end_all()

    def turn(self) -> None:
        """Reap what died, start what is due."""
        for child in self._children:
            if child.pid and self._has_ended(child):
                self._after_death(child)
            if not child.pid and self._clock() >= child.restart_at_s:
                self._start(child)

    def _start(self, child: Child) -> None:
        child.token = f"{child.name}:{uuid.uuid4().hex[:12]}"
        child.restarts.began(self._clock())
        work = partial(run_worker, self._settings, child.stage, child.name, child.token)
        child.pid = fork(f"worker {child.stage} ({child.name})", work)

    def _has_ended(self, child: Child) -> bool:
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid and not self.stopping:
            log.warning("worker %s %s; starting another", child.name, how_it_ended(status))
        return bool(pid)

    def _after_death(self, child: Child) -> None:
        """Free its leases at once, so that its cameras do not wait for them to run out; restart with back-off."""
        now_s = self._clock()
        child.restart_at_s = now_s + child.restarts.ended(now_s)
        child.pid = 0
        try:
            free_leases(connect(self._settings.url), Keys(self._settings.prefix), child.name, child.token)
        except (BusError, redis.RedisError, *OUTAGE):
            log.info("its leases run out by themselves: Redis does not answer")

    def _end_all(self) -> None:
        """Decoders first; the other stages go when what was decoded has passed through them."""
        self._end([c for c in self._children if c.stage == "decode"])
        deadline = self._clock() + DRAIN_S
        try:
            bus = Bus(connect(self._settings.url), Keys(self._settings.prefix))
            while self._clock() < deadline and not drained(bus):
                time.sleep(0.1)
        except (BusError, redis.RedisError, *OUTAGE):
            log.info("stopping without draining: Redis does not answer")
        self._end([c for c in self._children if c.stage != "decode"])

    def _end(self, children: list[Child]) -> None:
        for child in children:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        deadline = self._clock() + GRACE_S
        for child in children:
            while child.pid:
                if self._has_ended(child):
                    child.pid = 0
                elif self._clock() > deadline:
                    os.kill(child.pid, signal.SIGKILL)
                time.sleep(0.01)


def free_leases(client: Any, keys: Keys, name: str, token: str) -> None:
    """Give back everything a dead worker held."""
    with contextlib.closing(client):
        client.hdel(keys.workers, name)
        pattern = f"{keys.prefix}:*:lease:*"
        for key in client.scan_iter(match=pattern, count=1000):
            camera, _, stage = key.decode().removeprefix(f"{keys.prefix}:{{").partition("}:lease:")
            release(client, keys, camera, stage, token)


class LocalWorkers:
    """The workers of this host under a supervisor in a process of its own, which ends with this one."""

    def __init__(self, settings: WorkerSettings, stages: dict[str, int], preload: list[str]) -> None:
        """`preload`: modules imported once, for all workers."""
        self._settings = settings
        self._order = {
            "settings": settings.model_dump(mode="json"), "stages": stages, "preload": preload,
            "parent": os.getpid(),
        }  # fmt: skip
        self._restarts = Restarts(RESTART)
        self._start()

    def check(self) -> None:
        """Start another supervisor if this one was killed. Raises OddwatchError if it keeps ending at once."""
        code = self._process.poll()
        if code is None:
            return
        self._restarts.ended(time.monotonic())
        if self._restarts.failures > MOST_FAILURES:
            raise OddwatchError(f"the workers of this host cannot be started (code {code}); see the lines above")
        log.warning("the supervisor ended (code %s); starting another", code)
        self._start()

    def stop(self) -> None:
        """End the supervisor and its workers; waits for them."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(DRAIN_S + 2 * GRACE_S + 5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _start(self) -> None:
        self._restarts.began(time.monotonic())
        # The order goes through stdin, so that no secret is among its arguments.
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, *sys.path], stdin=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._order).encode() + b"\n")
        self._process.stdin.close()


def main() -> None:
    """Entry of the supervisor process; its order comes as one line on stdin."""
    order = json.loads(sys.stdin.buffer.readline())
    die_with_parent(order["parent"])
    settings = WorkerSettings.model_validate(order["settings"])
    log_to_stderr(settings.log_level, "supervisor")
    set_title("oddwatch supervisor")
    for module in order["preload"]:  # imported once, shared by all workers
        try:
            import_module(module)
        except Exception as error:  # whoever needs it says so; the others must go on
            log.warning("%s cannot be imported beforehand: %s", module, error)
    supervisor = Supervisor(settings, order["stages"])

    def stop(*_: object) -> None:
        supervisor.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent decides when a Ctrl-C has been drained
    supervisor.run()
