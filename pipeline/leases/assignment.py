"""The assignment: which tasks a worker holds. It follows the registry, keeps its leases, and shares with its peers."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import redis

from pipeline.bus.streams import OUTAGE, Bus
from pipeline.cameras.registry import Registry, registered
from pipeline.cameras.spec import CameraSpec
from pipeline.leases.lease import Leases, Peers, TaskId, fair_share

log = logging.getLogger(__name__)

POLL_S = 0.2
"""How often the registry is looked at."""
LOOK_COST_S = 0.001
"""Seconds for each lease that others were found to hold, until they are looked at again."""
ASKED_AT_ONCE = 200
"""Tasks that Redis is asked about in one round trip."""
TAKEN_AT_ONCE = 50
"""Leases taken together."""
NAMED = 3
"""More tasks than these are counted in the log, not named."""
HANG_S = 300.0
"""A turn that takes longer hangs: the process ends itself, and what it worked on counts as having killed it."""


class Assignment:
    """The leases of one worker as a set that changes only where the worker says so.

    The worker decides what it can do: `rebalance` renews and gives up, `offers` says what is free of that, `take` takes
    it, and `could_take` tells the others what this worker still lacks.

    Everybody takes what is free up to the largest fair share, and gives up tasks only for a worker that says it lacks
    some. What stays free although all have their share (a worker that cannot do the work counts as one) is taken by
    whoever can. So every task is held in the end, and none moves without need.
    """

    def __init__(self, bus: Bus, leases: Leases) -> None:
        self._bus = bus
        self._leases = leases
        self._registry = Registry(bus.client, bus.keys)
        self._next_turn_s = 0.0
        self._next_renewal_s = 0.0
        self._next_taking_s = 0.0
        self._next_look_s = 0.0
        self._just_lost: set[TaskId] = set()
        """Not to be had again in this turn: whoever works on it must see that it was gone."""
        self._renewed = False
        """In this turn."""
        self._peers = Peers()
        self._lacking = (0, 0)
        self._told = (self._lacking, "")
        self._seen_free: set[TaskId] = set()
        self.error = ""
        """Shown in the heartbeat: why this worker cannot take what there is."""
        self.wanted: dict[TaskId, CameraSpec] = {}
        """All there is to do in this worker's stage; the same object until the registry changes."""
        self.held: dict[TaskId, CameraSpec] = {}

    def rebalance(self, now_s: float) -> bool:
        """Follow the registry, renew, and give up what others lack; at most every POLL_S, else False."""
        if now_s < self._next_turn_s:
            return False
        self._next_turn_s = now_s + POLL_S
        self._follow_registry()
        self.give_back([task for task, spec in self.held.items() if self.wanted.get(task) is not spec])
        self._just_lost = set()
        self._renewed = now_s >= self._next_renewal_s
        if self._renewed:
            self._next_renewal_s = now_s + self._leases.lease_ms / 4000
            if lost := self.renew():
                self._after_loss(lost)
            least, most = self._share()
            if self._give_up(least, most):
                self._next_taking_s = now_s + self._leases.lease_ms / 4000  # those that lack some come first
        return True

    def renew(self) -> list[TaskId]:
        """Keep the leases and tell the others; returns what was lost. The only part that another thread may call."""
        held = list(self.held)
        self._told = (self._lacking, self.error)
        lost = self._leases.renew(held)
        self._peers = self._leases.beat(self._bus.now_ms(), len(held), *self._lacking, error=self.error)
        return lost

    def offers(self, able: Iterator[TaskId], now_s: float) -> Iterator[list[TaskId]]:
        """What nobody holds now, a few tasks at a time; to be taken before the next few.

        First what of `able` (the missing ones that this worker can do) makes its share full; where nothing was free,
        others are asked less often the more they are. Then, at each renewal, whatever is missing and was free at the
        last one already, beyond the share.
        """
        if now_s < self._next_taking_s:
            return
        if now_s >= self._next_look_s:
            asked = found = 0
            while self.room and (some := list(islice(able, ASKED_AT_ONCE))):
                free = self._leases.free(some)
                asked, found = asked + len(some), found + len(free)
                while self.room and free:
                    some, free = free[: min(TAKEN_AT_ONCE, self.room)], free[min(TAKEN_AT_ONCE, self.room) :]
                    yield some
            if not found:
                self._next_look_s = now_s + asked * LOOK_COST_S
        if self._renewed:
            free_now = set(self._leases.free(self.missing()))
            twice_free = free_now & self._seen_free
            orphans = [task for task in self.wanted if task in twice_free]
            self._seen_free = free_now
            for start in range(0, len(orphans), TAKEN_AT_ONCE):
                yield orphans[start : start + TAKEN_AT_ONCE]

    def take(self, tasks: Sequence[TaskId]) -> None:
        """Take those that still are free."""
        ours = self._leases.acquire_all(tasks)
        # Asked with the leases in hand: whoever removes a camera from now on removes its leases as well.
        there = registered(self._bus.client, self._bus.keys, [task.camera for task in ours])
        self.held |= {task: self.wanted[task] for task in ours if task.camera in there}
        self._leases.release_all([task for task in ours if task.camera not in there])

    def missing(self) -> Iterator[TaskId]:
        """What is not held and could be taken in this turn; goes on from what was taken meanwhile."""
        return (task for task in self.wanted if task not in self.held and task not in self._just_lost)

    @property
    def room(self) -> int:
        """Tasks to the most that is its fair share."""
        return max(0, self._share()[1] - len(self.held))

    def could_take(self, tasks: int) -> None:
        """Tell the others soon how many more tasks, up to `room`, this worker could do."""
        least, _ = self._share()
        self._lacking = min(tasks, max(0, least - len(self.held))), tasks
        if (self._lacking, self.error) != self._told:
            self._next_renewal_s = 0.0

    def give_back(self, tasks: Sequence[TaskId]) -> None:
        """Release leases."""
        for task in tasks:
            del self.held[task]
        self._leases.release_all(tasks)

    def lose(self, tasks: Iterable[TaskId]) -> None:
        """Others have their leases."""
        for task in tasks:
            self.held.pop(task, None)

    def forget(self) -> None:
        """After trouble with Redis: hold nothing, look at everything anew in the next turn.

        Leases that are still ours are found again when they are taken.
        """
        self.held.clear()
        self._seen_free.clear()
        self._next_turn_s = self._next_renewal_s = self._next_taking_s = self._next_look_s = 0.0

    def close(self) -> None:
        """Give everything back and leave the list of workers."""
        self.give_back(list(self.held))
        self._leases.leave()

    def _follow_registry(self) -> None:
        if self._registry.refresh():
            stage, specs = self._leases.stage, self._registry.specs
            self.wanted = {TaskId(camera, s): spec for camera, spec in specs.items() for s in spec.stages(stage)}
            self._next_look_s = 0.0

    def _after_loss(self, lost: Sequence[TaskId]) -> None:
        self._follow_registry()
        if missed := [task for task in lost if task in self.wanted]:  # a removed camera's leases go with it
            log.warning("lost the lease of %s", in_short(missed))
        self._just_lost = set(lost)
        self.lose(lost)

    def _share(self) -> tuple[int, int]:
        return fair_share(len(self.wanted), self._peers.workers)

    def _give_up(self, least: int, most: int) -> bool:
        """Release what others lack: down to the least fair share for those below it, else down to the most."""
        held = len(self.held)
        count = max(min(self._peers.below_least, held - least), min(self._peers.below_most, held - most))
        self.give_back(list(self.held)[held - max(0, count) :])
        return count > 0


def in_short(tasks: Iterable[TaskId]) -> str:
    """Tasks for the log: 'a features:motion, b features:motion and 498 more'."""
    names = [" ".join(task) for task in tasks]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


class Renewable(Protocol):
    """What is renewed."""

    def renew(self) -> Any: ...


class Renewer:
    """A thread that renews an assignment's leases while turns go on, and ends the process when one never ends."""

    def __init__(
        self, assignment: Renewable, every_s: float, *, hang_s: float = HANG_S,
        die: Callable[[int], Any] = os._exit,
    ) -> None:  # fmt: skip
        self._assignment = assignment
        self._every_s = every_s
        self._hang_s = hang_s
        self._die = die
        self._alive_s = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewer", daemon=True)

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
                    self._assignment.renew()
                except (redis.RedisError, *OUTAGE) as error:
                    log.debug("leases not renewed: %s", error)

    def __enter__(self) -> Renewer:
        self.alive()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
