"""The part of a report that compares scores with ground truth."""

from __future__ import annotations

from collections.abc import Mapping

from stages.evaluation.evaluate import Metrics
from stages.evaluation.seeds import FIGURES
from stages.report.chart import roc
from stages.report.formatting import count, plain

NOTES = 50
"""Lines about videos that could not be judged; metrics.json has all."""


def judged(metrics: Metrics) -> str:
    """ROC curve, figures, and whatever was left out, as HTML."""
    fused = {
        "roc_auc": metrics.roc_auc,
        "average_precision": metrics.average_precision,
        "macro": metrics.macro,
        "abnormal_only": metrics.abnormal_only,
    }
    rows = "".join(_row(name, ranking) for name, ranking in [("score", fused), *metrics.models.items()])
    reason = f'<p class="trouble">{plain(metrics.reason)}</p>' if metrics.reason else ""
    left_out = [f"{e['video']}: left out, {e['reason']}" for e in metrics.excluded] + metrics.notes
    items = "".join(f"<li>{plain(text)}</li>" for text in left_out[:NOTES])
    if len(left_out) > NOTES:
        items += f"<li>and {len(left_out) - NOTES:,} more, in metrics.json</li>"
    return (
        '<section class="judged"><h2>Against ground truth</h2><div class="pair">'
        f"{roc(metrics) if 'score' in metrics.curves else ''}<div>{reason}"
        '<div class="scroll"><table><thead><tr><th></th><th>ROC-AUC</th><th>AP</th>'
        "<th>macro AUC</th><th>AUC, anomalous videos</th></tr></thead>"
        f'<tbody>{rows}</tbody></table></div><dl class="figures">{_figures(metrics)}</dl>'
        f"{_over_seeds(metrics.over_seeds) if metrics.over_seeds else ''}"
        f"{f'<ul class=leftout>{items}</ul>' if items else ''}</div></div></section>"
    )


def _row(name: str, ranking: dict) -> str:
    values = (
        ranking["roc_auc"],
        ranking["average_precision"],
        ranking["macro"]["roc_auc"],
        ranking["abnormal_only"]["roc_auc"],
    )
    cells = "".join(f"<td>{_figure(value)}</td>" for value in values)
    return f"<tr><th><bdi>{plain(name)}</bdi></th>{cells}</tr>"


def _over_seeds(over_seeds: Mapping) -> str:
    """Mean and sample standard deviation of each figure; of those that not every seed has, only the single values."""
    rows = ""
    for key, name in FIGURES.items():
        figure = over_seeds[key]
        spread = "" if figure["mean"] is None else f"\u00b1 {figure['std']:.3f}"
        each = ", ".join(_figure(value) for value in figure["each"])
        rows += (
            f"<tr><th>{name}</th><td>{_figure(figure['mean'])}</td><td>{spread or '-'}</td>"
            f'<td class="each">{each}</td></tr>'
        )
    return (
        '<div class="scroll seeds"><table><thead><tr>'
        f"<th>Over {len(over_seeds['seeds'])} seeds</th><th>mean</th><th>deviation</th><th>each</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _figures(metrics: Metrics) -> str:
    events, coverage = metrics.events, metrics.coverage
    figures = []
    if metrics.false_alarms_per_hour is not None:
        hours = coverage["scored_hours"]
        footage = f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
        note = f"{count(metrics.false_alarms['false'], 'false ' + metrics.false_alarms['counted_as'])} in {footage}"
        figures.append(("False alarms per hour", f"{metrics.false_alarms_per_hour:.2f}", note))
    under = metrics.false_alarms["normal_frames_under_alert"]
    if under is not None:
        unit = metrics.false_alarms["counted_as"]
        figures.append((f"Normal frames under {unit}", f"{100 * under:.1f} %", f"also of {unit}s that meet an event"))
    if metrics.threshold is not None:
        note = f"threshold {metrics.threshold:g}"
        if events["not_scored"]:
            note += f", {events['not_scored']} not scored"
        figures.append(("Events found", f"{events['found']} of {events['total']}", note))
        if events["median_delay_s"] is not None:
            note = f"known live after {events['median_known_after_s']:.1f} s"
            figures.append(("Median delay", f"{events['median_delay_s']:.1f} s", note))
    note = f"{count(coverage['frames_not_scored'], 'frame')} not scored, left out"
    figures.append(("Frames judged", f"{coverage['frames_scored']:,}", note))
    mode = "scores as emitted" if metrics.mode == "causal" else "each model as its paper has it, needs whole videos"
    figures.append(("Mode", metrics.mode, mode))
    return "".join(f"<div><dt>{n}</dt><dd>{v}<small>{plain(note)}</small></dd></div>" for n, v, note in figures)
