"""The loop of a features, temporal or alerting worker: lease cameras, read, have it processed and settled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import redis

from pipeline.alerts.forward import forward_all
from pipeline.bus.codec import Entry, Reader
from pipeline.bus.streams import OUTAGE, Bus
from pipeline.cameras.spec import CameraSpec
from pipeline.leases.assignment import POLL_S, Holdings, Key
from pipeline.leases.lease import Leases
from pipeline.leases.renewer import Keeper
from pipeline.pixels.reader import ForeignFrames, FrameReader
from pipeline.pixels.sweep import Sweeper
from pipeline.workers.batch import MAX_BATCH, Batch, Batching
from pipeline.workers.commit import STRANDED_LOOK_S, Settler
from pipeline.workers.task import Due, Lane, open_lanes, processor_key
from pipeline.workers.workshop import ProcessorFor, Workshop
from stages.messages import Snippet

log = logging.getLogger(__name__)

FULL_POLL_S = 0.01
"""How soon a full output is looked at again."""
READ_COST_S = 15e-6
"""Seconds from read to read for each stream that is waited for: a few times of what Redis needs for it."""
MIN_PAUSE_S = 0.0005
FOREIGN_S = 60.0
"""How long a camera is left to others whose pictures lie in the memory of another host."""
TIDY_S = 5.0
"""How often shared memory is tidied up."""
TAKEN_AT_ONCE = 50
"""Lanes taken and opened together."""
FORWARD_EVERY_S = 0.5
"""How often a Cluster's alerting worker copies alerts to the stream of all cameras."""


class Worker:
    """Processes the messages of the cameras it holds. Settles in one order: process, then publish and acknowledge.

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
        self._workshop = Workshop(processor_for)
        self._clock = clock
        self._sleep = sleep
        self._holdings = Holdings(bus, leases, self._can_work, at_once=TAKEN_AT_ONCE)
        self._batching = Batching(batch, batch_wait_s)
        self._settler = Settler(bus, clock, self._is_intact, self._lose)
        self._frames = FrameReader() if frames is None else frames
        self._sweeper = sweeper
        self._next_sweep_s = self._read_s = 0.0
        self._foreign: dict[Key, tuple[float, str]] = {}
        """Lanes whose pictures only workers on another host can read: until when they are left to those, and why."""
        self._lanes: dict[Key, Lane] = {}
        self._kept_for: dict[Key, CameraSpec] = {}
        """What was wanted when the workshop was last tidied."""
        self._outages = 0
        self._refusal = ""
        self._next_forward_s = self._next_look_s = 0.0
        self._next_tidy_s = 0.0
        self.stopping = False

    def run(self) -> None:
        """Turn until stopped; then give the leases back."""
        with Keeper(self._holdings.renew, self._leases.lease_ms / 4000) as keeper:
            while not self.stopping:
                keeper.alive()
                self.turn()
        self.close()

    def stop(self) -> None:
        self.stopping = True

    def turn(self) -> int:
        """One turn: upkeep, read, process, settle. Returns the messages settled. A Redis outage is waited out."""
        try:
            self._upkeep()
            settled = self._recover() + self._advance()
            self._outages, self._refusal = 0, ""
            return settled
        except OUTAGE as error:
            self._wait_out(error)
        except redis.ResponseError as error:
            self._after_refusal(error)
        return 0

    def close(self) -> None:
        """Release every lease and leave the list of workers."""
        self._frames.close()
        try:
            self._holdings.close()
            if self._sweeper is not None:
                self._sweeper.leave()
        except (redis.RedisError, *OUTAGE) as error:
            log.warning("left without a word (%s); the leases run out by themselves", error)
        self._lanes.clear()

    # -- leases -------------------------------------------------------------------------------------------------

    def _upkeep(self) -> None:
        now_s = self._clock()
        if self._holdings.turn(now_s):
            self._follow_holdings()
        if now_s >= self._next_tidy_s:
            self._next_tidy_s = now_s + POLL_S
            if (wanted := self._holdings.wanted()) is not self._kept_for:
                self._workshop.keep({processor_key(spec, stage) for (_, stage), spec in wanted.items()})
                self._kept_for = wanted
            self._holdings.error = "; ".join(filter(None, [self._workshop.error, *self._still_foreign(now_s)]))
        if now_s >= self._next_sweep_s:
            self._next_sweep_s = now_s + TIDY_S
            self._frames.tidy()
            if self._sweeper is not None and self._leases.stage != "alerting":
                self._sweeper.sweep()
        if self._bus.is_cluster and self._leases.stage == "alerting" and now_s >= self._next_forward_s:
            self._next_forward_s = now_s + FORWARD_EVERY_S
            forward_all(self._bus.client, self._bus.keys, [camera for camera, _ in self._lanes])

    def _follow_holdings(self) -> None:
        held = self._holdings.held
        for key in [k for k, lane in self._lanes.items() if held.get(k) is not lane.spec]:
            del self._lanes[key]
        new = [key for key in held if key not in self._lanes]
        for start in range(0, len(new), TAKEN_AT_ONCE):
            some = new[start : start + TAKEN_AT_ONCE]
            lanes = [Lane.of(self._bus.keys, held[key], key[1], self._leases.token) for key in some]
            self._lanes |= {(lane.spec.camera, lane.stage): lane for lane in open_lanes(self._bus, lanes)}
            for key in some:
                if key not in self._lanes:
                    del held[key]

    def _can_work(self, spec: CameraSpec, stage: str) -> bool:
        """Build the stage before taking the lease."""
        now_s = self._clock()
        return now_s >= self._foreign.get((spec.camera, stage), (0.0,))[0] and self._workshop.ready(spec, stage, now_s)

    def _still_foreign(self, now_s: float) -> set[str]:
        self._foreign = {key: (until_s, why) for key, (until_s, why) in self._foreign.items() if until_s > now_s}
        return {why for _, why in self._foreign.values()}

    def _leave_to_others(self, lane: Lane, why: str) -> None:
        """Give a lane up that only a worker on another host can serve; what was read stays pending for that one."""
        if why not in self._still_foreign(self._clock()):
            log.warning("%s %s: %s", lane.spec.camera, lane.stage, why)
        key = (lane.spec.camera, lane.stage)
        self._foreign[key] = self._clock() + FOREIGN_S, why
        self._lanes.pop(key, None)
        if key in self._holdings.held:
            self._holdings.let_go([key])

    # -- messages -----------------------------------------------------------------------------------------------

    def _recover(self) -> int:
        """Settle what a predecessor left pending, one lane at a time.

        Alone, because one of these messages may have killed it: each attempt must count against that message only.
        """
        now_s = self._clock()
        for lane in list(self._lanes.values()):
            if not lane.recovering or now_s < lane.retry_at_s:
                continue
            for stream in sorted(lane.recovering - set(lane.heads)):
                self._take_pending(lane, stream)
            if due := lane.due(now_s):
                if not lane.refusals:  # what Redis had no memory for was no failure
                    for stream, head in due.items():
                        head.attempts += 1
                        self._bus.count_attempt(stream, lane.stage, head.entry, head.attempts)
                return self._process([(lane, due)])
        return 0

    def _take_pending(self, lane: Lane, stream: str) -> None:
        found = self._bus.peek_pending(stream, lane.stage)
        if found is None:
            lane.recovering.discard(stream)
        elif found[0].id <= lane.last:
            self._bus.client.xack(stream, lane.stage, found[0].id_text)
        else:
            self._take(lane, stream, *found)

    def _advance(self) -> int:
        """Read new entries of all lanes, and process what is complete, in batches over cameras."""
        now_s = self._clock()
        for lane in self._lanes.values():
            if lane.blocked and self._bus.trim_acknowledged(lane.output) < lane.bound:
                lane.blocked = False
        readers = {(s, lane.stage): lane for lane in self._lanes.values() for s in lane.wants(now_s)}
        block_s = self._patience_s(now_s)
        if readers:
            found = self._read(readers, block_s, now_s)
            unexpected = [reader for reader, entry in found.items() if not readers[reader].follows(entry)]
            oldest = dict(zip(unexpected, self._bus.oldest_pending(unexpected), strict=True))
            for (stream, stage), entry in found.items():
                lane, pending = readers[stream, stage], oldest.get((stream, stage))
                if entry.id <= lane.last:
                    self._bus.client.xack(stream, stage, entry.id_text)
                    lane.came_too_late(stream, entry, self._clock())
                elif pending is not None and pending < entry.id:
                    lane.look_again()
                else:
                    self._take(lane, stream, entry)
            self._look_for_stranded(readers, now_s)
        else:
            self._sleep(min(block_s, POLL_S / 4))
        now_s = self._clock()
        ready = [(lane, due) for lane in self._lanes.values() if not lane.recovering and (due := lane.due(now_s))]
        settled = 0
        for items in self._batching.batches(self._lanes.values(), ready, now_s):
            settled += self._process(items)
        return settled

    def _read(self, readers: Mapping[Reader, Lane], block_s: float, now_s: float) -> dict[Reader, Entry]:
        """What is next on each stream: known already, or asked for; nothing known is held back to wait for more."""
        found = {reader: lane.ahead.pop(reader[0]) for reader, lane in readers.items() if reader[0] in lane.ahead}
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
        """How long to wait for something new: less while a lane must be looked at again by itself."""
        patience_s = POLL_S
        for lane in self._lanes.values():
            if lane.blocked or lane.recovering or now_s < lane.retry_at_s:
                return FULL_POLL_S
            if lane.heads and self._batching.wait_s and lane.due(now_s):
                patience_s = min(patience_s, self._batching.wait_s / 4)
        return patience_s

    def _take(self, lane: Lane, stream: str, entry: Entry, attempts: int = 1) -> None:
        try:
            taken = lane.put(stream, entry, self._clock(), attempts, read=self._frames.message)
        except ForeignFrames as error:
            self._leave_to_others(lane, str(error))
            return
        if not taken:
            if entry.fields:
                self._bus.bury(lane.stage, lane.spec.camera, entry, lane.last_error, attempts)
            self._bus.client.xack(stream, lane.stage, entry.id_text)

    def _look_for_stranded(self, readers: dict[Reader, Lane], now_s: float) -> None:
        """A holder that stalled may have been given an entry after its lease had gone to this worker."""
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + POLL_S
        due = [r for r, lane in readers.items() if r[0] not in lane.heads and now_s >= lane.next_look_s]
        for reader, oldest in zip(due, self._bus.oldest_pending(due), strict=True):
            readers[reader].next_look_s = now_s + STRANDED_LOOK_S
            if oldest is not None:
                readers[reader].look_again()

    def _process(self, items: Batch) -> int:
        return self._settler.process(self._workshop[items[0][0].work], items)

    def _lose(self, lane: Lane) -> None:
        """Somebody else has its lease."""
        self._lanes.pop((lane.spec.camera, lane.stage), None)
        self._holdings.held.pop((lane.spec.camera, lane.stage), None)

    def _is_intact(self, lane: Lane, due: Due) -> bool:
        """Whether the pixels were there to the end. If not, they are read again: as a gap."""
        seen = [(stream, head) for stream, head in due.items() if isinstance(head.message, Snippet)]
        lost = [(stream, head) for stream, head in seen if not self._frames.is_intact(head.entry.fields)]
        for stream, head in lost:
            self._take(lane, stream, head.entry, head.attempts)
        return not lost

    # -- trouble ------------------------------------------------------------------------------------------------

    def _wait_out(self, error: BaseException) -> None:
        """Redis is away. What was in flight may or may not have been done: believe only what it says later."""
        self._outages += 1
        if self._outages == 1:
            log.warning("Redis does not answer (%s); waiting for it", error)
        self._lanes.clear()
        self._holdings.forget()
        self._sleep(min(5.0, 0.1 * 2 ** min(self._outages, 6)))

    def _after_refusal(self, error: redis.ResponseError) -> None:
        """A stream vanished under us (its file is done, or Redis was emptied), or a command is not allowed."""
        self._outages += 1
        expected = any(word in str(error) for word in ("NOGROUP", "UNBLOCKED", "no such key")) and self._outages < 10
        if not expected and str(error) != self._refusal:
            self._refusal = str(error)
            log.error("Redis refused: %s", error)
        self._lanes.clear()
        self._holdings.forget()
        self._sleep(min(5.0, 0.02 * 2 ** min(self._outages, 8)))
