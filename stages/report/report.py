"""`report.html`: what was scored, what was not and why, and what stood out."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from string import Template

from stages.evaluation.evaluate import Metrics
from stages.files.atomic import write_whole
from stages.report.card import SEVERITIES, Card, article, picture, reduce, row, trouble
from stages.report.formatting import count, duration, percent, plain
from stages.report.judged import judged
from stages.report.video import ReportVideo

__all__ = ["ReportVideo", "write_report"]

TIMELINES = 200
"""Videos that get a timeline; of more, those with the most to see."""
ROWS = 5000
"""Videos in the overview; of more, the first."""
PICTURES_BYTES = 12_000_000
"""All snapshots together; of more, those of the highest alerts."""


def write_report(
    path: Path,
    videos: Iterable[ReportVideo],
    *,
    title: str,
    raise_at: float,
    clear_at: float,
    settings: Mapping[str, str] | None = None,
    metrics: Metrics | None = None,
    run_s: float | None = None,
) -> None:
    """Write one page that needs no network. Videos are taken one by one, so they may be read as they are asked for.

    `settings` are shown as given (configuration hash, model hashes, version, date); `run_s` is the wall-clock time
    of the run that scored all videos but the `kept` ones. Raises OddwatchError when the page cannot be written.
    """
    cards = _cards(videos, raise_at, clear_at)
    template = (files("stages.report") / "template.html").read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", template, re.DOTALL)
    articles = _articles(cards)
    page = Template(template).substitute(
        # Nothing but this page's own script may run, whatever a file is called.
        script_hash=base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() if script else "",
        title=plain(title),
        lead=_lead(cards),
        tiles=_tiles(cards, run_s),
        account=_account(cards),
        troubles=_troubles(cards),
        metrics=judged(metrics) if metrics else "",
        overview=_overview(cards) if len(cards) > 1 else "",
        key=_key(articles),
        videos=articles,
        settings="".join(f"<dt>{plain(k)}</dt><dd>{plain(v)}</dd>" for k, v in (settings or {}).items()),
    )
    write_whole(path, page.encode())


def _cards(videos: Iterable[ReportVideo], raise_at: float, clear_at: float) -> list[Card]:
    """All videos; only the TIMELINES with the most to see keep a timeline and alerts, so memory is bounded."""
    cards: list[Card] = []
    charted: list[int] = []
    for video in videos:
        charted.append(len(cards))
        cards.append(reduce(video, raise_at, clear_at))
        if len(charted) > TIMELINES:
            least = min(charted, key=lambda i: cards[i].rank)
            charted.remove(least)
            cards[least] = replace(cards[least], chart="", models="", shown=())
    return cards


def _lead(cards: Sequence[Card]) -> str:
    alerts, with_alerts = sum(c.alerts for c in cards), sum(c.alerts > 0 for c in cards)
    failed = sum(c.failed for c in cards)
    length_s = sum(c.length_s for c in cards)
    text = count(len(cards), "video") + (f", {duration(length_s)} of footage. " if length_s else ". ")
    if alerts:
        text += count(alerts, "alert") + (f" in {with_alerts:,} of them." if len(cards) > 1 else ".")
    elif any(c.scored for c in cards):
        text += "Nothing stood out enough for an alert."
    return text + (f" {count(failed, 'video')} could not be scored completely." if failed else "")


def _tiles(cards: Sequence[Card], run_s: float | None) -> str:
    severities: Counter = Counter()
    for card in cards:
        severities.update(card.severities)
    decoded, scored = sum(c.decoded for c in cards), sum(c.scored for c in cards)
    failed, length_s = sum(c.failed for c in cards), sum(c.length_s for c in cards)
    work_s = run_s if run_s is not None else sum(c.seconds for c in cards)
    warm = [c.warmup_s for c in cards if c.warmup_s > 0]
    by_severity = " ".join(
        f'<b class="sev {s}">{severities[s]} {s}</b>' for s in reversed(SEVERITIES) if severities.get(s)
    )
    accounted = "every frame accounted for" if _lost(cards) == 0 else "not all accounted for, see below"
    tiles = [
        ("Alerts", f"{sum(c.alerts for c in cards):,}", by_severity or "none raised"),
        ("Videos", f"{len(cards):,}", f"{failed} with problems" if failed else "all complete"),
        ("Footage", duration(length_s), count(decoded, "frame")),
        ("Scored", percent(scored, decoded), accounted if decoded else "no frame decoded"),
    ]
    if work_s:
        tiles.append(("Run time", duration(work_s), _speed(cards, work_s)))
    if warm:
        tiles.append(("Warm-up", duration(sum(warm)), f"no alerts in it; {count(len(warm), 'video')}"))
    return "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in tiles)


def _speed(cards: Sequence[Card], work_s: float) -> str:
    """How fast the videos of this run were scored; says so where an earlier run has scored some."""
    done = [card for card in cards if not card.kept]
    speed = f"{sum(card.length_s for card in done) / work_s:.1f} times real time"
    if len(done) == len(cards):
        return speed
    return f"last run only: {len(done):,} of {count(len(cards), 'video')}" + (f", {speed}" if done else "")


def _lost(cards: Sequence[Card]) -> int:
    """Frames that are neither scored nor in a gap: 0, or Oddwatch has a defect."""
    return sum(c.decoded - c.scored - sum(c.gap_frames.values()) for c in cards)


def _account(cards: Sequence[Card]) -> str:
    """decoded = scored + gaps by cause, as a bar and as an equation."""
    decoded, scored = sum(c.decoded for c in cards), sum(c.scored for c in cards)
    if not decoded:
        return ""
    causes: Counter = Counter()
    for card in cards:
        causes.update(card.gap_frames)
    parts = [("scored", scored, "scored"), *((f"gap {c}", n, c) for c, n in sorted(causes.items()) if n)]
    bar = "".join(f'<i class="{plain(kind)}" style="flex-grow:{n}"></i>' for kind, n, _ in parts if n)
    terms = " + ".join(f'<span class="{plain(kind)}">{n:,} {plain(text)}</span>' for kind, n, text in parts)
    lost = _lost(cards)
    complaint = f'<p class="trouble">Unaccounted for: {count(lost, "frame")}; please report this.</p>' if lost else ""
    return (
        f'<section class="account"><div class="bar" aria-hidden="true">{bar}</div>'
        f"<p>{decoded:,} decoded = {terms}</p>{complaint}</section>"
    )


def _troubles(cards: Sequence[Card]) -> str:
    failed = [card for card in cards if card.failed]
    items = "".join(f"<li><b><bdi>{plain(c.name)}</bdi></b> {plain(trouble(c))}</li>" for c in failed[:ROWS])
    return f'<section class="troubles"><h2>Problems</h2><ul>{items}</ul></section>' if failed else ""


def _overview(cards: Sequence[Card]) -> str:
    rows = [row(card, i, f"v{i}" if card.chart else "") for i, card in enumerate(cards[:ROWS], start=1)]
    note = f"<p class=more>The first {ROWS:,} of {len(cards):,}; summary.json has all.</p>" if len(cards) > ROWS else ""
    heads = "".join(
        f"<th{' class=plain' if name == 'Score' else ''}>{f'<button>{name}</button>' if name != 'Score' else name}</th>"
        for name in ("Video", "Score", "Alerts", "Peak", "Length", "Scored")
    )
    return (
        f'<section><h2>Overview</h2><div class="scroll"><table class="overview"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}</section>"
    )


def _key(articles: str) -> str:
    """What the marks mean, of those that occur."""
    meanings = (
        ("score", 'class="chart"', "score, 0 to 1: higher is odder"),
        ("alert", 'class="alert"', "alert"),
        ("truth", 'class="truth"', "anomalous, by the ground truth"),
        ("gap", 'class="gap"', "not scored"),
        ("warm", 'class="warm"', "warm-up, no alerts yet"),
    )
    items = "".join(f'<span><i class="{kind}"></i>{text}</span>' for kind, mark, text in meanings if mark in articles)
    return f'<div class="key"><h2>Timelines</h2>{items}</div>' if items else ""


def _articles(cards: Sequence[Card]) -> str:
    pictured = _pictured(cards)
    shown = [(i, card) for i, card in enumerate(cards, start=1) if card.chart]
    charts = sum(bool(card.decoded) for card in cards)
    note = ""
    if charts > len(shown):
        note = f'<p class="more">Timelines of the {count(len(shown), "video")} with the most to see, of {charts:,}.</p>'
    return note + "".join(article(card, f"v{i}", pictured.get(i, set())) for i, card in shown)


def _pictured(cards: Sequence[Card]) -> dict[int, set[int]]:
    """video number -> numbers of the alerts whose snapshot fits on the page, the highest alerts first."""
    wanted = [
        (float(alert.get("peak") or 0), i, number, len(picture(alert)))
        for i, card in enumerate(cards, start=1)
        for number, alert in card.shown
        if picture(alert)
    ]
    chosen: dict[int, set[int]] = {}
    left = PICTURES_BYTES
    for _, i, number, size in sorted(wanted, key=lambda w: (-w[0], w[1], w[2])):
        if size <= left:
            left -= size
            chosen.setdefault(i, set()).add(number)
    return chosen
