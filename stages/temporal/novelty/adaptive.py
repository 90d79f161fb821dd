"""`novelty` without a checkpoint: learns from the camera's own first minutes, then keeps learning slowly.

Warm-up: moving cells are collected, scores are provisional. Then a small model is fitted as `oddwatch fit` would, each
stretch of time held out once. From then on every snippet is scored first and learned afterwards; what is odd is
learned far more slowly, so that an event stays odd while it lasts, and a lasting change becomes normal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from stages.errors import CheckpointError
from stages.features.kinds import MOTION
from stages.messages import REFERENCE_LEVELS, Features, Scores
from stages.pace import holes, pace_of
from stages.stage import State
from stages.temporal.novelty import warmup
from stages.temporal.novelty.oddness import (
    KNEE,
    STILL,
    PlaceStats,
    Scale,
    at_on,
    closest,
    distances,
    kcentre,
    odd_maps,
    oddness,
    places_on,
    pool,
)

VERSION = "adaptive 2"
TEMPORAL = ("map", "seen", "last_s", "usual_s")
UNKNOWN = np.linspace(STILL, 2 * KNEE, len(REFERENCE_LEVELS)).astype(np.float32)
"""The reference while nothing is known: evenly all that a score may be."""
STILLNESS = np.linspace(STILL, 0, len(REFERENCE_LEVELS)).astype(np.float32)
"""The reference of a camera that has seen next to no motion in all its patience: any motion is beyond it."""

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


class Adaptive:
    """`motion` features to scores; remembers what is normal for each camera, about 250 KB."""

    features = MOTION.name

    def __init__(self, name: str) -> None:
        self.name = name
        self.hash = hashlib.sha256(VERSION.encode()).hexdigest()[:12]

    def process(self, batch: Sequence[tuple[Features, State]]) -> list[tuple[list[Scores], State]]:
        """Scores of each snippet's frames, provisional in the warm-up. Raises CheckpointError for dense features."""
        return [self._score(features, state) for features, state in batch]

    def finish(self, state: State) -> tuple[list[Scores], State]:
        """Forget the last scores; what is normal for the camera stays."""
        return [], {k: v for k, v in state.items() if k not in TEMPORAL}

    def _score(self, features: Features, state: State) -> tuple[list[Scores], State]:
        if features.cells is None or features.extractor.partition("@")[0] != MOTION.name:
            raise CheckpointError(
                f"model {self.name!r} without a checkpoint learns from {MOTION.name!r} features, got "
                f"{features.extractor}: configure the extractor {MOTION.name!r}, or fit a checkpoint with "
                "'oddwatch fit'"
            )
        if "grid" in state and tuple(state["grid"].tolist()) != features.grid:
            state = {}  # Another picture format: what was learned is about other places.
        times_s = features.times_s[features.picked]
        clocks = clock(times_s, state)
        if "bank" in state:
            maps, learnt = follow(features, float(clocks[-1]), state)
            evidence: State = {}
            reference = np.quantile(state["recent"], REFERENCE_LEVELS).astype(np.float32)
        else:
            maps, learnt, evidence = begin(features, clocks, state)
            reference = UNKNOWN if clocks[-1] < warmup.PATIENCE_S else STILLNESS
        raw, trail = pool(maps, times_s, state)
        if "bank" in state:
            learnt |= recent_after(state, raw)
        scores = Scores(
            **features.header(),
            model=self.name,
            model_hash=self.hash,
            raw=raw,
            reference=reference,
            provisional=reference is UNKNOWN,
        )
        return [scores], learnt | trail | evidence | {
            "clock_s": clocks[-1:].reshape(()),
            "grid": np.array(features.grid),
        }


def begin(features: Features, clock_s: np.ndarray, state: State) -> tuple[np.ndarray, State, State]:
    """Maps in a warm-up, in which anything that moves is odd; what is known after it; and, when it ends, the evidence.

    Pooled evidence so far was that anything moved, which must not count against what is now known. With none at all
    the first scores would be single frames', unlike those of the reference. So it is that of the held-out scores.
    """
    assert features.cells is not None
    assert features.grid is not None
    maps = np.full((len(features.picked), *features.grid), STILL, np.float32)
    maps[tuple(features.cells.T)] = KNEE
    collected = warmup.collect(features, clock_s, state)
    if warmup.enough(collected):
        arrays, trail = warmup.fit_collected(collected, features.grid)
        learnt = learned(arrays, float(clock_s[-1]))
        return maps, learnt, {k: trail[k] for k in ("map", "seen")}
    return maps, collected, {}


def follow(features: Features, clock_s: float, state: State) -> tuple[np.ndarray, State]:
    """Maps from what was known before the snippet, and what is known after it."""
    scale = Scale(state["mean"], state["deviation"], state["ground"].shape[1])
    level = PlaceStats(state["ground"]).levels()
    far = distances(features, scale, usable(state, clock_s))
    maps = odd_maps(features, far, level)
    at = at_on(features, level[0].shape)
    learnt = {k: state[k] for k in ("mean", "deviation")} | {"snippets": state["snippets"] + 1}
    learnt["ground"] = sums_after(state["ground"], at, far, level, len(features.picked))
    queries = scale(features.values, places_on(features, scale.rows))
    z = oddness(far, level[0][at], level[1][at])
    return maps, learnt | bank_after(state, queries, z, clock_s)


def clock(times_s: np.ndarray, state: State) -> np.ndarray:
    """float64 (T,): seconds that the camera has been watched, counting neither what lay between runs nor holes."""
    known = "last_s" in state
    last_s = float(state.get("last_s", times_s[0]))
    steps = np.maximum(np.diff(times_s, prepend=last_s), 0)
    anew, _ = holes(times_s, last_s if known else None, pace_of(state))
    steps = np.where(anew, 0.0, steps)
    return np.asarray(float(state.get("clock_s", 0)) + np.cumsum(steps))


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


def sums_after(
    sums: np.ndarray,
    at: tuple[np.ndarray, np.ndarray],
    far: np.ndarray,
    level: Levels,
    frames: int,
) -> np.ndarray:
    """The sums (3, rows, columns) after `frames` frames with cells `far` from the bank, at places with those levels."""
    mean, deviation = (place[at] for place in level)
    most = mean + np.float32(ODD) * deviation
    share = np.where(far > most, ODD_SHARE, 1.0)
    counted = np.minimum(far, most).astype(np.float64)
    fresh = np.zeros_like(sums)
    for plane, amount in zip(fresh, (share, share * counted, share * counted**2), strict=True):
        np.add.at(plane, at, amount)
    return sums * (1 - 1 / MEMORY_FRAMES) ** frames + fresh


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
