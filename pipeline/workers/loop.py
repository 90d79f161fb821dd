"""The loop of a features, temporal or alerting worker: hold tasks, read their inputs, process, commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import redis

from pipeline.alerts.forward import forward_all
from pipeline.backoff import Backoff
from pipeline.bus.codec import Entry, Reader
from pipeline.bus.streams import OUTAGE, Bus
from pipeline.bus.trouble import Trouble, trouble_kind
from pipeline.cameras.repair import is_wrong_type, mend_if_possible
from pipeline.cameras.spec import CameraSpec
from pipeline.leases.assignment import POLL_S, Assignment, Renewer
from pipeline.leases.lease import Leases, TaskId
from pipeline.pixels.reader import ForeignFrames, FrameReader
from pipeline.pixels.sweep import Sweeper
from pipeline.workers.batch import MAX_BATCH, STRANDED_LOOK_S, Batch, Batching, BatchRunner
from pipeline.workers.build import ProcessorFor, Processors
from pipeline.workers.task import Pending, Ready, Task, TaskSpec, open_tasks
from stages.messages import Snippet

log = logging.getLogger(__name__)

FULL_POLL_S = 0.01
"""How soon a full output is looked at again."""
READ_COST_S = 15e-6
"""Seconds from read to read for each stream that is waited for: a few times of what Redis needs for it."""
MIN_PAUSE_S = 0.0005
TIDY_S = 5.0
"""How often shared memory is tidied up."""
AWAY_AGAIN = Backoff(0.2, 5.0)
REFUSED_AGAIN = Backoff(0.04, 5.0)
FORWARD_EVERY_S = 0.5
"""How often a Cluster's alerting worker copies alerts to the stream of all cameras."""


class Worker:
    """Processes the messages of the tasks it holds, in one order: process, then publish and acknowledge.

    The same message can come twice (after a crash, a lost lease, a lost connection); its output cannot.
    """

    def __init__(
        self,
        bus: Bus,
        leases: Leases,
        processor_for: ProcessorFor,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        batch: int = MAX_BATCH,
        batch_wait_s: float = 0.0,
        frames: FrameReader | None = None,
        sweeper: Sweeper | None = None,
    ) -> None:
        """`batch`: messages given to a stage at once, at most; the first waits up to `batch_wait_s` for more."""
        self._bus = bus
        self._leases = leases
        self._processors = Processors(processor_for)
        self._clock = clock
        self._sleep = sleep
        self._assignment = Assignment(bus, leases)
        self._renewer = Renewer(self._assignment, leases.lease_ms / 4000)
        self._batching = Batching(batch, batch_wait_s)
        self._runner = BatchRunner(bus, clock)
        self._frames = FrameReader() if frames is None else frames
        self._sweeper = sweeper
        self._next_sweep_s = self._read_s = 0.0
        self._tasks: dict[TaskId, Task] = {}
        self._outages = 0
        self._refusal = ""
        self._trouble = Trouble(log)
        self._next_forward_s = self._next_look_s = 0.0
        self._next_tidy_s = 0.0
        self.stopping = False

    def run(self) -> None:
        """Turn until stopped; then give the leases back."""
        with self._renewer:
            while not self.stopping:
                self.turn()
        self.close()

    def stop(self) -> None:
        self.stopping = True

    def turn(self) -> int:
        """One turn: upkeep, read, process, commit. Returns the messages committed. A Redis outage is waited out."""
        try:
            self._upkeep()
            committed = self._recover() + self._advance()
            self._outages, self._refusal = 0, ""
            return committed
        except OUTAGE as error:
            self._after_outage(error)
        except redis.ResponseError as error:
            self._after_refusal(error)
        return 0

    def close(self) -> None:
        """Release every lease and leave the list of workers."""
        self._frames.close()
        try:
            self._assignment.close()
            if self._sweeper is not None:
                self._sweeper.leave()
        except (redis.RedisError, *OUTAGE) as error:
            log.warning("left without a word (%s); the leases run out by themselves", error)
        self._tasks.clear()

    # -- tasks --------------------------------------------------------------------------------------------------

    def _upkeep(self) -> None:
        self._renewer.alive()
        now_s = self._clock()
        self._rebalance(now_s)
        if now_s >= self._next_tidy_s:
            self._next_tidy_s = now_s + POLL_S
            self._processors.keep(self._assignment.wanted)
            self._assignment.error = self._processors.error_at(now_s)
        if now_s >= self._next_sweep_s:
            self._next_sweep_s = now_s + TIDY_S
            self._frames.tidy()
            if self._sweeper is not None and self._leases.stage != "alerting":
                self._sweeper.sweep()
        if self._bus.is_cluster and self._leases.stage == "alerting" and now_s >= self._next_forward_s:
            self._next_forward_s = now_s + FORWARD_EVERY_S
            forward_all(self._bus.client, self._bus.keys, [task.camera for task in self._tasks])

    def _rebalance(self, now_s: float) -> None:
        """Share the stage's tasks with its other workers, and open those that are new here."""
        if not self._assignment.rebalance(now_s):
            return
        for free in self._assignment.offers(self._able(now_s), now_s):
            self._assignment.take([task for task in free if self._can_do(task, now_s)])
        self._assignment.could_take(sum(1 for _ in islice(self._able(now_s), self._assignment.room)))
        held = self._assignment.held
        self._tasks = {id_: task for id_, task in self._tasks.items() if held.get(id_) is task.spec.camera}
        new = [id_ for id_ in held if id_ not in self._tasks]
        specs = [self._specify(id_, held[id_]) for id_ in new]
        self._tasks |= {task.spec.id: task for task in open_tasks(self._bus, specs)}
        self._assignment.lose([id_ for id_ in new if id_ not in self._tasks])

    def _specify(self, task: TaskId, spec: CameraSpec) -> TaskSpec:
        return TaskSpec.of(self._bus.keys, spec, task.stage, self._leases.token, self._processors.of(spec, task.stage))

    def _able(self, now_s: float) -> Iterator[TaskId]:
        return (task for task in self._assignment.missing() if self._can_do(task, now_s))

    def _can_do(self, task: TaskId, now_s: float) -> bool:
        """Builds the stage, before the lease is taken."""
        return self._processors.can_do(task, self._assignment.wanted[task], now_s)

    def _leave_to_others(self, task: TaskId, why: str) -> None:
        """Give a task up that only a worker on another host can do; what was read stays pending for that one."""
        self._processors.leave_to_others(task, why, self._clock())
        self._tasks.pop(task, None)
        if task in self._assignment.held:
            self._assignment.give_back([task])

    # -- messages -----------------------------------------------------------------------------------------------

    def _recover(self) -> int:
        """Commit what a predecessor left pending, one task at a time.

        Alone, because one of these messages may have killed it: each attempt must count against that message only.
        """
        now_s = self._clock()
        for task in list(self._tasks.values()):
            if not task.reading.recovering or now_s < task.waiting.retry_at_s:
                continue
            for stream in sorted(task.reading.recovering - set(task.reading.pending)):
                self._take_pending(task, stream)
            if ready := task.ready(now_s):
                if not task.waiting.refusals:  # what Redis had no memory for was no failure
                    self._runner.count_attempt(ready)
                return self._process([ready])
        return 0

    def _take_pending(self, task: Task, stream: str) -> None:
        stage = task.spec.id.stage
        found = self._bus.peek_pending(stream, stage)
        if found is None:
            task.reading.recovering.discard(stream)
        elif found[0].id <= task.last:
            self._bus.client.xack(stream, stage, found[0].id_text)
        else:
            self._take(task, stream, *found)

    def _advance(self) -> int:
        """Read new entries of all tasks, and process what is complete, in batches over cameras."""
        now_s, tasks = self._clock(), self._tasks.values()
        for task in tasks:
            full = task.waiting.output_full
            if full and self._bus.trim_acknowledged(task.spec.output) < task.waiting.output_bound:
                task.waiting.output_full = False
        readers = {(stream, task.spec.id.stage): task for task in tasks for stream in task.wants(now_s)}
        block_s = self._patience_s(now_s)
        if readers:
            found = self._read(readers, block_s, now_s)
            unexpected = [reader for reader, entry in found.items() if not readers[reader].follows(entry)]
            oldest = dict(zip(unexpected, self._bus.oldest_pending(unexpected), strict=True))
            for (stream, stage), entry in found.items():
                task, pending = readers[stream, stage], oldest.get((stream, stage))
                if entry.id <= task.last:
                    self._bus.client.xack(stream, stage, entry.id_text)
                    task.came_too_late(stream, entry, self._clock())
                elif pending is not None and pending < entry.id:
                    task.look_again()
                else:
                    self._take(task, stream, entry)
            self._look_for_stranded(readers, now_s)
        else:
            self._sleep(min(block_s, POLL_S / 4))
        now_s, tasks = self._clock(), self._tasks.values()
        ready = [one for task in tasks if not task.reading.recovering and (one := task.ready(now_s))]
        return sum(self._process(batch) for batch in self._batching.batches(tasks, ready, now_s))

    def _read(self, readers: Mapping[Reader, Task], block_s: float, now_s: float) -> dict[Reader, Entry]:
        """What is next on each stream: known already, or asked for; nothing known is held back to wait for more."""
        known = [(reader, task.reading.ahead) for reader, task in readers.items() if reader[0] in task.reading.ahead]
        found = {reader: ahead.pop(reader[0]) for reader, ahead in known}
        if rest := [reader for reader in readers if reader not in found]:
            self._gather(len(rest), now_s)
            found |= self._bus.read_new(rest, 0 if found else block_s)
        return found

    def _gather(self, streams: int, now_s: float) -> None:
        """With many cameras, leave some time between reads: they find more at once, and cost by the camera."""
        pause_s = self._read_s + streams * READ_COST_S - now_s
        if pause_s > MIN_PAUSE_S:
            self._sleep(pause_s)
        self._read_s = now_s + max(0.0, pause_s)

    def _patience_s(self, now_s: float) -> float:
        """How long to wait for something new: less while a task must be looked at again by itself."""
        patience_s = POLL_S
        for task in self._tasks.values():
            if task.waiting.output_full or task.reading.recovering or now_s < task.waiting.retry_at_s:
                return FULL_POLL_S
            if task.reading.pending and self._batching.wait_s and task.ready(now_s):
                patience_s = min(patience_s, self._batching.wait_s / 4)
        return patience_s

    def _take(self, task: Task, stream: str, entry: Entry, attempts: int = 1) -> None:
        """Make an entry the next one of its stream; what is no message is buried, what was trimmed is forgotten."""
        if entry.fields:
            try:
                message = self._frames.message(entry.fields)
            except ForeignFrames as error:
                self._leave_to_others(task.spec.id, str(error))
                return
            except ValueError as error:
                self._bus.bury(task.spec.id.stage, task.spec.id.camera, entry, str(error), attempts)
            else:
                task.put(stream, Pending(entry, message, self._clock(), attempts))
                return
        self._bus.client.xack(stream, task.spec.id.stage, entry.id_text)

    def _look_for_stranded(self, readers: dict[Reader, Task], now_s: float) -> None:
        """A holder that stalled may have been given an entry after its lease had gone to this worker."""
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + POLL_S
        quiet = [(reader, task) for reader, task in readers.items() if reader[0] not in task.reading.pending]
        due = [reader for reader, task in quiet if now_s >= task.waiting.next_look_s]
        for reader, oldest in zip(due, self._bus.oldest_pending(due), strict=True):
            readers[reader].waiting.next_look_s = now_s + STRANDED_LOOK_S
            if oldest is not None:
                readers[reader].look_again()

    def _process(self, batch: Batch) -> int:
        done = self._runner.process(batch)
        committed, lost = self._runner.commit([one for one in done if self._is_intact(one.ready)])
        if lost:
            self._assignment.lose([task.spec.id for task in lost])
            for task in lost:
                self._tasks.pop(task.spec.id, None)
        return committed

    def _is_intact(self, ready: Ready) -> bool:
        """Whether the pixels were there to the end. If not, they are read again: as a gap."""
        seen = [(stream, p) for stream, p in ready.pending.items() if isinstance(p.message, Snippet)]
        lost = [(stream, p) for stream, p in seen if not self._frames.is_intact(p.entry.fields)]
        for stream, pending in lost:
            self._take(ready.task, stream, pending.entry, pending.attempts)
        return not lost

    # -- trouble ------------------------------------------------------------------------------------------------

    def _after_outage(self, error: BaseException) -> None:
        """Redis is away: wait for it."""
        self._outages += 1
        self._trouble.say(error)
        self._start_over(AWAY_AGAIN)

    def _after_refusal(self, error: redis.ResponseError) -> None:
        """A stream vanished under us (its file is done, or Redis was emptied), or a command is not allowed."""
        self._outages += 1
        expected = any(word in str(error) for word in ("NOGROUP", "UNBLOCKED", "no such key")) and self._outages < 10
        if is_wrong_type(error):
            mend_if_possible(self._bus, self._assignment.wanted.values())
        elif not expected and trouble_kind(error) != "refuses":
            self._trouble.say(error)
        elif not expected and str(error) != self._refusal:
            self._refusal = str(error)
            log.error("Redis refused: %s", error)
        self._start_over(REFUSED_AGAIN)

    def _start_over(self, again: Backoff) -> None:
        """What was in flight may or may not have been done: believe only what Redis says after a wait."""
        self._tasks.clear()
        self._assignment.forget()
        self._sleep(again.delay_s(self._outages))
