"""The decode worker: one killable process per camera, so that a hung camera harms no other."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import redis

from pipeline.backoff import Backoff, Restarts
from pipeline.bus.keys import Keys
from pipeline.bus.streams import OUTAGE, Bus, connect
from pipeline.bus.trouble import Trouble
from pipeline.cameras.announce import Announcer, live_specs, origin_of
from pipeline.cameras.repair import decoder_state, is_wrong_type, mend_if_possible
from pipeline.cameras.spec import CameraSpec
from pipeline.config.load import load_config
from pipeline.ingest.file import count_death
from pipeline.ingest.publish import Pulse
from pipeline.leases.assignment import Assignment
from pipeline.leases.lease import Leases, TaskId
from pipeline.pixels.route import PixelRoute
from pipeline.pixels.sweep import Sweeper
from pipeline.processes.child import fork, how_it_ended
from pipeline.processes.settings import WorkerSettings
from stages.errors import LeaseLost, OddwatchError
from stages.stage import number

log = logging.getLogger(__name__)

RESTART = Backoff(0.2, 60.0)
REDIS_AGAIN = Backoff(0.1, 2.0)
ANNOUNCE_EVERY_S = 5.0
SWEEP_EVERY_S = 2.0
"""How often shared memory is rid of what dead decoders left."""
HANG_MARGIN_S = 15.0
"""Beyond the camera's own time-outs: a decoder this silent hangs where no time-out reaches."""
BLAMELESS = (signal.SIGTERM, os.EX_TEMPFAIL << 8)
"""Ends (as `waitpid` says) that are no fault of the file: told to stop; no lease or no Redis."""


@dataclass(slots=True, eq=False)
class DecoderProcess:
    """A camera's decoder process, or the wait for its next one."""

    spec: CameraSpec
    pid: int
    pulse: Pulse
    restart_at_s: float = 0.0
    restarts: Restarts = field(default_factory=lambda: Restarts(RESTART))
    killed: bool = False
    """It hung, and goes when the system lets it."""
    done: bool = False
    """A file that was read to its end, or given up."""


class DecodeWorker:
    """Holds decode leases and keeps one decoder process running for each."""

    def __init__(
        self, bus: Bus, leases: Leases, settings: WorkerSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        import av  # noqa: F401  (imported once here, shared by all forked decoders)

        self._bus = bus
        self._leases = leases
        self._settings = settings
        self._clock = clock
        self._assignment = Assignment(bus, leases)
        self._decoders: dict[TaskId, DecoderProcess] = {}
        config = load_config(settings.config_path)
        specs = live_specs(config, settings.config_path) if settings.config_path else []
        self._addresses = {(s.camera, s.source): config.cameras[s.camera].source for s in specs}
        """Camera and its address as registered -> the address with login, known only on this host."""
        self._announcer = Announcer(bus, specs, origin_of(settings.config_path)) if settings.config_path else None
        self._next_announce_s = 0.0
        self._killed: list[int] = []
        """Processes of cameras that are no longer held, until the system lets them go."""
        self._outages = 0
        self._trouble = Trouble(log)
        self._route = PixelRoute(bus, settings.frames, settings.url)
        self._sweeper = Sweeper(bus)
        self._next_sweep_s = 0.0
        self.stopping = False

    def run(self) -> None:
        """Turn until stopped; then end the decoders and give the leases back."""
        while not self.stopping:
            self.turn()
            time.sleep(0.02)
        self.close()

    def stop(self) -> None:
        self.stopping = True

    def turn(self) -> None:
        """Follow the leases, reap what ended, kill what hangs, start what is due."""
        try:
            self._announce()
            self._killed = [pid for pid in self._killed if not os.waitpid(pid, os.WNOHANG)[0]]
            self._rebalance()
            self._follow_leases()
            self._route.look(self._clock())
            self._sweep()
            for decoder in self._decoders.values():
                decoder.pulse.let_share(self._route.is_shared(decoder.spec))
                self._look_after(decoder)
            self._outages = 0
        except (redis.RedisError, *OUTAGE) as error:
            # The decoders go on: they wait for Redis themselves, and the lease tells whether they may publish.
            if is_wrong_type(error):
                own = {} if self._announcer is None else self._announcer.specs
                mend_if_possible(self._bus, [*self._assignment.wanted.values(), *own.values()])
            self._next_announce_s = 0.0  # it may come back empty
            self._outages += 1
            self._trouble.say(error)
            time.sleep(REDIS_AGAIN.delay_s(self._outages))

    def _follow_leases(self) -> None:
        held = self._assignment.held
        for key in [k for k, d in self._decoders.items() if held.get(k) != d.spec]:
            self._kill(self._decoders.pop(key))
        for key, spec in held.items():
            if key not in self._decoders:
                self._decoders[key] = DecoderProcess(spec, 0, Pulse(), done=self._is_done(spec))

    def close(self) -> None:
        """Ask every decoder to end its run, wait a little, release everything."""
        for decoder in self._decoders.values():
            if decoder.pid:
                os.kill(decoder.pid, signal.SIGTERM)
        deadline = self._clock() + 5
        for decoder in self._decoders.values():
            while decoder.pid and self._clock() < deadline:
                if os.waitpid(decoder.pid, os.WNOHANG)[0]:
                    decoder.pid = 0
                else:
                    time.sleep(0.02)
            self._kill(decoder)
        try:
            self._assignment.close()
            self._sweeper.leave()
        except (redis.RedisError, *OUTAGE) as error:
            log.warning("left without a word (%s); the leases run out by themselves", error)

    def _announce(self) -> None:
        """Tell all workers of this host's cameras; again from time to time, since a Redis may come back empty."""
        if self._announcer is not None and self._clock() >= self._next_announce_s:
            self._announcer.announce()
            self._next_announce_s = self._clock() + ANNOUNCE_EVERY_S

    def _sweep(self) -> None:
        if self._clock() >= self._next_sweep_s:
            self._next_sweep_s = self._clock() + SWEEP_EVERY_S
            self._sweeper.sweep()

    # -- which cameras ------------------------------------------------------------------------------------------

    def _rebalance(self) -> None:
        now_s, tasks = self._clock(), self._assignment
        if not tasks.rebalance(now_s):
            return
        for free in tasks.offers((task for task in tasks.missing() if self._may_take(task)), now_s):
            for task in free:
                if self._may_take(task):  # which depends on what was taken just now
                    tasks.take([task])
        able = (task for task in tasks.missing() if self._may_take(task))
        tasks.could_take(sum(1 for _ in islice(able, tasks.room)))

    def _may_take(self, task: TaskId) -> bool:
        spec = self._assignment.wanted[task]
        if spec.live:
            return (spec.camera, spec.source) in self._addresses  # only who has the configuration knows its login
        busy = sum(not d.spec.live and not d.done for d in self._decoders.values())
        starting = sum(k not in self._decoders and not s.live for k, s in self._assignment.held.items())
        return busy + starting < self._settings.decode_files

    def _is_done(self, spec: CameraSpec) -> bool:
        state = decoder_state(self._bus, spec)
        return not spec.live and number(state, "done") == spec.run_ms

    # -- processes ----------------------------------------------------------------------------------------------

    def _look_after(self, decoder: DecoderProcess) -> None:
        if decoder.pid:
            pid, status = os.waitpid(decoder.pid, os.WNOHANG)
            limit_s = decoder.spec.decode.open_timeout_s + decoder.spec.decode.read_timeout_s + HANG_MARGIN_S
            if pid:
                self._after_end(decoder, status)
            elif decoder.pulse.age_s() > limit_s and not decoder.killed:
                log.error("%s: its decoder hangs; killing it", decoder.spec.camera)
                os.kill(decoder.pid, signal.SIGKILL)
                decoder.killed = True
        elif not decoder.done and self._clock() >= decoder.restart_at_s:
            self._start(decoder)

    def _after_end(self, decoder: DecoderProcess, status: int) -> None:
        decoder.pid, decoder.killed = 0, False
        # Asking Redis alone is not enough: whoever collects the scores may have removed the finished file by now.
        decoder.done = (not decoder.spec.live and status == 0) or self._is_done(decoder.spec)
        if decoder.done:
            return
        decoder.restart_at_s = self._clock() + decoder.restarts.ended(self._clock())
        log.warning("%s: its decoder %s; starting another", decoder.spec.camera, how_it_ended(status))
        if not decoder.spec.live and status not in BLAMELESS:
            with contextlib.suppress(LeaseLost):
                count_death(self._bus, decoder.spec, self._leases.token)

    def _start(self, decoder: DecoderProcess) -> None:
        decoder.restarts.began(self._clock())
        decoder.pulse.beat()
        decoder.pid = fork(f"decoder {decoder.spec.camera}", partial(self._decode, decoder))

    def _decode(self, decoder: DecoderProcess) -> int:
        """In the child: publish the camera until its end. Its own connection; the parent keeps the lease alive."""
        from pipeline.ingest.camera import publish_camera
        from pipeline.ingest.file import publish_file

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        bus = Bus(connect(self._settings.url), Keys(self._settings.prefix))
        spec, token, beat = decoder.spec, self._leases.token, decoder.pulse.beat
        try:
            frames = self._route.writer(bus, spec, decoder.pulse.may_share)
            if spec.live:
                publish_camera(bus, spec, token, beat, self._addresses[spec.camera, spec.source], frames)
            else:
                publish_file(bus, spec, token, beat, frames)
        except (OddwatchError, redis.RedisError, redis.exceptions.RedisClusterException) as error:
            log.warning("%s: %s", spec.camera, error)
            return os.EX_TEMPFAIL
        return 0

    def _kill(self, decoder: DecoderProcess) -> None:
        """Without waiting: a process that hangs in the kernel goes when it pleases."""
        if decoder.pid:
            os.kill(decoder.pid, signal.SIGKILL)
            self._killed.append(decoder.pid)
            decoder.pid = 0
