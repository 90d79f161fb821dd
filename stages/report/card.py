"""One video of a report, reduced to what the page shows: of hours of scores, a few kilobytes remain."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.evaluation.metrics import scored_seconds
from stages.report.chart import model_lines, spark, timeline
from stages.report.formatting import clock, count, duration, percent, plain
from stages.report.video import ReportVideo

SEVERITIES = ("low", "medium", "high", "critical")
SNAPSHOTS = 8
"""Alerts of one video that get a card: the highest."""
SNAPSHOT_BYTES = 200_000
"""A larger picture is left out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Card:
    """What remains of a video."""

    name: str
    status: str
    error: str
    decoded: int
    scored: int
    gap_frames: Mapping[str, int]
    seconds: float
    kept: bool
    length_s: float
    warmup_s: float
    peak: float | None
    """The highest score; None if nothing was scored."""
    alerts: int
    severities: Mapping[str, int]
    shown: Sequence[tuple[int, Mapping]] = ()
    """(number, alert) of those that get a card, by time."""
    spark: str = ""
    chart: str = ""
    models: str = field(default="", repr=False)

    @property
    def failed(self) -> bool:
        """Whether somebody should look at the file itself."""
        return self.status != "complete" or bool(self.error)

    @property
    def rank(self) -> tuple[float, int, float]:
        """The more there is to see, the higher."""
        return (max((_peak(a) for _, a in self.shown), default=-1.0), self.alerts, self.peak or 0.0)


def reduce(video: ReportVideo, raise_at: float, clear_at: float) -> Card:
    """Reduce a video to its card."""
    latest = {alert.get("id", i): alert for i, alert in enumerate(video.alerts)}
    alerts = sorted(latest.values(), key=lambda alert: float(alert["start_s"]))
    order = sorted(range(len(alerts)), key=lambda place: -_peak(alerts[place]))
    severities = [str(alert.get("severity", "")) for alert in alerts]
    seen = len(video.times_s) > 0
    start_s = float(video.times_s[0]) if seen else 0.0
    spans = [(float(alert["start_s"]), float(alert["end_s"])) for alert in alerts]
    return Card(
        name=video.name,
        status=video.status,
        error=video.error,
        decoded=video.decoded,
        scored=video.scored,
        gap_frames=dict(video.gap_frames),
        seconds=video.seconds,
        kept=video.kept,
        length_s=scored_seconds(video.times_s, np.zeros_like(video.score)),
        warmup_s=max(video.warmup_until_s - start_s, 0.0) if seen else 0.0,
        peak=None if np.isnan(video.score).all() else float(np.nanmax(video.score)),
        alerts=len(alerts),
        severities={name: severities.count(name) for name in SEVERITIES if name in severities},
        shown=[(place + 1, alerts[place]) for place in sorted(order[:SNAPSHOTS])],
        spark=spark(video) if seen else "",
        chart=timeline(video, spans, order, raise_at, clear_at) if seen else "",
        models=model_lines(video) if seen and len(video.models) > 1 else "",
    )


def row(card: Card, number: int, anchor: str) -> str:
    """A video as a row of the overview."""
    name = f"<bdi>{plain(card.name)}</bdi>"
    link = f'<a href="#{anchor}">{name}</a>' if anchor else name
    worst = next((s for s in reversed(SEVERITIES) if card.severities.get(s)), "")
    alerts = (
        f'<b class="sev {worst}">{worst}</b> <span>{card.alerts}</span>'
        if card.alerts
        else '<span class="none">0</span>'
    )
    peak = "" if card.peak is None else f"{card.peak:.2f}"
    return (
        f'<tr><td data-v="{number}">{link}{_badge(card)}</td>'
        f"<td>{card.spark}</td>"
        f'<td data-v="{card.alerts}">{alerts}</td><td data-v="{peak or -1}">{peak or "-"}</td>'
        f'<td data-v="{card.length_s:.3f}">{clock(card.length_s)}</td>'
        f'<td data-v="{card.scored / max(card.decoded, 1):.6f}">{percent(card.scored, card.decoded)}</td></tr>'
    )


def article(card: Card, anchor: str, pictured: set[int]) -> str:
    """A video with its timeline and alerts. `pictured` are the numbers of the alerts whose snapshot is shown."""
    facts = [
        clock(card.length_s) if card.decoded else "",
        count(card.decoded, "frame") if card.decoded else "no frame decoded",
        f"{percent(card.scored, card.decoded)} scored" if card.decoded else "",
        *(f"{count(n, 'frame')} {cause}" for cause, n in card.gap_frames.items() if n),
        "" if card.peak is None else f"peak {card.peak:.2f}",
        f"took {duration(card.seconds)}" if card.seconds else "",
    ]
    more = card.alerts - len(card.shown)
    parts = [
        f'<article class="video" id="{anchor}"><header><h3><bdi>{plain(card.name)}</bdi></h3>{_badge(card)}'
        f'<p class="facts">{"".join(f"<span>{plain(fact)}</span>" for fact in facts if fact)}</p></header>',
        f'<p class="trouble">{plain(trouble(card))}</p>' if card.failed else "",
        card.chart,
        '<ol class="alerts">' if card.shown else "",
        *(_alert(number, alert, number in pictured) for number, alert in card.shown),
        "</ol>" if card.shown else "",
        f'<p class="more">and {count(more, "more alert")} with lower peaks, in alerts.jsonl</p>' if more else "",
        f"<details><summary>Raw scores of each model</summary>{card.models}</details>" if card.models else "",
        "</article>",
    ]
    return "".join(parts)


def trouble(card: Card) -> str:
    """What is wrong with a video, in one line."""
    texts = [text for text in (card.status if card.status != "complete" else "", card.error) if text]
    return texts[-1] if len(texts) == 2 and texts[0] in texts[1] else ": ".join(texts)


def picture(alert: Mapping) -> bytes:
    """The alert's snapshot if it is a JPEG of a sensible size, else nothing."""
    thumb = alert.get("thumb") or b""
    return thumb if thumb[:2] == b"\xff\xd8" and len(thumb) <= SNAPSHOT_BYTES else b""


def _peak(alert: Mapping) -> float:
    return float(alert.get("peak") or 0.0)


def _badge(card: Card) -> str:
    if not card.failed:
        return ""
    return f' <b class="badge">{"failed" if not card.decoded else "incomplete"}</b>'


def _alert(number: int, alert: Mapping, pictured: bool) -> str:
    start_s, end_s = float(alert["start_s"]), float(alert["end_s"])
    when = f"{clock(start_s, fine=True)} to {clock(end_s, fine=True)}"
    severity = str(alert.get("severity", ""))
    models = ", ".join(f"{name} {float(value):.3g}" for name, value in (alert.get("models") or {}).items())
    image = ""
    if pictured:
        data = base64.b64encode(picture(alert)).decode()
        image = f'<img alt="Snapshot of alert {number} at {when}" src="data:image/jpeg;base64,{data}">'
    return (
        f'<li class="{"pic" if image else "nopic"}">{image}<div class="what"><i class="mark">{number}</i>'
        f'<b class="sev {severity if severity in SEVERITIES else ""}">{plain(severity)}</b>'
        f"<time>{when}</time><span>peak {_peak(alert):.2f}</span>"
        f"{'<span>still open at the end</span>' if alert.get('phase') in ('open', 'update') else ''}"
        f"{f'<small>{plain(models)}</small>' if models else ''}</div></li>"
    )
