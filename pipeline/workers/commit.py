"""Turns batches into outcomes: a stage's results published, its state saved, its input acknowledged, in one step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import redis

from pipeline.bus.commit import Commit, CommitResult, Look
from pipeline.bus.streams import Bus
from pipeline.leases.assignment import in_short
from pipeline.workers.batch import Batch
from pipeline.workers.task import Due, Lane, attempts_of, came_s, entry_of, inputs_of
from stages.errors import LeaseLost
from stages.stage import Processor, Result, give_up

log = logging.getLogger(__name__)

TRIM_EVERY = 16
"""After so many snippets a camera's output is rid of what has been read."""
FULL_AGAIN_S = 60.0
"""A full Redis is said again after so long without."""
STRANDED_LOOK_S = 2.0
"""How often a lane without news is looked at for entries that were given to somebody who must not settle them."""


@dataclass(slots=True, eq=False)
class Settler:
    """Processes and settles, in this order: what is processed twice is published once."""

    bus: Bus
    clock: Callable[[], float]
    is_intact: Callable[[Lane, Due], bool]
    """Asked after the work: were the pixels there to the end?"""
    lose: Callable[[Lane], None]
    """Told of a lane whose lease somebody else has now."""
    _full_until_s: float = field(default=0.0, init=False)

    def process(self, work: Processor, items: Batch) -> int:
        """Process messages of one stage object, and settle them; returns how many were.

        Raises redis.ResponseError for what Redis refused, connection errors for what may or may not have been done.
        """
        results = zip(items, self._try(work, items), strict=True)
        done = [
            (lane, due, result) for (lane, due), result in results if result is not None and self.is_intact(lane, due)
        ]
        readers = {
            (stream, lane.stage): lane
            for lane, due, _ in done
            if lane.reads_ahead
            for stream in due
            if stream not in lane.ahead
        }
        outcomes, found = self.bus.commit_and_read([self._settlement(*one) for one in done], readers)
        for reader, entry in found.items():
            readers[reader].ahead[reader[0]] = entry
        self._say_lost(done, outcomes)
        return sum(self._after(*one, outcome) for one, outcome in zip(done, outcomes, strict=True))

    def _say_lost(self, done: list[tuple[Lane, Due, Result]], outcomes: list[CommitResult]) -> None:
        lost = [
            (lane, outcome)
            for (lane, _, _), outcome in zip(done, outcomes, strict=True)
            if isinstance(outcome, LeaseLost)
        ]
        if lost:
            log.warning("%s: %s", in_short((lane.spec.camera, lane.stage) for lane, _ in lost), lost[0][1])

    def _try(self, work: Processor, items: Batch) -> list[Result | None]:
        """Results, None for what must be tried again. A batch that fails is tried item by item."""
        doubtful = [due for lane, due in items if attempts_of(due) > lane.spec.max_deliveries]
        if not doubtful:
            try:
                return list(work.run([(inputs_of(due), lane.state) for lane, due in items]))
            except Exception as error:
                if len(items) == 1:
                    lane, due = items[0]
                    log.warning("%s %s: %s failed: %s", lane.spec.camera, lane.stage, entry_of(due).id_text, error)
                    lane.fail(self.bus, error, self.clock())
                    return [None]
        elif len(items) == 1:
            return [self._bury(work, *items[0])]
        return [self._try(work, [item])[0] for item in items]

    def _bury(self, work: Processor, lane: Lane, due: Due) -> Result:
        why = lane.last_error or "the worker died on it"
        entry = entry_of(due)
        log.error("%s %s: gave up on %s: %s", lane.spec.camera, lane.stage, entry.id_text, why)
        self.bus.bury(lane.stage, lane.spec.camera, entry, why, attempts_of(due) - 1)
        turn, why = inputs_of(due), f"{lane.stage}: {why}"
        try:
            return give_up(work, turn, lane.state, why)
        except Exception as error:
            # It is what the stage remembers that it cannot bear.
            log.error("%s %s: forgets what it had learned: %s", lane.spec.camera, lane.stage, error)
            return give_up(work, turn, {}, why)

    def _settlement(self, lane: Lane, due: Due, result: Result) -> Commit:
        entry = entry_of(due)

        also = [*lane.saving(result.state, entry.id), *(result.also(self.bus.keys) if result.also is not None else ())]
        return self.bus.make_commit(
            lane.lease,
            outputs=[(lane.output, m, lane.spec.bound(m)) for m in result.messages],
            acks=[(stream, lane.stage, entry.id_text) for stream in due],
            also=also,
            look=Look(lane.output, trim=entry.id[1] % TRIM_EVERY == TRIM_EVERY - 1),
        )

    def _after(self, lane: Lane, due: Due, result: Result, outcome: CommitResult) -> int:
        """What Redis made of a commit; returns how many were settled."""
        if isinstance(outcome, LeaseLost):
            self.lose(lane)
            return 0
        if isinstance(outcome, redis.OutOfMemoryError):
            now_s = self.clock()
            if now_s >= self._full_until_s:
                log.warning("%s %s: Redis is full; waiting for memory", lane.spec.camera, lane.stage)
            self._full_until_s = now_s + FULL_AGAIN_S
            lane.make_room(self.bus, now_s)
            return 0
        if isinstance(outcome, redis.ResponseError):
            raise outcome
        lane.settled(due, result.state)
        lane.next_look_s = came_s(due) + STRANDED_LOOK_S  # the next entry will show if one was left out
        if result.messages:
            lane.bound = min(lane.spec.bound(m).entries for m in result.messages)
        lane.blocked = not lane.spec.live and outcome.entries >= lane.bound
        return 1
