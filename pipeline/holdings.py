"""Which cameras a worker holds: follows the registry, keeps its leases, shares fairly with the other workers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.bus import Bus
from pipeline.lease import Leases, Peers, fair_share
from pipeline.registry import Registry, is_registered
from pipeline.spec import CameraSpec

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(camera, stage with its variant), as in ('front', 'features:motion')."""
POLL_S = 0.2
"""How often the registry is looked at."""


class Holdings:
    """The leases of one worker as a set that changes only in `turn`.

    Everybody takes what is free up to the largest fair share, and gives up lanes only for a worker that says it
    lacks some. What stays free although all have their share (a worker that cannot do the work counts as one) is taken
    by whoever can. So every lane is held in the end, and none moves without need.
    """

    def __init__(self, bus: Bus, leases: Leases, may_take: Callable[[CameraSpec, str], bool]) -> None:
        """`may_take` is asked before a lease is taken: can this worker do that work now?"""
        self._bus = bus
        self._leases = leases
        self._may_take = may_take
        self._registry = Registry(bus.client, bus.keys)
        self._next_turn_s = 0.0
        self._next_renewal_s = 0.0
        self._next_taking_s = 0.0
        self._peers = Peers()
        self._lacking = (0, 0)
        self._told = (self._lacking, "")
        self._seen_free: set[Key] = set()
        self.error = ""
        """Shown in the heartbeat: why this worker cannot take what there is."""
        self.held: dict[Key, CameraSpec] = {}

    def turn(self, now_s: float) -> bool:
        """Renew, let go, take; at most every POLL_S. Returns whether `held` may have changed."""
        if now_s < self._next_turn_s:
            return False
        self._next_turn_s = now_s + POLL_S
        before = dict(self.held)
        self._registry.refresh()
        wanted = self.wanted()
        for key in [k for k, spec in self.held.items() if wanted.get(k) != spec]:
            self.let_go(key)
        renewal = now_s >= self._next_renewal_s
        if renewal:
            self._next_renewal_s = now_s + self._leases.lease_ms / 4000
            for key in self.renew():
                log.warning("lost the lease of %s %s", *key)
                # Not to be had again in this turn: whoever works on it must see that it was gone.
                self.held.pop(key, None)
                wanted.pop(key, None)
        least, most = fair_share(len(wanted), self._peers.workers)
        if renewal and self._give_up(least, most):
            self._next_taking_s = now_s + self._leases.lease_ms / 4000  # the hungry come first
        if now_s >= self._next_taking_s:
            self._take(wanted, most)
            if renewal:
                self._take_orphans(wanted)
        self._lacking = self._lacks(wanted, least), self._lacks(wanted, most)
        if (self._lacking, self.error) != self._told:
            self._next_renewal_s = 0.0  # tell the others soon
        return self.held != before

    def renew(self) -> list[Key]:
        """Keep the leases and tell the others; returns what was lost. The only part that another thread may call."""
        held = list(self.held)
        self._told = (self._lacking, self.error)
        lost = self._leases.renew(held)
        self._peers = self._leases.beat(self._bus.now_ms(), len(held), *self._lacking, error=self.error)
        return lost

    def wanted(self) -> dict[Key, CameraSpec]:
        """All there is to do in this worker's stage."""
        stage = self._leases.stage
        return {(camera, s): spec for camera, spec in self._registry.specs.items() for s in spec.stages(stage)}

    def _give_up(self, least: int, most: int) -> bool:
        """Let go of what others lack: for the hungry down to the least fair share, else down to the most."""
        held = len(self.held)
        count = max(min(self._peers.hungry, held - least), min(self._peers.room, held - most))
        for key in list(self.held)[held - max(0, count) :]:
            self.let_go(key)
        return count > 0

    def _take(self, wanted: dict[Key, CameraSpec], most: int) -> None:
        for key, spec in wanted.items():
            if len(self.held) >= most:
                break
            self._try(key, spec)

    def _take_orphans(self, wanted: dict[Key, CameraSpec]) -> None:
        """Beyond the share: what was free at the last look already, and still is."""
        free = set(self._leases.free(key for key in wanted if key not in self.held))
        for key in [k for k in wanted if k in free & self._seen_free]:
            self._try(key, wanted[key])
        self._seen_free = free

    def _try(self, key: Key, spec: CameraSpec) -> None:
        if key in self.held or not self._may_take(spec, key[1]) or not self._leases.acquire(*key):
            return
        # Asked with the lease in hand: whoever removes the camera from now on removes the lease as well.
        if is_registered(self._bus.client, self._bus.keys, spec.camera):
            self.held[key] = spec
        else:
            self._leases.release(*key)

    def _lacks(self, wanted: dict[Key, CameraSpec], share: int) -> int:
        """Lanes to a share that this worker could take if others let go of them."""
        lacking = share - len(self.held)
        if lacking <= 0:
            return 0
        able = sum(self._may_take(spec, key[1]) for key, spec in wanted.items() if key not in self.held)
        return min(lacking, able)

    def let_go(self, key: Key) -> None:
        """Give a lease back."""
        del self.held[key]
        self._leases.release(*key)

    def forget(self) -> None:
        """After trouble with Redis: hold nothing, look at everything anew in the next turn.

        Leases that are still ours are found again by `acquire`.
        """
        self.held.clear()
        self._seen_free.clear()
        self._next_turn_s = self._next_renewal_s = self._next_taking_s = 0.0

    def close(self) -> None:
        """Give everything back and leave the list of workers."""
        for key in list(self.held):
            self.let_go(key)
        self._leases.leave()
