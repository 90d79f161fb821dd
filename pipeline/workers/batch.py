"""Batches: which tasks are processed together, what their stage makes of them, and the commits of that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import redis

from pipeline.bus.codec import Bound
from pipeline.bus.commit import Commit, CommitResult, Look
from pipeline.bus.streams import Bus
from pipeline.leases.assignment import in_short
from pipeline.workers.task import Ready, Task
from stages.errors import LeaseLost
from stages.stage import Result, give_up

log = logging.getLogger(__name__)

MAX_BATCH = 16
"""Messages given to a stage at once, if nothing else is said; bounds memory."""
TRIM_EVERY = 16
"""After so many snippets a camera's output is rid of what has been read."""
FULL_AGAIN_S = 60.0
"""A full Redis is said again after so long without."""
STRANDED_LOOK_S = 2.0
"""How often a task without news is looked at for entries that were given to somebody who must not commit them."""
Batch = list[Ready]


@dataclass(frozen=True, slots=True)
class Batching:
    """`size`: messages given to a stage at once, at most; the first waits up to `wait_s` for more."""

    size: int = MAX_BATCH
    wait_s: float = 0.0

    def batches(self, tasks: Collection[Task], ready: Iterable[Ready], now_s: float) -> Iterator[Batch]:
        """What is `ready`, of all `tasks`, as batches; one that is not full only once its first has waited."""
        by_processor: dict[str, Batch] = {}
        for one in ready:
            by_processor.setdefault(one.task.spec.processor_key, []).append(one)
        for key, items in by_processor.items():
            for start in range(0, len(items), self.size):
                batch = items[start : start + self.size]
                if len(batch) == self.size or self._waited(key, batch, tasks, now_s):
                    yield batch

    def _waited(self, key: str, batch: Batch, tasks: Collection[Task], now_s: float) -> bool:
        if not self.wait_s:
            return True
        possible = sum(task.spec.processor_key == key for task in tasks)
        return len(batch) == possible or now_s - min(ready.since_s for ready in batch) >= self.wait_s


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """What a stage made of a task's inputs."""

    ready: Ready
    result: Result


@dataclass(slots=True, eq=False)
class BatchRunner:
    """Processes, then commits: what is processed twice is published once."""

    bus: Bus
    clock: Callable[[], float]
    _full_until_s: float = field(default=0.0, init=False)

    def count_attempt(self, ready: Ready) -> None:
        """Note before the work that another attempt begins."""
        for stream, pending in ready.pending.items():
            pending.attempts += 1
            self.bus.count_attempt(stream, ready.task.spec.id.stage, pending.entry, pending.attempts)

    def process(self, batch: Batch) -> list[Done]:
        """What the processor that they share makes of them.

        A batch that fails is tried item by item; what fails alone waits, and what no attempt could process becomes a
        gap, and a dead letter.
        """
        processor = batch[0].task.spec.processor
        doubtful = any(ready.attempts > ready.task.spec.camera.max_deliveries for ready in batch)
        if not doubtful:
            try:
                results = processor.run([(ready.inputs(), ready.task.state) for ready in batch])
                return [Done(ready, result) for ready, result in zip(batch, results, strict=True)]
            except Exception as error:
                if len(batch) == 1:
                    task = batch[0].task
                    log.warning("%s %s: %s failed: %s", *task.spec.id, batch[0].entry.id_text, error)
                    task.failed(self.bus, error, self.clock())
                    return []
        elif len(batch) == 1:
            return [Done(batch[0], self._bury(batch[0]))]
        return [done for ready in batch for done in self.process([ready])]

    def commit(self, done: Sequence[Done]) -> tuple[int, list[Task]]:
        """Publish the results, save the states and acknowledge the inputs, of each task in one step.

        Returns how many were, and the tasks whose lease somebody else has now. Raises redis.ResponseError for what
        Redis refused, connection errors for what may or may not have been done.
        """
        readers = {
            (stream, one.ready.task.spec.id.stage): one.ready.task
            for one in done
            if one.ready.task.reads_ahead
            for stream in one.ready.pending
            if stream not in one.ready.task.reading.ahead
        }
        results, found = self.bus.commit_and_read([self._commit(one) for one in done], readers)
        for reader, entry in found.items():
            readers[reader].reading.ahead[reader[0]] = entry
        lost = [(one.ready.task, r) for one, r in zip(done, results, strict=True) if isinstance(r, LeaseLost)]
        if lost:
            log.warning("%s: %s", in_short(task.spec.id for task, _ in lost), lost[0][1])
        committed = sum(self._go_on(one, result) for one, result in zip(done, results, strict=True))
        return committed, [task for task, _ in lost]

    def _bury(self, ready: Ready) -> Result:
        task, entry = ready.task, ready.entry
        why = task.waiting.last_error or "the worker died on it"
        log.error("%s %s: gave up on %s: %s", *task.spec.id, entry.id_text, why)
        self.bus.bury(task.spec.id.stage, task.spec.id.camera, entry, why, ready.attempts - 1)
        inputs, why = ready.inputs(), f"{task.spec.id.stage}: {why}"
        try:
            return give_up(task.spec.processor, inputs, task.state, why)
        except Exception as error:
            # It is what the stage remembers that it cannot bear.
            log.error("%s %s: forgets what it had learned: %s", *task.spec.id, error)
            return give_up(task.spec.processor, inputs, {}, why)

    def _commit(self, done: Done) -> Commit:
        spec, entry, result = done.ready.task.spec, done.ready.entry, done.result
        further = result.also(self.bus.keys) if result.also is not None else ()
        return self.bus.make_commit(
            spec.lease,
            outputs=[
                (spec.output, m, Bound.of(m, spec.camera.stream_mb, drop_oldest=spec.camera.live))
                for m in result.messages
            ],
            acks=[(stream, spec.id.stage, entry.id_text) for stream in done.ready.pending],
            also=[*spec.state_commands(result.state, entry.id), *further],
            look=Look(spec.output, trim=entry.id[1] % TRIM_EVERY == TRIM_EVERY - 1),
        )

    def _go_on(self, done: Done, result: CommitResult) -> int:
        """What Redis made of a commit, for its task; returns how many were committed."""
        task = done.ready.task
        if isinstance(result, LeaseLost):
            return 0
        if isinstance(result, redis.OutOfMemoryError):
            now_s = self.clock()
            if now_s >= self._full_until_s:
                log.warning("%s %s: Redis is full; waiting for memory", *task.spec.id)
            self._full_until_s = now_s + FULL_AGAIN_S
            task.make_room(self.bus, now_s)
            return 0
        if isinstance(result, redis.ResponseError):
            raise result
        task.committed(done.ready, done.result.state)
        waiting, camera = task.waiting, task.spec.camera
        waiting.next_look_s = done.ready.since_s + STRANDED_LOOK_S  # the next entry will show if one was left out
        if done.result.messages:
            waiting.output_bound = min(
                Bound.of(m, camera.stream_mb, drop_oldest=camera.live).entries for m in done.result.messages
            )
        waiting.output_full = not camera.live and result.entries >= waiting.output_bound
        return 1
