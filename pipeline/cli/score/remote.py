"""The workers that `score --no-workers` relies on: other processes, on this or other hosts."""

from __future__ import annotations

import sys
import time

from pipeline.bus.streams import Bus
from pipeline.cameras.spec import STAGES
from pipeline.leases.lease import heartbeats

LOOK_EVERY_S = 3.0
SILENT_S = 30.0
"""A worker that says nothing for so long is gone."""


class RemoteWorkers:
    """Workers of other processes: all that can be done is to say that there are none."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._next_s = time.monotonic() + LOOK_EVERY_S
        self._missed: list[str] = []

    def check(self) -> None:
        """Say on stderr which stages nobody works in, when that changes."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + LOOK_EVERY_S
        now_ms = self._bus.now_ms()
        beats = heartbeats(self._bus.client, self._bus.keys)
        alive = {b.stage for b in beats if now_ms - b.beat_ms < SILENT_S * 1000}
        missed = [stage for stage in STAGES if stage not in alive]
        if missed and missed != self._missed:
            sys.stderr.write(
                f"oddwatch: waiting, no worker for {', '.join(missed)}; start "
                f"'oddwatch worker {missed[0]}' on this Redis\n"
            )
        self._missed = missed
