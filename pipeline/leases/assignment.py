"""Which cameras a worker holds: follows the registry, keeps its leases, shares fairly with the other workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from pipeline.bus.streams import Bus
from pipeline.cameras.registry import Registry, registered
from pipeline.cameras.spec import CameraSpec
from pipeline.leases.lease import Leases, Peers, fair_share

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(camera, stage with its variant), as in ('front', 'features:motion')."""
POLL_S = 0.2
"""How often the registry is looked at."""
LOOK_COST_S = 0.001
"""Seconds for each lease that others were found to hold, until they are looked at again."""
AT_ONCE = 200
"""Lanes that Redis is asked about in one round trip."""
NAMED = 3
"""More lanes than these are counted in the log, not named."""


class Holdings:
    """The leases of one worker as a set that changes only in `turn`.

    Everybody takes what is free up to the largest fair share, and gives up lanes only for a worker that says it
    lacks some. What stays free although all have their share (a worker that cannot do the work counts as one) is taken
    by whoever can. So every lane is held in the end, and none moves without need.
    """

    def __init__(
        self, bus: Bus, leases: Leases, may_take: Callable[[CameraSpec, str], bool], *, at_once: int = 1
    ) -> None:
        """`may_take` is asked before a lease is taken: can this worker do that work now?

        `at_once`: leases taken together; 1 where the answer depends on what is held already.
        """
        self._bus = bus
        self._leases = leases
        self._may_take = may_take
        self._at_once = at_once
        self._registry = Registry(bus.client, bus.keys)
        self._next_turn_s = 0.0
        self._next_renewal_s = 0.0
        self._next_taking_s = 0.0
        self._next_look_s = 0.0
        self._wanted: dict[Key, CameraSpec] = {}
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
        self._follow_registry()
        wanted = self._wanted
        self.let_go([k for k, spec in self.held.items() if wanted.get(k) is not spec])
        renewal = now_s >= self._next_renewal_s
        if renewal:
            self._next_renewal_s = now_s + self._leases.lease_ms / 4000
            if lost := self.renew():
                self._follow_registry()
                if missed := [key for key in lost if key in self._wanted]:  # a removed camera's leases go with it
                    log.warning("lost the lease of %s", in_short(missed))
                wanted = self._wanted
                # Not to be had again in this turn: whoever works on it must see that it was gone.
                wanted = {key: spec for key, spec in wanted.items() if key not in set(lost)}
                for key in lost:
                    self.held.pop(key, None)
        least, most = fair_share(len(wanted), self._peers.workers)
        if renewal and self._give_up(least, most):
            self._next_taking_s = now_s + self._leases.lease_ms / 4000  # the hungry come first
        if now_s >= self._next_taking_s:
            self._take(wanted, most, now_s)
            if renewal:
                self._take_orphans(wanted)
        could = sum(1 for _ in islice(self._able(wanted), max(0, most - len(self.held))))
        self._lacking = min(could, max(0, least - len(self.held))), could
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

    def _follow_registry(self) -> None:
        if self._registry.refresh():
            stage, specs = self._leases.stage, self._registry.specs
            self._wanted = {(camera, s): spec for camera, spec in specs.items() for s in spec.stages(stage)}
            self._next_look_s = 0.0

    def wanted(self) -> dict[Key, CameraSpec]:
        """All there is to do in this worker's stage; the same object until the registry changes."""
        return self._wanted

    def _give_up(self, least: int, most: int) -> bool:
        """Let go of what others lack: for the hungry down to the least fair share, else down to the most."""
        held = len(self.held)
        count = max(min(self._peers.hungry, held - least), min(self._peers.room, held - most))
        self.let_go(list(self.held)[held - max(0, count) :])
        return count > 0

    def _take(self, wanted: dict[Key, CameraSpec], most: int, now_s: float) -> None:
        """Up to the share, of what is free; where nothing was, others are asked less often the more they are."""
        if now_s < self._next_look_s:
            return
        able, asked, found = self._able(wanted), 0, 0
        while len(self.held) < most and (some := list(islice(able, AT_ONCE))):
            free = self._leases.free(some)
            asked, found = asked + len(some), found + len(free)
            self._try(free, wanted, most)
        if not found:
            self._next_look_s = now_s + asked * LOOK_COST_S

    def _able(self, wanted: dict[Key, CameraSpec]) -> Iterator[Key]:
        """What is not held, and this worker could do now."""
        return (key for key, spec in wanted.items() if key not in self.held and self._may_take(spec, key[1]))

    def _take_orphans(self, wanted: dict[Key, CameraSpec]) -> None:
        """Beyond the share: what was free at the last look already, and still is."""
        free = set(self._leases.free(key for key in wanted if key not in self.held))
        both = free & self._seen_free
        self._try([key for key in wanted if key in both], wanted, len(wanted))
        self._seen_free = free

    def _try(self, free: Sequence[Key], wanted: dict[Key, CameraSpec], most: int) -> None:
        """Take what still is free, until `most` are held."""
        for start in range(0, len(free), self._at_once):
            some = free[start : start + max(0, min(self._at_once, most - len(self.held)))]
            some = [key for key in some if key not in self.held and self._may_take(wanted[key], key[1])]
            ours = self._leases.acquire_all(some)
            # Asked with the leases in hand: whoever removes a camera from now on removes its leases as well.
            there = registered(self._bus.client, self._bus.keys, [camera for camera, _ in ours])
            self.held |= {key: wanted[key] for key in ours if key[0] in there}
            self._leases.release_all([key for key in ours if key[0] not in there])

    def let_go(self, keys: Sequence[Key]) -> None:
        """Give leases back."""
        for key in keys:
            del self.held[key]
        self._leases.release_all(keys)

    def forget(self) -> None:
        """After trouble with Redis: hold nothing, look at everything anew in the next turn.

        Leases that are still ours are found again by `acquire`.
        """
        self.held.clear()
        self._seen_free.clear()
        self._next_turn_s = self._next_renewal_s = self._next_taking_s = self._next_look_s = 0.0

    def close(self) -> None:
        """Give everything back and leave the list of workers."""
        self.let_go(list(self.held))
        self._leases.leave()


def in_short(keys: Iterable[Key]) -> str:
    """Lanes for the log: 'a features:motion, b features:motion and 498 more'."""
    names = [" ".join(key) for key in keys]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
