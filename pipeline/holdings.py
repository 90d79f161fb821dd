"""Which cameras a worker holds: follows the registry, keeps its leases, shares fairly with the other workers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.bus import Bus
from pipeline.lease import Leases, fair_share
from pipeline.registry import Registry
from pipeline.spec import CameraSpec

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(camera, stage with its variant), as in ('front', 'features:motion')."""
POLL_S = 0.2
"""How often the registry and the leases are looked at."""


class Holdings:
    """The leases of one worker as a set that changes only in `turn`."""

    def __init__(self, bus: Bus, leases: Leases, may_take: Callable[[CameraSpec, str], bool]) -> None:
        """`may_take` is asked before a lease is taken: can this worker do that work now?"""
        self._bus = bus
        self._leases = leases
        self._may_take = may_take
        self._registry = Registry(bus.client, bus.keys)
        self._next_turn_s = 0.0
        self._next_renewal_s = 0.0
        self._live_workers = 1
        self.error = ""
        """Shown in the heartbeat: why this worker cannot take what there is."""
        self.held: dict[Key, CameraSpec] = {}

    def turn(self, now_s: float) -> bool:
        """Renew, let go, take; at most every POLL_S. Returns whether `held` may have changed."""
        if now_s < self._next_turn_s:
            return False
        self._next_turn_s = now_s + POLL_S
        changed = self._registry.refresh()
        if now_s >= self._next_renewal_s:
            self._next_renewal_s = now_s + self._leases.lease_ms / 4000
            for lost in self._leases.renew(self.held):
                log.warning("lost the lease of %s %s", *lost)
                del self.held[lost]
                changed = True
            self._live_workers = self._leases.beat(self._bus.now_ms(), len(self.held), self.error)
        return self._rebalance() or changed

    def wanted(self) -> dict[Key, CameraSpec]:
        """All there is to do in this worker's stage."""
        stage = self._leases.stage
        return {(camera, s): spec for camera, spec in self._registry.specs.items() for s in spec.stages(stage)}

    def _rebalance(self) -> bool:
        wanted = self.wanted()
        share = fair_share(len(wanted), self._live_workers)
        keep = [key for key, spec in self.held.items() if wanted.get(key) == spec][:share]
        surplus = [key for key in self.held if key not in keep]
        for key in surplus:
            self.let_go(key)
        taken = False
        for key, spec in wanted.items():
            if len(self.held) >= share:
                break
            if key not in self.held and self._may_take(spec, key[1]) and self._leases.acquire(*key):
                self.held[key] = spec
                taken = True
        return taken or bool(surplus)

    def let_go(self, key: Key) -> None:
        """Give a lease back."""
        del self.held[key]
        self._leases.release(*key)

    def forget(self) -> None:
        """After trouble with Redis: hold nothing, look at everything anew in the next turn.

        Leases that are still ours are found again by `acquire`.
        """
        self.held.clear()
        self._next_turn_s = self._next_renewal_s = 0.0

    def close(self) -> None:
        """Give everything back and leave the list of workers."""
        for key in list(self.held):
            self.let_go(key)
        self._leases.leave()
