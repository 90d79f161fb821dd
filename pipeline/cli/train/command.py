"""`oddwatch train`: learn a temporal model from labelled footage, or from features that others extracted."""

from __future__ import annotations

import typer

from pipeline.cli.train.future_frame import future_frame
from pipeline.cli.train.options import with_weak_options
from pipeline.cli.train.weak import mil, rtfm

app = typer.Typer(help="Train a temporal model on labelled footage.", no_args_is_help=True)
app.command("future_frame")(future_frame)
app.command("mil")(with_weak_options(mil))
app.command("rtfm")(with_weak_options(rtfm))
