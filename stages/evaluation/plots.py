"""Pictures for `evaluate --out`: the ROC curve and score timelines, as PNG or SVG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from stages.evaluation.envelope import envelope
from stages.evaluation.evaluate import Metrics
from stages.files.manifest import Interval
from stages.files.scores_csv import ScoresTable

Format = Literal["png", "svg"]
PlottedVideo = tuple[str, ScoresTable, Sequence[Interval] | None]
"""Name, scores and anomalous intervals (None if unknown) of a video: a row of the timelines."""

BLUE, PURPLE, INK, FAINT = "#0072b2", "#b3589a", "#1c2530", "#8a949e"
OTHERS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,
    "svg.hashsalt": "oddwatch",
}
COLUMNS = 1600
ROWS = 40
"""Videos in one picture; more could not be read, and at some thousand not be drawn."""


def roc_figure(metrics: Metrics, kind: Format = "svg") -> bytes:
    """The micro ROC curve of the fused score, and of each model."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=(0, (4, 4)))
        axes.text(0.97, 0.92, "chance", color=FAINT, rotation=45, ha="right", va="top", size=8, rotation_mode="anchor")
        models = [name for name in metrics.curves if name != "score"]
        for i, name in enumerate(models if len(models) > 1 else ()):
            label = f"{name}  {metrics.models[name]['roc_auc']:.3f}"
            axes.plot(*metrics.curves[name], color=OTHERS[i % len(OTHERS)], lw=1.4, label=label)
        if "score" in metrics.curves:
            x, y = metrics.curves["score"]
            axes.fill_between(x, y, color=BLUE, alpha=0.08, lw=0)
            axes.plot(x, y, color=BLUE, lw=2.4, label=f"score  {metrics.roc_auc:.3f}")
            axes.legend(loc="lower right", frameon=False, title="area under the curve", title_fontsize=9)
        else:
            axes.text(0.5, 0.5, metrics.reason, ha="center", wrap=True, color=INK)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xlabel("normal frames at or above the threshold")
        axes.set_ylabel("anomalous frames at or above it")
        axes.set_title(f"Frame-level ROC ({metrics.mode})", loc="left", weight="bold", size=11)
        return _bytes(figure, kind)


def timeline_figure(videos: Sequence[PlottedVideo], threshold: float | None = None, kind: Format = "svg") -> bytes:
    """Scores over time of the first ROWS videos, a row each; a row is interrupted where nothing was scored."""
    with mpl.rc_context(STYLE):
        shown = videos[:ROWS]
        figure = Figure(figsize=(9, 1.0 + 1.25 * len(shown)), layout=ConstrainedLayoutEngine(h_pad=0.06))
        rows = figure.subplots(max(len(shown), 1), squeeze=False)[:, 0]
        for axes, (name, table, truth) in zip(rows, shown, strict=False):
            _timeline(axes, name, table, truth, threshold)
        legend = "shaded: anomalous    no line: not scored"
        if threshold is not None:
            legend += f"    dashed: threshold {threshold:g}"
        if len(videos) > ROWS:
            legend += f"    the first {ROWS} of {len(videos)} videos"
        rows[-1].set_xlabel(f"seconds\n{legend}", linespacing=1.6)
        return _bytes(figure, kind)


def _timeline(
    axes: Axes, name: str, table: ScoresTable, truth: Sequence[Interval] | None, threshold: float | None
) -> None:
    axes.set_title(name, loc="left", size=9, pad=3)
    axes.set(ylim=(0, 1.02), yticks=(0, 0.5, 1))
    axes.grid(axis="y", color=FAINT, alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    if not len(table.times_s):
        axes.text(0.5, 0.5, "no frame could be decoded", transform=axes.transAxes, ha="center", va="center")
        return
    last = len(table.times_s) - 1
    for first, end in truth or ():
        if first <= last:
            axes.axvspan(
                table.times_s[first],
                table.times_s[min(end + 1, last)],
                color=PURPLE,
                alpha=0.18,
                lw=0,
            )
    times_s, highest, _ = envelope(table.times_s, table.score, COLUMNS)
    axes.fill_between(times_s, highest, color=BLUE, alpha=0.12, lw=0)
    axes.plot(times_s, highest, color=BLUE, lw=1.3)
    if threshold is not None:
        axes.axhline(threshold, color=INK, lw=0.9, ls=(0, (5, 3)))
    axes.set_xlim(table.times_s[0], max(float(table.times_s[-1]), float(table.times_s[0]) + np.finfo(float).eps * 1e6))


def _bytes(figure: Figure, kind: Format) -> bytes:
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()
