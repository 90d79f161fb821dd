"""Timelines and curves as HTML and SVG text: stretch to any width, follow light and dark, need no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from stages.evaluation.envelope import envelope
from stages.evaluation.evaluate import Metrics
from stages.evaluation.metrics import runs_of
from stages.report.formatting import clock, count, plain
from stages.report.video import ReportVideo

POINTS, MODEL_POINTS, SPARK_POINTS = 600, 300, 80
GRID = 1000
"""Width and height of a chart's own units: whole numbers keep the page small."""
STEPS_S = (0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 604800)
TICKS = 8
MARK_SPACE = 2.6
"""Percent of the width that the number of an alert needs."""
NARROW_MARK_SPACE = 8
"""The same on a phone, which leaves out the others."""


def timeline(
    video: ReportVideo, spans: Sequence[tuple[float, float]], order: Sequence[int], raise_at: float, clear_at: float
) -> str:
    """A video's score over time with what it needs to be read.

    `spans` are (start_s, end_s) of its alerts by time, `order` their places 0.. in the list, the highest first.
    """
    start_s, end_s = float(video.times_s[0]), float(np.max(video.times_s))
    times_s, highest, size = envelope(video.times_s, video.score, POINTS)
    x, y = across(times_s, start_s, end_s), upward(highest, 0, 1)
    shape = f'<svg viewBox="0 0 {GRID} {GRID}" preserveAspectRatio="none" aria-hidden="true">'
    layers = [
        # Under the alerts, whose tint must stay their own: mixed with the area's it would be the grey of no data.
        f'{shape}<path class="area" d="{area(x, y)}"/></svg>',
        *_bands("alert", [(a, b, "alert") for a, b in spans], video),
        *_bands("warm", [(start_s, video.warmup_until_s, "warm-up")] if video.warmup_until_s > start_s else [], video),
        *_bands("truth", [(*_seconds(a, b, video.times_s), "anomalous") for a, b in video.truth or ()], video),
        *_bands("gap", [(a, b, f"not scored: {cause}") for a, b, cause in video.gaps], video),
        f'{shape}<path class="line" d="{line(x, y)}"/></svg>',
        _level("raise", raise_at),
        _level("clear", clear_at) if clear_at < raise_at else "",
        *_marks([(a - start_s) / max(end_s - start_s, 1e-9) * 100 for a, _ in spans], order),
    ]
    note = f"each point is the highest of {size} frames" if size > 1 else "every frame"
    label = f"Score over time from 0 to {clock(end_s - start_s)}, {note}; {count(len(spans), 'alert')}"
    return (
        f'<figure class="chart" role="img" aria-label="{plain(label)}">'
        '<div class="ys"><i style="bottom:100%">1</i><i style="bottom:50%">.5</i><i style="bottom:0">0</i></div>'
        f'<div class="plot" data-t0="{start_s:.6g}" data-t1="{end_s:.6g}" data-step="{GRID / len(x):.3g}">'
        f"{''.join(layers)}</div>"
        f'<div class="xs">{"".join(_ticks(start_s, end_s))}</div><figcaption>{note}</figcaption></figure>'
    )


def model_lines(video: ReportVideo) -> str:
    """Each model's raw score over time, on a scale of its own."""
    start_s, end_s = float(video.times_s[0]), float(np.max(video.times_s))
    charts = []
    for name, values in video.models.items():
        if np.isnan(values).all():
            charts.append(f'<p class="model"><b>{plain(name)}</b> scored nothing</p>')
            continue
        times_s, highest, _ = envelope(video.times_s, values, MODEL_POINTS)
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        path = line(across(times_s, start_s, end_s), upward(highest, low, high))
        charts.append(
            f'<div class="model"><b>{plain(name)}</b> <span>{low:.3g} to {high:.3g}</span>'
            f'<svg viewBox="0 0 {GRID} {GRID}" preserveAspectRatio="none" aria-hidden="true">'
            f'<path class="line" d="{path}"/></svg></div>'
        )
    return "".join(charts)


def spark(video: ReportVideo) -> str:
    """The score in the size of a word, with its scale and how long it lasts."""
    times_s, highest, _ = envelope(video.times_s, video.score, SPARK_POINTS)
    start_s, end_s = float(video.times_s[0]), float(np.max(video.times_s))
    x, y = across(times_s, start_s, end_s) // 10, upward(highest, 0, 1) // 10
    length = clock(end_s - start_s)
    return (
        f'<div class="spark" role="img" aria-label="Score from 0 to 1 over {length}"><i>1</i><i>0</i><i>0:00</i>'
        f'<i>{length}</i><svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="line" d="{line(x, y)}"/></svg></div>'
    )


def roc(metrics: Metrics) -> str:
    """The ROC curves of `metrics`, as an SVG with a legend."""
    names = ["score", *(name for name in metrics.curves if name != "score" and len(metrics.models) > 1)]
    aucs: Mapping[str, float | None] = {"score": metrics.roc_auc} | {n: m["roc_auc"] for n, m in metrics.models.items()}
    paths: list[str] = []
    legend: list[str] = []
    for i, name in enumerate(names):
        x, y = (np.rint(v * GRID).astype(int) for v in metrics.curves[name])
        paths.insert(0, f'<path class="line c{i % 5}" d="{line(x, GRID - y)}"/>')
        legend.append(f'<li class="c{i % 5}"><bdi>{plain(name)}</bdi> <b>{aucs[name]:.3f}</b></li>')
    label = f"ROC curve, area {metrics.roc_auc:.3f}"
    return (
        f'<figure class="roc" role="img" aria-label="{label}"><div class="ys"><i style="bottom:100%">1</i>'
        '<i style="bottom:50%">.5</i><i style="bottom:0">0</i></div><div class="plot">'
        f'<svg viewBox="0 0 {GRID} {GRID}" aria-hidden="true"><path class="chance" d="M0 {GRID}L{GRID} 0"/>'
        f'{"".join(paths)}</svg><ul class="legend">{"".join(legend)}</ul></div>'
        '<div class="xs"><i style="left:0">0</i><i style="left:50%">.5</i><i style="left:100%">1</i></div>'
        "<figcaption>across: normal frames at or above the threshold; up: anomalous ones</figcaption></figure>"
    )


def across(times_s: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    """Times to int (N,) from 0 to GRID."""
    return np.rint((times_s - start_s) / max(end_s - start_s, 1e-9) * GRID).astype(int)


def upward(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values to float (N,) from GRID (lowest) to 0 (highest), as SVG counts downwards; NaN stays."""
    span = high - low if high > low else 1.0
    return np.rint((1 - (np.clip(values.astype(np.float64), low, high) - low) / span) * GRID)


def line(x: np.ndarray, y: np.ndarray) -> str:
    """An SVG path that is interrupted where y is NaN; a point by itself becomes a dot."""
    parts = []
    for first, last in runs_of(~np.isnan(y)):
        points = " ".join(f"{a} {b:.0f}" for a, b in zip(x[first : last + 1], y[first : last + 1], strict=True))
        parts.append(f"M{points}" + ("h0" if first == last else ""))
    return "".join(parts)


def area(x: np.ndarray, y: np.ndarray) -> str:
    """The surface under `line`."""
    parts = []
    for first, last in runs_of(~np.isnan(y)):
        points = " ".join(f"{a} {b:.0f}" for a, b in zip(x[first : last + 1], y[first : last + 1], strict=True))
        parts.append(f"M{x[first]} {GRID} {points} {x[last]} {GRID}z")
    return "".join(parts)


def _seconds(first: int, last: int, times_s: np.ndarray) -> tuple[float, float]:
    """When frames first .. last were to be seen; nothing of what lies behind the video's end."""
    end = len(times_s) - 1
    return float(times_s[min(first, end)]), float(times_s[min(last + 1, end)])


def _bands(kind: str, spans: Iterable[tuple[float, float, str]], video: ReportVideo) -> list[str]:
    """Shaded stretches. Those of one text that touch on the chart are one, so their number is bounded."""
    start_s, end_s = float(video.times_s[0]), float(np.max(video.times_s))
    taken: dict[str, np.ndarray] = {}
    for first_s, last_s, text in spans:
        if last_s < start_s or first_s > end_s:
            continue
        ends = across(np.clip(np.array([first_s, last_s]), start_s, end_s), start_s, end_s).clip(max=GRID - 1)
        taken.setdefault(text, np.zeros(GRID, dtype=bool))[ends[0] : ends[1] + 1] = True
    return [
        f'<div class="{kind}" title="{plain(text)}" '
        f'style="left:{first / 10:g}%;width:{(last - first + 1) / 10:g}%"></div>'
        for text, mask in taken.items()
        for first, last in runs_of(mask)
    ]


def _level(kind: str, level: float) -> str:
    return f'<div class="level {kind}" style="bottom:{min(level, 1) * 100:g}%"><span>{kind} {level:g}</span></div>'


def _marks(left_percent: Sequence[float], order: Sequence[int]) -> list[str]:
    """The number of each alert above its start; where they would run into each other, of the highest alert."""
    taken: list[float] = []
    marks = []
    for place in order:
        left = left_percent[place]
        space = min((abs(left - other) for other in taken), default=100.0)
        if space >= MARK_SPACE:
            taken.append(left)
            near = " near" if space < NARROW_MARK_SPACE else ""
            marks.append(f'<i class="mark{near}" style="left:{left:.1f}%">{place + 1}</i>')
    return marks


def _ticks(start_s: float, end_s: float) -> Iterable[str]:
    length_s = max(end_s - start_s, 1e-9)
    step_s = next((step for step in STEPS_S if length_s / step <= TICKS), length_s / TICKS)
    for i in range(int(length_s / step_s) + 1):
        side = ' class="odd"' if i % 2 else ""
        yield f'<i{side} style="left:{i * step_s / length_s * 100:.2f}%">{clock(i * step_s, fine=step_s < 1)}</i>'
