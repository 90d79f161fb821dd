"""`oddwatch run` and `oddwatch worker`: the stages, for as long as there is something to watch."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import redis
import typer

from pipeline.cli.follow import alert_line
from pipeline.cli.session import Session, host_for, local_workers, open_session, redis_url
from pipeline.config import Config, load_config
from pipeline.errors import UsageError
from pipeline.host import run_worker
from pipeline.metrics import serve_metrics
from pipeline.sinks import JsonLines
from pipeline.spec import STAGES, CameraSpec
from pipeline.status import read_status
from pipeline.supervisor import LocalWorkers
from pipeline.watch import live_specs


def worker(
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(STAGES)}.")],
    config: Annotated[Path | None, typer.Option(help="Configuration; a decode worker finds its cameras there.")] = None,
) -> None:
    """Run one stage's worker; start as many, on as many hosts, as you like."""
    if stage not in STAGES:
        raise UsageError(f"unknown stage {stage!r}; one of {', '.join(STAGES)}")
    settings = load_config(config)
    url = redis_url(settings)
    if url is None:
        raise UsageError(
            "a worker needs a Redis to share with the other stages: set REDIS_URL, or redis.url in --config"
        )
    name = f"{socket.gethostname()}-{os.getpid()}-{stage}"
    host = host_for(settings, url, config)
    raise typer.Exit(run_worker(host, stage, name, f"{name}:{uuid.uuid4().hex[:12]}"))


def run(config: Annotated[Path, typer.Argument(help="Configuration with cameras.")]) -> None:
    """All stages for the configured cameras on this host, supervised; Ctrl-C drains and stops."""
    settings = load_config(config)
    specs = live_specs(settings, config)
    if not specs:
        raise UsageError(f"{config}: no camera to watch; add one under 'cameras:'")
    with open_session(settings) as session:
        sink = JsonLines(session.bus, settings.output.folder) if settings.output.folder else None
        server = serve_metrics(settings.output.metrics_port, lambda: read_status(session.bus)) if (
            settings.output.metrics_port
        ) else None  # fmt: skip
        _say_where(session, settings, specs)
        with (
            _until_asked() as asked,
            local_workers(settings, host_for(settings, session.url, config), specs) as workers,
        ):
            _watch(session, workers, sink, asked)
        if sink is not None:
            sink.turn()
            sink.close()
        if server is not None:
            server.shutdown()


def _say_where(session: Session, config: Config, specs: list[CameraSpec]) -> None:
    for spec in specs:
        typer.echo(f"watching {spec.camera}: {spec.source}")
    if session.embedded:
        typer.echo(f"alerts: oddwatch alerts --follow   or   redis-cli -s {session.url.removeprefix('unix://')} "
                   f"xread block 0 streams {session.bus.keys.alerts} '$'")  # fmt: skip
    else:
        typer.echo(f"alerts: oddwatch alerts --follow (Redis {session.shown}, stream {session.bus.keys.alerts})")
    if config.output.metrics_port:
        typer.echo(f"metrics: http://localhost:{config.output.metrics_port}/metrics")


@contextmanager
def _until_asked() -> Iterator[list[bool]]:
    """Collects SIGINT and SIGTERM; a second one ends the wait for what is still being drained."""
    asked: list[bool] = []

    def ask(*_: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _watch(session: Session, workers: LocalWorkers, sink: JsonLines | None, asked: list[bool]) -> None:
    """Show alerts until asked to stop."""
    last = "$" if sink is None else ""
    away = False
    while not asked:
        workers.check()
        try:
            if sink is not None:
                new = sink.turn()
                time.sleep(0.2)
            else:
                last, new = session.bus.alerts_after(last, block_s=0.5)
            for alert in new:
                typer.echo(alert_line(alert))
            sys.stdout.flush()
            away = False
        except redis.RedisError as error:
            if not away:
                sys.stderr.write(f"oddwatch: Redis at {session.shown} does not answer ({error}); waiting for it\n")
            away = True
            if sink is not None and isinstance(error, redis.ResponseError):
                session.bus.ensure_groups(session.bus.keys.alerts, ["jsonl"])
            time.sleep(1.0)
    typer.echo("stopping: the stages finish what was decoded")
