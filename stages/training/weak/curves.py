"""The learning curves of a training as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stages.evaluation.plots import BLUE, FAINT, INK, PURPLE, STYLE
from stages.training.weak.loop import Point


def curves_figure(curve: Sequence[Point], best_iteration: int, title: str) -> bytes:
    """PNG: loss, and the held-out ROC-AUC where there is one, over iterations; the kept iterate is marked."""
    with mpl.rc_context(STYLE):
        validated = [point for point in curve if point.roc_auc is not None]
        figure = Figure(figsize=(7, 4.6 if validated else 2.8), layout="constrained")
        rows = figure.subplots(2 if validated else 1, sharex=True, squeeze=False)[:, 0]
        marker = "o" if len(curve) < 40 else ""
        rows[0].plot([p.iteration for p in curve], [p.loss for p in curve], color=PURPLE, marker=marker, ms=3)
        rows[0].set_ylabel("loss")
        rows[0].set_title(title, loc="left", weight="bold", size=11)
        if validated:
            x, y = [p.iteration for p in validated], [p.roc_auc for p in validated]
            rows[1].plot(x, y, color=BLUE, marker=marker, ms=3)
            rows[1].set(ylabel="ROC-AUC, held-out videos", ylim=(None, 1.01))
        for axes in rows:
            axes.axvline(best_iteration, color=INK, lw=0.9, ls=(0, (5, 3)))
            axes.grid(axis="y", color=FAINT, alpha=0.25, lw=0.6)
        rows[-1].set_xlabel(f"iteration (dashed: kept, {best_iteration})")
        FigureCanvasAgg(figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120)
        return file.getvalue()
