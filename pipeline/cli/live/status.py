"""`oddwatch status`: look at what runs, from anywhere that reaches its Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.session import join_session
from pipeline.config.load import load_config
from pipeline.observe.status import read_status
from pipeline.observe.status_text import status_lines


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="Configuration that names the Redis.")] = None,
) -> None:
    """Cameras, lag, drops by cause, workers, dead letters."""
    session = join_session(load_config(config))
    found = read_status(session.bus)
    typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(status_lines(found, session.shown)))
