"""`oddwatch run` and `oddwatch worker`: the stages, for as long as there is something to watch."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.session import host_for, redis_url
from pipeline.config import load_config
from pipeline.errors import UsageError
from pipeline.host import run_worker
from pipeline.spec import STAGES


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
        raise UsageError("a worker needs a Redis to share with the other stages: set REDIS_URL, or redis.url in --config")
    name = f"{socket.gethostname()}-{os.getpid()}-{stage}"
    host = host_for(settings, url, config)
    raise typer.Exit(run_worker(host, stage, name, f"{name}:{uuid.uuid4().hex[:12]}"))


def run(config: Annotated[Path, typer.Argument(help="Configuration with cameras.")]) -> None:
    """All stages for the configured cameras on this host, supervised; Ctrl-C drains and stops."""
    raise NotImplementedError
