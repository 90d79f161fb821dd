"""One worker process: connect, take the role, work until told to stop."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from typing import Protocol

from pipeline.backoff import Backoff
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from pipeline.leases.lease import Leases
from pipeline.pixels.memory import host_id
from pipeline.processes.settings import WorkerSettings
from pipeline.processes.this_process import allow_many_files, log_to_stderr
from stages.errors import BusError, OddwatchError

log = logging.getLogger(__name__)

GPU_WAIT_S = 0.01
"""How long a batch for a GPU is gathered, unless the configuration says."""
CONNECT_AGAIN = Backoff(0.2, 5.0)


class Role(Protocol):
    """What a worker process is there to do."""

    def run(self) -> None: ...
    def stop(self) -> None: ...


def run_worker(settings: WorkerSettings, stage: str, name: str, token: str) -> int:
    """Work as one stage until SIGTERM (or SIGINT at a terminal of its own). Returns the exit code."""
    log_to_stderr(settings.log_level, stage)
    allow_many_files()
    stop_asked = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop_asked
        stop_asked = True
        if worker is not None:
            worker.stop()

    worker: Role | None = None
    signal.signal(signal.SIGTERM, ask_to_stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, ask_to_stop)  # `oddwatch worker` at a terminal that closes
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, ask_to_stop)
    try:
        bus = _connect_patiently(settings, lambda: stop_asked)
        if bus is None:
            return 0
        leases = Leases(
            bus.client, bus.keys, name=name, stage=stage, token=token, lease_s=settings.lease_s, frames=host_id()
        )
        worker = _role(settings, stage, bus, leases)
        if not stop_asked:
            worker.run()
        return 0
    except OddwatchError as error:
        log.error("%s", error)
        return error.exit_code


def _role(settings: WorkerSettings, stage: str, bus: Bus, leases: Leases) -> Role:
    if stage == "decode":
        from pipeline.ingest.worker import DecodeWorker

        return DecodeWorker(bus, leases, settings)
    from pipeline.pixels.sweep import Sweeper
    from pipeline.workers.build import processor_builder
    from pipeline.workers.loop import Worker

    build = processor_builder(settings.device, bus.is_cluster, settings.precision, settings.engine)
    return Worker(
        bus, leases, build, batch=settings.batch, batch_wait_s=_batch_wait_s(settings, stage),
        sweeper=Sweeper(bus),
    )  # fmt: skip


def _batch_wait_s(settings: WorkerSettings, stage: str) -> float:
    if settings.batch_wait_ms is not None:
        return settings.batch_wait_ms / 1000
    from pipeline.workers.build import may_use_gpu

    return GPU_WAIT_S if stage != "alerting" and may_use_gpu(settings.device) else 0.0


def _connect_patiently(settings: WorkerSettings, stopped: Callable[[], bool]) -> Bus | None:
    """A worker that starts before its Redis waits for it, saying so once."""
    attempt = 0
    while not stopped():
        try:
            return Bus(connect(settings.url), Keys(settings.prefix))
        except BusError as error:
            attempt += 1
            if attempt == 1:
                log.warning("%s; trying again", error)
            time.sleep(CONNECT_AGAIN.delay_s(attempt))
    return None
