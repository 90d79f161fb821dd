"""The options that `train mil` and `train rtfm` have in common, spelled once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakOptions:
    """As given on the command line, or by default."""

    manifest: Annotated[Path, typer.Option(help='JSON lines with "video", "label" and perhaps "group".')]
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write; its curves lie beside it.")]
    features: Annotated[str, typer.Option(help="Feature extractor, one vector per snippet: i3d, ...")] = "i3d"
    split: Annotated[
        str | None, typer.Option(help="Split to train on. Default: train, or all if there are no splits.")
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="The same seed, footage and device give the same checkpoint.")] = 0
    iterations: Annotated[int | None, typer.Option(min=1, help="Steps. Default: as published.")] = None
    batch: Annotated[int | None, typer.Option(min=1, help="Bags of each class in a step. Default: as published.")] = (
        None
    )
    chain: Annotated[
        int, typer.Option(min=1, help="Videos of one class that make a bag; more where they are short.")
    ] = 1
    segments: Annotated[int, typer.Option(min=1, help="Rows of a bag.")] = 32
    learning_rate: Annotated[float | None, typer.Option(help="Default: as published.")] = None
    validation: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share held out by group to choose the best; 0: none.")
    ] = 0.2
    mirror: Annotated[bool, typer.Option(help="Learn from mirror images too; extraction takes twice as long.")] = False
    config: Annotated[
        Path | None, typer.Option(help="Configuration file; its decode and workers sections are used.")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same training was broken off.")] = False


def with_weak_options(train: Callable[..., None]) -> Callable[..., None]:
    """A command of those options and the keyword-only ones of `train`, which is called as `train(options, **own)`."""
    hints = get_type_hints(WeakOptions, include_extras=True)
    common = [_option(f.name, hints[f.name], f.default) for f in fields(WeakOptions)]
    signature = inspect.signature(train, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]

    def command(**values: Any) -> None:
        options = WeakOptions(**{p.name: values.pop(p.name) for p in common})
        train(options, **values)

    command.__name__, command.__doc__ = train.__name__, train.__doc__
    # Typer reads the options of a command off its signature.
    command.__signature__ = inspect.Signature([*common, *own])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*common, *own)}
    return command


def _option(name: str, hint: Any, default: Any) -> inspect.Parameter:
    empty = inspect.Parameter.empty
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=empty if default is MISSING else default
    )
