"""`oddwatch cameras`: which cameras and files are registered in a Redis, and the removal of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cameras.announce import Announcer
from pipeline.cameras.registry import Registry, unregister
from pipeline.cli.session import join_session
from pipeline.config.load import load_config
from stages.decode.redact import redact
from stages.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="List and remove the cameras that are registered in Redis.")
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration that names the Redis.")]


@app.command("list")
def list_cameras(config: ConfigOption = None) -> None:
    """Every camera and file that workers work on: its source, and which configuration it comes from."""
    bus = join_session(load_config(config)).bus
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    in_use = Announcer(bus, (), "").others()
    for name, spec in registry.specs.items():
        named = any(name in cameras for cameras in in_use.values())
        of = f"of {spec.origin}" + ("" if named else ", which is not in use") if spec.live else "being scored"
        typer.echo(f"{name}: {redact(spec.source)} ({of})")
    for name, why in registry.refused.items():
        typer.echo(f"{name}: cannot be used: {why}")
    if not registry.specs and not registry.refused:
        typer.echo("no camera is registered")


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="As 'oddwatch cameras list' shows it.")], config: ConfigOption = None
) -> None:
    """Remove a camera and all that Redis keeps of it: scores, what was learned, accounts, pictures."""
    bus = join_session(load_config(config)).bus
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    if name in registry.refused:
        for key in bus.client.hkeys(bus.keys.cameras):
            if ascii(key.decode(errors="replace"))[1:-1][:64] == name:
                bus.client.hdel(bus.keys.cameras, key)
        typer.echo(f"{name}: its entry is removed")
        return
    if name not in registry.specs:
        known = ", ".join([*registry.specs, *registry.refused]) or "none"
        raise UsageError(f"{name}: no such camera is registered; there are: {known}")
    for origin, cameras in Announcer(bus, (), "").others().items():
        if name in cameras:
            raise UsageError(
                f"{name}: {origin} names it and is in use; take it out of that file, or stop that one first"
            )
    if not registry.specs[name].live and bus.client.exists(bus.keys.claim(name)):
        raise UsageError(f"{name}: a file that 'oddwatch score' is working on; stop that one first")
    unregister(bus.client, bus.keys, name)
    typer.echo(f"{name}: removed")
