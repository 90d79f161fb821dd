"""`oddwatch worker`: one stage, on as many hosts as one likes."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cameras.spec import STAGES
from pipeline.cli.session import redis_url, worker_settings
from pipeline.config.load import load_config
from pipeline.leases.lease import worker_name
from pipeline.supervisor.worker_process import run_worker
from pipeline.workers.build import check_engine
from stages.errors import UsageError


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
    if stage == "features":
        check_engine(settings.workers, None)
    name = worker_name(stage)
    told = worker_settings(settings, url, config)
    raise typer.Exit(run_worker(told, stage, name, f"{name}:{uuid.uuid4().hex[:12]}"))
