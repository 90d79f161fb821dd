"""The learning curves of a future-frame predictor as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stages.evaluation.plots import BLUE, FAINT, PURPLE, STYLE
from stages.training.future_frame.train import Look


def looks_figure(looks: Sequence[Look], title: str) -> bytes:
    """PNG: loss, and PSNR of held-out frames, over steps."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 4.6), layout="constrained")
        above, below = figure.subplots(2, sharex=True)
        steps = [look.steps for look in looks]
        above.plot(steps, [look.loss for look in looks], color=PURPLE, marker="o", ms=3)
        above.set(ylabel="loss", ylim=(0, None))
        above.set_title(title, loc="left", weight="bold", size=11)
        below.plot(steps, [look.psnr_db for look in looks], color=BLUE, marker="o", ms=3)
        below.set(ylabel="PSNR of held-out frames (dB)", xlabel="step (the last one is kept)")
        for axes in (above, below):
            axes.grid(axis="y", color=FAINT, alpha=0.25, lw=0.6)
        FigureCanvasAgg(figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120)
        return file.getvalue()
