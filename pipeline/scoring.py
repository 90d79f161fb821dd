"""Archived footage through the stages: registers files as jobs, writes their scores as they come."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import redis

from pipeline.bus import Bus, Entry
from pipeline.codec import decode
from pipeline.errors import OddwatchError
from pipeline.lease import heartbeats
from pipeline.messages import End, Fused, Gap
from pipeline.registry import register, unregister
from pipeline.result import FileResult, read_record, write_record
from pipeline.spec import COLLECTOR, CameraSpec
from stages.alerting.alert import Alert
from stages.atomic import write_whole
from stages.evaluation.scores_csv import ScoresCsv

log = logging.getLogger(__name__)

BLOCK_S = 0.2
CLAIM_S = 15
"""A `score` that says nothing for so long has lost its claim on a file."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One file to score: its registry entry (with run_ms 0), what the user called it, and its CSV's name."""

    spec: CameraSpec
    shown: str
    csv: str


class Watcher(Protocol):
    """Told what happens, for a person to see."""

    def started(self, plan: Plan) -> None: ...
    def scored(self, plan: Plan, next_frame: int) -> None: ...
    def alert(self, plan: Plan, alert: Alert) -> None: ...
    def finished(self, plan: Plan, result: FileResult, resumed: bool) -> None: ...


@dataclass(slots=True, eq=False)
class Job:
    """A file being scored."""

    plan: Plan
    spec: CameraSpec
    csv: ScoresCsv
    stream: str
    started_s: float
    counts: dict[str, int] = field(default_factory=dict)
    """`scored`, `provisional`, and `gap:<cause>`."""
    gap_spans: list[tuple[float, float, str]] = field(default_factory=list)
    warmup_until_s: float = 0.0
    last_s: float = 0.0
    step_s: float = 0.0
    last_alert: str = "-"

    def count(self, name: str, frames: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + frames


class ScoreRun:
    """Scores files, a window of them at a time. One `turn` takes in what the stages have published."""

    def __init__(
        self, bus: Bus, plans: Sequence[Plan], out: Path, watcher: Watcher, *, window: int, resume: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._bus = bus
        self._waiting = deque(plans)
        self._out = out
        self._watcher = watcher
        self._window = window
        self._resume = resume
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._me = f"{socket.gethostname()}:{os.getpid()}"
        self._next_claims_s = 0.0
        self.results: dict[str, FileResult] = {}
        """By camera."""

    @property
    def done(self) -> bool:
        return not self._waiting and not self._jobs

    def turn(self) -> None:
        """Start what the window allows, read what is there, write it down.

        Raises OddwatchError when --out cannot be written or no worker can do the work; connection errors of Redis
        pass through, after which `turn` can be called again.
        """
        self._fill()
        if not self._jobs:
            return
        self._keep_claims()
        try:
            entries = self._bus.read_new([(job.stream, COLLECTOR) for job in self._jobs.values()], BLOCK_S)
        except redis.ResponseError as error:
            if not any(word in str(error) for word in ("NOGROUP", "UNBLOCKED", "no such key")):
                raise
            log.warning("Redis has lost its data; starting the unfinished files again")
            self._restart_jobs()
            return
        by_stream = {job.stream: job for job in self._jobs.values()}
        for (stream, _), entry in entries.items():
            self._take(by_stream[stream], entry)

    def abandon(self) -> None:
        """Leave no half-written file and no registration behind; finished files stay."""
        for job in list(self._jobs.values()):
            job.csv.abort()
            try:
                self._forget(job.spec.camera)
            except (redis.RedisError, OSError):
                log.debug("%s stays registered: Redis does not answer", job.spec.camera)
        self._jobs.clear()
        self._waiting.clear()

    # -- starting -----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        while self._waiting and len(self._jobs) < self._window:
            plan = self._waiting.popleft()
            record = read_record(self._out, plan.spec.camera, plan.spec.config_hash) if self._resume else None
            if record is not None:
                self.results[plan.spec.camera] = record
                self._watcher.finished(plan, record, True)
            else:
                self._start(plan)

    def _start(self, plan: Plan) -> None:
        """Register a file as a new run. Whatever an interrupted run left of it goes first: leases too, which fences
        off workers that are still busy with it."""
        camera = plan.spec.camera
        claim = self._bus.keys.claim(camera)
        holder = self._bus.client.set(claim, self._me, nx=True, ex=CLAIM_S, get=True)
        if holder is not None and holder.decode() != self._me and not _is_dead(holder.decode()):
            raise OddwatchError(
                f"{plan.shown}: is being scored by {holder.decode()} on this Redis; wait for it, or set another "
                f"redis.prefix (if it was killed, its claim ends in {CLAIM_S} s)"
            )
        unregister(self._bus.client, self._bus.keys, camera)
        self._bus.client.set(claim, self._me, ex=CLAIM_S)
        spec = plan.spec.model_copy(update={"run_ms": self._bus.now_ms()})
        job = Job(
            plan=plan, spec=spec, csv=ScoresCsv(self._out / plan.csv, list(spec.models)),
            stream=self._bus.keys.stream(camera, "scores"), started_s=self._clock(),
        )  # fmt: skip
        spec.ensure_streams(self._bus)
        note = {"file": spec.source, "by": self._me, "run_ms": spec.run_ms, "state": "running"}
        self._bus.client.hset(self._bus.keys.jobs, camera, json.dumps(note))
        register(self._bus.client, self._bus.keys, spec)
        self._jobs[camera] = job
        self._watcher.started(plan)

    def _restart_jobs(self) -> None:
        for job in list(self._jobs.values()):
            job.csv.abort()
            del self._jobs[job.spec.camera]
            self._start(job.plan)

    def _keep_claims(self) -> None:
        now_s = self._clock()
        if now_s < self._next_claims_s:
            return
        self._next_claims_s = now_s + CLAIM_S / 4
        for camera in self._jobs:
            self._bus.client.expire(self._bus.keys.claim(camera), CLAIM_S)
        for beat in heartbeats(self._bus.client, self._bus.keys):
            if beat.error:
                raise OddwatchError(f"{beat.stage} worker {beat.name}: {beat.error}")

    # -- taking in ----------------------------------------------------------------------------------------------

    def _take(self, job: Job, entry: Entry) -> None:
        message = decode(entry.fields)
        if message.run_ms == job.spec.run_ms:
            self._alerts(job)
            if isinstance(message, Fused):
                self._fused(job, message)
            elif isinstance(message, Gap):
                self._gap(job, message)
            elif isinstance(message, End):
                self._finish(job, message)
                return
        self._bus.client.xack(job.stream, COLLECTOR, entry.id_text)

    def _fused(self, job: Job, message: Fused) -> None:
        job.csv.append(message.first_frame, message.times_s, message.score, message.raw)
        scored = int((message.score == message.score).sum())
        job.count("scored", scored)
        job.count("gap:failed", len(message.times_s) - scored)
        self._advance(job, message)
        if message.provisional:
            job.count("provisional", scored)
            job.warmup_until_s = job.last_s + job.step_s
        self._watcher.scored(job.plan, message.next_frame)

    def _gap(self, job: Job, message: Gap) -> None:
        job.csv.append(message.first_frame, message.times_s)
        job.count(f"gap:{message.cause}", len(message.times_s))
        if len(message.times_s):
            job.gap_spans.append((float(message.times_s[0]), float(message.times_s[-1]), message.cause))
        self._advance(job, message)

    @staticmethod
    def _advance(job: Job, message: Fused | Gap) -> None:
        times = message.times_s
        if len(times):
            if message.next_frame > 1:
                job.step_s = float(times[-1] - (times[-2] if len(times) > 1 else job.last_s))
            job.last_s = float(times[-1])

    def _alerts(self, job: Job) -> None:
        keys = self._bus.keys
        stream = keys.stream(job.spec.camera, "alerts")
        start = f"{job.spec.run_ms}-0" if job.last_alert == "-" else f"({job.last_alert}"
        for alert_id, fields in self._bus.client.xrange(stream, min=start):
            job.last_alert = alert_id.decode()
            self._watcher.alert(job.plan, Alert.from_json(fields[b"alert"]))

    def _finish(self, job: Job, end: End) -> None:
        """The file is over: scores to their name, alerts and pictures beside them, the camera out of Redis."""
        opened = not end.status.startswith("error") or end.first_frame > 0
        job.csv.close() if opened else job.csv.abort()
        result = FileResult(
            file=job.plan.shown, camera=job.spec.camera, config_hash=job.spec.config_hash,
            csv=job.plan.csv if opened else None, models=list(job.spec.models), decoded=end.first_frame,
            scored=job.counts.get("scored", 0), provisional=job.counts.get("provisional", 0),
            gaps={k[4:]: n for k, n in sorted(job.counts.items()) if k.startswith("gap:") and n},
            seconds=job.last_s + job.step_s if end.first_frame else 0.0, took_s=self._clock() - job.started_s,
            warmup_until_s=job.warmup_until_s, gap_spans=job.gap_spans, alerts=list(self._alerts_with_pictures(job)),
            status=end.status,
        )  # fmt: skip
        if result.decoded != result.scored + sum(result.gaps.values()):
            log.error("%s: the account does not balance: %s", result.file, result.summary())
        write_record(self._out, result)
        self.results[result.camera] = result
        del self._jobs[result.camera]
        self._forget(result.camera)
        self._watcher.finished(job.plan, result, False)

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
        self._bus.client.hdel(self._bus.keys.jobs, camera)
        unregister(self._bus.client, self._bus.keys, camera)


def _is_dead(holder: str) -> bool:
    """Whether a claim's `host:pid` is of this host and certainly gone; of other hosts only time will tell."""
    host, _, pid = holder.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # of another user, so it lives
    return False
