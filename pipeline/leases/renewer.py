"""Keeps a worker's leases while it works on something that takes longer than they last."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

from pipeline.bus.streams import OUTAGE

log = logging.getLogger(__name__)

HANG_S = 300.0
"""A turn that takes longer hangs: the process ends itself, and what it worked on counts as having killed it."""


class Keeper:
    """A thread that renews the leases while turns go on, and ends the process when one never ends."""

    def __init__(
        self, renew: Callable[[], Any], every_s: float, *, hang_s: float = HANG_S,
        die: Callable[[int], Any] = os._exit,
    ) -> None:  # fmt: skip
        self._renew = renew
        self._every_s = every_s
        self._hang_s = hang_s
        self._die = die
        self._alive_s = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def alive(self) -> None:
        """A turn begins."""
        self._alive_s = time.monotonic()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            busy_s = time.monotonic() - self._alive_s
            if busy_s > self._hang_s:
                log.error("a stage has not returned for %.0f s; ending this worker", busy_s)
                self._die(1)
                return
            if busy_s > self._every_s:  # else the turns themselves renew
                try:
                    self._renew()
                except (redis.RedisError, *OUTAGE) as error:
                    log.debug("leases not renewed: %s", error)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
