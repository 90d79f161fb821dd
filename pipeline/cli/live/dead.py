"""`oddwatch dead`: the messages that no attempt could process, and what else was given up."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.bus.streams import Bus
from pipeline.cli.session import join_session
from pipeline.config.load import load_config
from stages.decode.redact import redact
from stages.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="List and drop dead letters: what no attempt could process.")
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration that names the Redis.")]
ENTRY_ID = re.compile(r"\d{1,20}-\d{1,20}\Z")


@app.command("list")
def list_dead(
    camera: Annotated[str | None, typer.Option(help="Only this camera.")] = None, config: ConfigOption = None
) -> None:
    """Each with its id, when it was given up, where, and why."""
    bus = join_session(load_config(config)).bus
    shown = 0
    for raw_id, fields in bus.client.xrange(bus.keys.dead):
        said = {k.decode(errors="replace"): _printable(v) for k, v in fields.items()}
        if camera is not None and said.get("camera") != camera:
            continue
        id_ = raw_id.decode()
        when = datetime.fromtimestamp(int(id_.partition("-")[0]) / 1000, UTC).isoformat(" ", "seconds")
        where = " ".join(part for part in (said.get("camera", ""), said.get("stage", ""), said.get("id", "")) if part)
        typer.echo(f"{id_}  {when[:19]}  {where}: {said.get('reason', 'no reason was noted')}")
        shown += 1
    if not shown:
        typer.echo("no dead letters")


@app.command("drop")
def drop(
    ids: Annotated[list[str] | None, typer.Argument(help="As 'oddwatch dead list' shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    config: ConfigOption = None,
) -> None:
    """Forget dead letters; their frames are accounted as gaps already."""
    if bool(ids) == everything:
        raise UsageError("dead drop: give ids from 'oddwatch dead list', or --all")
    for id_ in ids or ():
        if ENTRY_ID.match(id_) is None:
            raise UsageError(f"dead drop: {id_!r} is not an id; 'oddwatch dead list' shows them")
    bus = join_session(load_config(config)).bus
    gone = bus.client.xtrim(bus.keys.dead, maxlen=0, approximate=False) if everything else _drop(bus, ids or [])
    typer.echo(f"dropped: {gone}")


def _drop(bus: Bus, ids: list[str]) -> int:
    gone = int(bus.client.xdel(bus.keys.dead, *ids))
    if gone < len(set(ids)):
        typer.echo(f"not there: {len(set(ids)) - gone}", err=True)
    return gone


def _printable(value: bytes) -> str:
    return redact("".join(c if c.isprintable() else "?" for c in value.decode(errors="replace")))[:500]
