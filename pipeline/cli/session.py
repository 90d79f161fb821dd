"""What commands share: a Redis to work on, and the workers of this host."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.bus.embedded import EmbeddedServer, running_servers
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect, hide_password
from pipeline.cameras.spec import STAGES, CameraSpec
from pipeline.config.schema import Config
from pipeline.processes.settings import WorkerSettings
from pipeline.supervisor.supervisor import LocalWorkers
from pipeline.workers.build import check_engine
from stages.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A bus, and where it leads."""

    bus: Bus
    url: str
    embedded: bool
    server: EmbeddedServer | None = None
    """The embedded one, where this process has started it."""

    @property
    def shown(self) -> str:
        return hide_password(self.url)


def redis_url(config: Config) -> str | None:
    """The configured server: the file's, else $REDIS_URL, else None (embedded)."""
    return config.redis.url or os.environ.get("REDIS_URL") or None


@contextmanager
def open_session(config: Config) -> Iterator[Session]:
    """Use the configured Redis, or start the embedded one for as long as the block lasts. Raises BusError."""
    url = redis_url(config)
    if url is not None:
        yield Session(Bus(connect(url), Keys(config.redis.prefix)), url, False)
        return
    with EmbeddedServer(memory_mb=config.redis.memory_mb) as server:
        yield Session(Bus(connect(server.url), Keys(config.redis.prefix)), server.url, True, server)


def join_session(config: Config) -> Session:
    """The configured Redis, else the embedded one of an `oddwatch run` or `score` that runs now. Raises UsageError."""
    url = redis_url(config)
    if url is None:
        running = running_servers()
        if not running:
            raise UsageError("nothing to ask: set REDIS_URL, or start 'oddwatch run' on this machine first")
        if len(running) > 1:
            choices = " or ".join(f"REDIS_URL={url}" for url in running)
            raise UsageError(f"{len(running)} Oddwatch servers run here; choose one: {choices}")
        url = running[0]
    return Session(Bus(connect(url), Keys(config.redis.prefix)), url, False)


def worker_settings(config: Config, url: str, config_path: Path | None = None) -> WorkerSettings:
    """What the workers of this machine are told."""
    return WorkerSettings(
        url=url,
        prefix=config.redis.prefix,
        lease_s=config.runtime.lease_s,
        device=config.workers.device,
        frames=config.frames.transport,
        batch=config.workers.batch,
        batch_wait_ms=config.workers.batch_wait_ms,
        precision=config.workers.precision,
        engine=config.workers.engine,
        decode_files=config.workers.decode_files or cores(),
        config_path=config_path.resolve() if config_path else None,
        log_level=config.output.log_level,
    )


@contextmanager
def local_workers(config: Config, told: WorkerSettings, specs: Sequence[CameraSpec]) -> Iterator[LocalWorkers]:
    """All stages on this host for as long as the block lasts. Raises ConfigError if they cannot compute as it says."""
    workers = config.workers
    check_engine(workers, specs)
    counts = {"decode": 1, "features": workers.features, "temporal": workers.temporal, "alerting": workers.alerting}
    local = LocalWorkers(told, {stage: counts[stage] for stage in STAGES}, _preload(specs))
    try:
        yield local
    finally:
        local.stop()


def _preload(specs: Sequence[CameraSpec]) -> list[str]:
    """Modules worth importing once for all workers of this host."""
    from stages.decode.sources.registry import SOURCES
    from stages.features.registry import EXTRACTORS
    from stages.plugins import module_of
    from stages.temporal.registry import MODELS

    models = {m for spec in specs for m in spec.models.values()}
    return [
        "pipeline.workers.loop", "pipeline.ingest.worker", "pipeline.workers.alerting", "stages.decode.read",
        *sorted({module_of(SOURCES.get(spec.kind).read) for spec in specs}),
        *sorted({module_of(EXTRACTORS.get(m.features).build) for m in models if m.features is not None}),
        *sorted({module_of(MODELS.get(m.kind).build) for m in models}),
    ]  # fmt: skip


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
