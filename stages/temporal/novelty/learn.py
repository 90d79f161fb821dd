"""How an adaptive model changes with each snippet it has scored: slowly, and far more slowly by what was odd."""

from __future__ import annotations

import numpy as np

from stages.messages import REFERENCE_LEVELS
from stages.stage import State
from stages.temporal.novelty.bank import closest, kcentre

Levels = tuple[np.ndarray, np.ndarray]
"""Mean and deviation, each (rows, columns)."""

MOST = 2_000
"""Members of the bank; beyond, a new one replaces the one unused for longest."""
PER_SNIPPET = 8
"""New members per snippet, until the bank is full; then one."""
DELAY_S = 10.0
"""A new member is not used before this age, or each walker would be normal to himself and set the measure for all."""
MEMORY_FRAMES = 18_000
"""Over so many frames, the levels at each place forget what they were."""
ODD = 3.0
"""Deviations beyond which a cell is odd: it counts as this many, and"""
ODD_SHARE = 1 / 2_000
"""so much of a cell in the levels;"""
ODD_S = 5.0
"""and one odd cell becomes a member only each so many seconds."""
RECENT = 4_096
"""Scores kept for the reference."""
TAUGHT = 256
"""Scores that stand for the warm-up's, too high (little footage judged them): they leave after four times as many."""
RECENT_SHARE = 1 / 8
"""Once there are so many, the share of scores that still enters."""
CREEP = 0.1
"""The highest of them rises at most by this share of their spread per snippet, however odd an event is."""


def learned(arrays: dict[str, np.ndarray], clock_s: float) -> State:
    """The state of a camera whose warm-up taught `arrays`."""
    recent = np.interp(np.linspace(0, 1, TAUGHT), REFERENCE_LEVELS, arrays["reference"])
    size = len(arrays["bank"])
    return {
        "mean": arrays["mean"],
        "deviation": arrays["deviation"],
        "bank": arrays["bank"],
        "born": np.full(size, -np.inf, np.float32),
        "used": np.full(size, clock_s, np.float32),
        "ground": arrays["ground"],
        "recent": recent.astype(np.float32),
        "odd_s": np.array(clock_s),
        "snippets": np.array(0),
        "taught": np.array(TAUGHT),
    }


def usable(state: State, clock_s: float) -> np.ndarray:
    """Members of the bank that are old enough; all, where a camera's clock stands still and none ever is."""
    bank: np.ndarray = state["bank"]
    old = state["born"] <= clock_s - DELAY_S
    return bank[old] if old.any() else bank


def ground_after(
    ground: np.ndarray,
    at: tuple[np.ndarray, np.ndarray],
    far: np.ndarray,
    level: tuple[np.ndarray, np.ndarray],
    frames: int,
) -> np.ndarray:
    """The sums (3, rows, columns) after `frames` frames with cells `far` from the bank, at places with those levels."""
    mean, deviation = (place[at] for place in level)
    most = mean + np.float32(ODD) * deviation
    share = np.where(far > most, ODD_SHARE, 1.0)
    counted = np.minimum(far, most).astype(np.float64)
    fresh = np.zeros_like(ground)
    for plane, amount in zip(fresh, (share, share * counted, share * counted**2), strict=True):
        np.add.at(plane, at, amount)
    return ground * (1 - 1 / MEMORY_FRAMES) ** frames + fresh


def bank_after(state: State, queries: np.ndarray, z: np.ndarray, clock_s: float) -> State:
    """`bank`, `born`, `used` and `odd_s` after a snippet whose cells (N, D + 2) were `z` deviations away."""
    bank, born, used, odd_s = state["bank"], state["born"], state["used"].copy(), state["odd_s"]
    ordinary = np.flatnonzero(z <= ODD)
    some = ordinary[:: max(1, len(ordinary) // 64)]
    used[closest(queries[some], bank)] = clock_s
    news = ordinary[z[ordinary] > 1]
    if len(news):
        news = news[kcentre(queries[news], PER_SNIPPET if len(bank) < MOST else 1)]
    odd = np.flatnonzero(z > ODD)
    if len(odd) and clock_s - odd_s >= ODD_S:
        # The middle one: the oddest of the odd may be a glitch.
        news = np.append(news, odd[np.argsort(z[odd], kind="stable")[len(odd) // 2]])
        odd_s = np.array(clock_s)
    bank = np.concatenate([bank, queries[news]])
    born = np.append(born, np.full(len(news), clock_s, np.float32))
    used = np.append(used, np.full(len(news), clock_s, np.float32))
    keep = np.sort(np.argsort(-used, kind="stable")[:MOST])
    return {"bank": bank[keep], "born": born[keep], "used": used[keep], "odd_s": odd_s}


def recent_after(state: State, scores: np.ndarray) -> State:
    """`recent` and `taught` after a snippet's scores: all are kept until there are enough, then some, at random places.

    Of the scores above all those kept, one enters, cut down: an event must not at once become its own measure.
    """
    recent, taught = state["recent"], int(state["taught"])
    draw = np.random.default_rng(int(state["snippets"]))
    highest = recent.max()
    spread = max(float(np.quantile(recent, 0.99) - np.median(recent)), 0.1)
    above = np.minimum(scores[scores > highest][:1], highest + CREEP * spread)
    new = np.append(scores[scores <= highest], above).astype(np.float32)
    if len(recent) >= RECENT:
        new = new[draw.random(len(new)) < RECENT_SHARE]
    room = RECENT - len(recent)
    recent = np.append(recent, new[:room])
    recent[draw.integers(0, RECENT, len(new[room:]))] = new[room:]
    if taught and len(recent) >= 5 * taught:
        recent, taught = recent[taught:], 0
    return {"recent": recent, "taught": np.array(taught)}
