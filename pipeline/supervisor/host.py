"""One worker process: connect, take the role, work until told to stop."""

from __future__ import annotations

import logging
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from pipeline.leases.lease import Leases
from pipeline.pixels.memory import host_id
from stages.errors import BusError, OddwatchError

log = logging.getLogger(__name__)

GPU_WAIT_S = 0.01
"""How long a batch for a GPU is gathered, unless the configuration says."""


class Host(BaseModel):
    """What the worker processes of this host share."""

    model_config = ConfigDict(frozen=True)
    url: str
    prefix: str
    lease_s: float
    device: str = "cpu"
    precision: str = "fp32"
    engine: str = "torch"
    decode_files: int
    """Files decoded at once by one decode worker."""
    config_path: Path | None = None
    """Where a decode worker finds the addresses of live cameras, with their logins."""
    frames: Literal["auto", "shared", "inline"] = "auto"
    """How a decode worker hands pixels on."""
    batch: int = 16
    """Messages given to a stage at once, at most."""
    batch_wait_ms: float | None = None
    """How long the first message of a batch waits for more; None: 0 on a CPU, 10 on a GPU."""
    log_level: str = "info"


def set_title(title: str) -> None:
    """What `ps` and `pgrep -f` show of this process."""
    from setproctitle import setproctitle

    setproctitle(title)


def log_to_stderr(level: str, stage: str) -> None:
    """Plain lines on stderr: time, stage, level, message."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, force=True, format=f"%(asctime)s {stage} %(levelname)s %(message)s"
    )


class Role(Protocol):
    """What a worker process is there to do."""

    def run(self) -> None: ...
    def stop(self) -> None: ...


def run_worker(host: Host, stage: str, name: str, token: str) -> int:
    """Processor as one stage until SIGTERM (or SIGINT at a terminal of its own). Returns the exit code."""
    log_to_stderr(host.log_level, stage)
    _allow_many_files()
    stop_asked = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop_asked
        stop_asked = True
        if worker is not None:
            worker.stop()

    worker: Role | None = None
    signal.signal(signal.SIGTERM, ask_to_stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, ask_to_stop)
    try:
        bus = _connect_patiently(host, lambda: stop_asked)
        if bus is None:
            return 0
        leases = Leases(
            bus.client, bus.keys, name=name, stage=stage, token=token, lease_s=host.lease_s, frames=host_id()
        )
        worker = _role(host, stage, bus, leases)
        if not stop_asked:
            worker.run()
        return 0
    except OddwatchError as error:
        log.error("%s", error)
        return error.exit_code


def _allow_many_files() -> None:
    """Each camera's shared memory is an open file: the usual 1024 would not do for hundreds of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _role(host: Host, stage: str, bus: Bus, leases: Leases) -> Role:
    if stage == "decode":
        from pipeline.ingest.worker import DecodeWorker

        return DecodeWorker(bus, leases, host)
    from pipeline.pixels.sweep import Sweeper
    from pipeline.workers.build import processor_builder
    from pipeline.workers.loop import Worker

    return Worker(
        bus, leases, processor_builder(host.device, bus.is_cluster, host.precision, host.engine), batch=host.batch,
        batch_wait_s=_batch_wait_s(host, stage), sweeper=Sweeper(bus),
    )  # fmt: skip


def _batch_wait_s(host: Host, stage: str) -> float:
    if host.batch_wait_ms is not None:
        return host.batch_wait_ms / 1000
    from pipeline.workers.build import may_use_gpu

    return GPU_WAIT_S if stage != "alerting" and may_use_gpu(host.device) else 0.0


def _connect_patiently(host: Host, stopped: Callable[[], bool]) -> Bus | None:
    """A worker that starts before its Redis waits for it, saying so once."""
    wait_s = 0.2
    while not stopped():
        try:
            return Bus(connect(host.url), Keys(host.prefix))
        except BusError as error:
            if wait_s == 0.2:
                log.warning("%s; trying again", error)
            time.sleep(wait_s)
            wait_s = min(5.0, wait_s * 2)
    return None
