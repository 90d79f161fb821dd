"""The figures of `evaluate` as lines for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stages.text import counted

if TYPE_CHECKING:
    from stages.evaluation.evaluate import Metrics


def metric_lines(metrics: Metrics) -> list[str]:
    """The fused figures, then each model's, or those over seeds."""
    lines = [*_seed_lines(metrics.over_seeds)] if metrics.over_seeds else []
    several = len(metrics.models) > 1
    name = {False: "frame-level", True: "fused: frame-level"}[several]
    lines += _lines(name, metrics.to_json(), f" ({metrics.mode})")
    if metrics.reason:
        lines.append(f"  {metrics.reason}")
    if several:
        for model, figures in metrics.models.items():
            lines += _lines(f"{model} alone:", figures)
    lines += [f"  {note}" for note in metrics.notes]
    return [*lines, *(f"  not judged: {e['video']}: {e['reason']}" for e in metrics.excluded)]


def _lines(name: str, figures: Mapping, mode: str = "") -> list[str]:
    ranking = (
        f"{name} micro ROC-AUC {_number(figures['roc_auc'])}, "
        f"average precision {_number(figures['average_precision'])}{mode}",
        f"  macro ROC-AUC {_number(figures['macro'].get('roc_auc'))} over "
        f"{counted(figures['macro'].get('videos', 0), 'video')}, "
        f"abnormal videos only {_number(figures['abnormal_only'].get('roc_auc'))}",
    )
    return [*ranking, _events_line(figures["events"], figures["false_alarms"])] if "events" in figures else [*ranking]


def _events_line(events: Mapping, false_alarms: Mapping) -> str:
    rate, delay = false_alarms["per_hour"], events.get("median_delay_s")
    under = false_alarms["normal_frames_under_alert"]
    return (
        f"  {events.get('alerted')} of {counted(events['total'], 'event')} alerted on"
        + ("" if delay is None else f"; threshold reached in {events['found']}, after {delay:.2f} s (median)")
        + f"; {counted(false_alarms['false'], 'false alarm')}"
        + ("" if rate is None else f" ({rate:.1f} per hour)")
        + ("" if under is None else f"; {under:.1%} of normal frames lie under an alert")
    )


def _seed_lines(over_seeds: Mapping) -> list[str]:
    from stages.evaluation.seeds import FIGURES

    lines = [f"{len(over_seeds['seeds'])} seeds, mean and standard deviation:"]
    for key, name in FIGURES.items():
        figure = over_seeds[key]
        if figure["mean"] is not None:
            each = ", ".join(f"{value:.4g}" for value in figure["each"])
            lines.append(f"  {name} {figure['mean']:.4f} ± {figure['std']:.4f} ({each})")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
