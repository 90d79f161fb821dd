"""Archived footage through the stages: registers files as jobs, takes in their scores as they come."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import redis

from pipeline.alerts.forward import ALERTS_KEPT
from pipeline.archive.claims import CLAIM_S, is_dead, left_open
from pipeline.archive.job import FileToScore, Job, Listener
from pipeline.archive.records import FileResult, read_record, write_record
from pipeline.bus.codec import Entry, EntryId, decode
from pipeline.bus.streams import Bus
from pipeline.cameras.registry import register, unregister
from pipeline.cameras.spec import STAGES, CameraSpec
from pipeline.leases.lease import heartbeats, keep
from pipeline.workers.alerting import alert_fields
from stages.alerting.alert import Alert
from stages.errors import OddwatchError
from stages.files.atomic import write_whole
from stages.files.scores_csv import ScoresCsv
from stages.messages import End, Fused, Gap
from stages.text import printable

log = logging.getLogger(__name__)

BLOCK_S = 0.2


class ScoreRun:
    """Scores files, a window of them at a time. One `turn` takes in what the stages have published."""

    def __init__(
        self, bus: Bus, files: Sequence[FileToScore], out: Path, listener: Listener, *, window: int,
        resume: bool = True, forget_frames: Callable[[str], None] = lambda camera: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._bus = bus
        self._waiting = deque(files)
        self._out = out
        self._listener = listener
        self._forget_frames = forget_frames
        self._window = window
        self._resume = resume
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._leaving: deque[str] = deque()
        """Finished cameras of which Redis still knows."""
        self._me = f"{socket.gethostname()}:{os.getpid()}"
        self._next_look_s = 0.0
        self._problem = ""
        self.results: dict[str, FileResult] = {}
        """By camera."""
        self.kept: set[str] = set()
        """Cameras whose results an earlier run left."""

    @property
    def done(self) -> bool:
        return not self._waiting and not self._jobs and not self._leaving

    def turn(self) -> None:
        """Start what the window allows, read what is there, write it down.

        Raises OddwatchError when --out cannot be written or no worker can do the work; errors of a Redis that
        is away or full pass through, after which `turn` can be called again.
        """
        self._let_go()
        self._fill()
        if not self._jobs:
            return
        self._look_around()
        jobs = {job.stream: job for job in self._jobs.values()}
        for stream, entries in self._bus.read_after({s: job.taken for s, job in jobs.items()}, BLOCK_S).items():
            for entry in entries:
                self._take(jobs[stream], entry)
            # What is written down makes room: the alerting stage waits while the stream is full.
            self._bus.client.xtrim(stream, minid=_after(jobs[stream].taken), approximate=False)

    def abandon(self) -> None:
        """Leave no half-written file and no registration behind; finished files stay."""
        for job in self._jobs.values():
            job.csv.abort()
        for camera in [*self._jobs, *self._leaving]:
            try:
                self._forget(camera)
            except (redis.RedisError, OSError):
                log.debug("%s stays registered: Redis does not answer", camera)
        self._jobs.clear()
        self._leaving.clear()
        self._waiting.clear()

    # -- starting -----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        while self._waiting and len(self._jobs) < self._window:
            file = self._waiting[0]  # until it is begun: Redis may be away, or full
            record = read_record(self._out, file.spec.camera, file.spec.config_hash) if self._resume else None
            if record is not None:
                self.results[file.spec.camera] = record
                self.kept.add(file.spec.camera)
                self._listener.finished(file, record, True)
            else:
                self._start(file)
            self._waiting.popleft()

    def _start(self, file: FileToScore) -> None:
        """Register a file as a new run. Whatever an interrupted run left of it goes first: leases too, which fences
        off workers that are still busy with it."""
        camera = file.spec.camera
        claim = self._bus.keys.claim(camera)
        holder = self._bus.client.set(claim, self._me, nx=True, ex=CLAIM_S, get=True)
        if holder is not None and holder.decode() != self._me and not is_dead(holder.decode()):
            raise OddwatchError(
                f"{file.shown}: is being scored by {holder.decode()} on this Redis; wait for it, or set another "
                f"redis.prefix (if it was killed, its claim ends in {CLAIM_S} s)"
            )
        self._forget(camera)
        self._bus.client.set(claim, self._me, ex=CLAIM_S)
        spec = file.spec.model_copy(update={"run_ms": self._bus.now_ms()})
        job = Job(
            file=file, spec=spec, csv=ScoresCsv(self._out / file.csv, list(spec.models)),
            stream=self._bus.keys.stream(camera, "scores"), started_s=self._clock(),
        )  # fmt: skip
        try:
            self._register(spec)
        except BaseException:
            job.csv.abort()
            raise
        self._jobs[camera] = job
        self._listener.started(file)

    def _register(self, spec: CameraSpec) -> None:
        spec.ensure_streams(self._bus)
        note = {"file": printable(spec.source), "by": self._me, "run_ms": spec.run_ms, "state": "running"}
        self._bus.client.hset(self._bus.keys.jobs, spec.camera, json.dumps(note))
        register(self._bus.client, self._bus.keys, spec)

    def _look_around(self) -> None:
        """From time to time: are the files still ours, does Redis still know them, can anybody do the work?"""
        now_s = self._clock()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + CLAIM_S / 4
        for camera, job in list(self._jobs.items()):
            if not keep(self._bus.client, self._bus.keys.claim(camera), self._me, CLAIM_S * 1000):
                holder = self._bus.client.get(self._bus.keys.claim(camera))
                if holder is not None:
                    job.csv.abort()
                    del self._jobs[camera]
                    raise OddwatchError(f"{job.file.shown}: is now being scored by {holder.decode()}; stopped here")
        registered = {name.decode() for name in self._bus.client.hkeys(self._bus.keys.cameras)}
        if missing := [job for camera, job in self._jobs.items() if camera not in registered]:
            log.warning("Redis has lost its data; starting the unfinished files again")
            for job in missing:
                job.csv.abort()
                del self._jobs[job.spec.camera]
                self._start(job.file)
            return
        problem = self._nobody_can()
        if problem and problem == self._problem:
            raise OddwatchError(problem)
        self._problem = problem

    def _nobody_can(self) -> str:
        """Why a stage of one of our files has no holder and no live worker that could be it; empty if all is well."""
        now_ms = self._bus.now_ms()
        live = [b for b in heartbeats(self._bus.client, self._bus.keys) if now_ms - b.beat_ms < CLAIM_S * 1000]
        for stage in STAGES[1:]:
            workers = [b for b in live if b.stage == stage]
            if not workers or not all(b.error for b in workers):
                continue
            for job in self._jobs.values():
                leases = [self._bus.keys.lease(job.spec.camera, s) for s in job.spec.stages(stage)]
                if any(not self._bus.client.exists(lease) for lease in leases):
                    return f"{stage} worker {workers[0].name}: {workers[0].error}"
        return ""

    # -- taking in ----------------------------------------------------------------------------------------------

    def _take(self, job: Job, entry: Entry) -> None:
        """Write an entry down. Redis is asked first, the CSV written last: an outage in between repeats nothing."""
        message = decode(entry.fields)
        if message.run_ms == job.spec.run_ms:
            self._alerts(job)
            if not job.promised:
                job.promised = int(self._bus.client.hget(self._bus.keys.health(job.spec.camera), "promised") or 0)
            if isinstance(message, End):
                self._finish(job, message)
            elif isinstance(message, Fused | Gap):
                job.write(message)
            if isinstance(message, Fused):
                self._listener.scored(job.file, message.next_frame, job.promised)
        job.taken = entry.id

    def _alerts(self, job: Job) -> None:
        keys = self._bus.keys
        stream = keys.stream(job.spec.camera, "alerts")
        start = f"{job.spec.run_ms}-0" if job.last_alert == "-" else f"({job.last_alert}"
        for alert_id, fields in self._bus.client.xrange(stream, min=start):
            job.last_alert = alert_id.decode()
            self._listener.alert(job.file, Alert.from_json(fields[b"alert"]))

    def _finish(self, job: Job, end: End) -> None:
        """The file is over: scores to their name, alerts and pictures beside them, the camera out of Redis."""
        alerts = list(self._alerts_with_pictures(job))
        left_out = (self._bus.client.hget(self._bus.keys.health(job.spec.camera), "left_out") or b"").decode()
        result = job.finish(end, alerts, self._clock()).model_copy(update={"left_out": left_out})
        write_record(self._out, result)
        self.results[result.camera] = result
        del self._jobs[result.camera]
        self._listener.finished(job.file, result, False)
        self._leaving.append(result.camera)
        # Room first: what is full may have no other left to give.
        self._bus.client.unlink(*[self._bus.keys.stream(result.camera, kind) for kind in ("snippets", "scores")])
        self._let_go()

    def _let_go(self) -> None:
        """Forget what is finished. Raises what Redis raises; what is left is tried again."""
        while self._leaving:
            self._forget(self._leaving[0])
            self._leaving.popleft()

    def _alerts_with_pictures(self, job: Job) -> Iterable[dict]:
        keys = self._bus.keys
        for _, fields in self._bus.client.xrange(keys.stream(job.spec.camera, "alerts"), min=f"{job.spec.run_ms}-0"):
            alert = json.loads(fields[b"alert"])
            picture = self._bus.client.get(alert["snapshot"]) if alert["snapshot"] else None
            alert["snapshot"] = None
            if picture is not None:
                alert["snapshot"] = f"snapshots/{alert['id']}.jpg"
                write_whole(self._out / alert["snapshot"], picture)
            yield alert

    def _forget(self, camera: str) -> None:
        """Remove a file and all that is kept of it; alerts that an interrupted run left open are closed for those
        who follow them."""
        for alert in left_open(self._bus, camera):
            self._bus.client.xadd(self._bus.keys.alerts, alert_fields(alert, None), maxlen=ALERTS_KEPT)
        self._bus.client.hdel(self._bus.keys.jobs, camera)
        unregister(self._bus.client, self._bus.keys, camera)
        self._forget_frames(camera)


def _after(entry_id: EntryId) -> str:
    return f"{entry_id[0]}-{entry_id[1] + 1}"
