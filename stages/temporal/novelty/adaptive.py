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
from stages.stage import State
from stages.temporal.novelty import learn, warmup
from stages.temporal.novelty.cells import (
    KNEE,
    STILL,
    PlaceLevels,
    Scale,
    at_on,
    distances,
    odd_maps,
    oddness,
    places_on,
)
from stages.temporal.novelty.pool import pool

VERSION = "adaptive 2"
TEMPORAL = ("map", "seen", "last_s")
UNKNOWN = np.linspace(STILL, 2 * KNEE, len(REFERENCE_LEVELS)).astype(np.float32)
"""The reference while nothing is known: evenly all that a score may be."""
STILLNESS = np.linspace(STILL, 0, len(REFERENCE_LEVELS)).astype(np.float32)
"""The reference of a camera that has seen next to no motion in all its patience: any motion is beyond it."""


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
            learnt |= learn.recent_after(state, raw)
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
        learnt = learn.learned(arrays, float(clock_s[-1]))
        return maps, learnt, {k: trail[k] for k in ("map", "seen")}
    return maps, collected, {}


def follow(features: Features, clock_s: float, state: State) -> tuple[np.ndarray, State]:
    """Maps from what was known before the snippet, and what is known after it."""
    scale = Scale(state["mean"], state["deviation"], state["ground"].shape[1])
    level = PlaceLevels(state["ground"]).levels()
    far = distances(features, scale, learn.usable(state, clock_s))
    maps = odd_maps(features, far, level)
    at = at_on(features, level[0].shape)
    learnt = {k: state[k] for k in ("mean", "deviation")} | {"snippets": state["snippets"] + 1}
    learnt["ground"] = learn.ground_after(state["ground"], at, far, level, len(features.picked))
    queries = scale(features.values, places_on(features, scale.rows))
    z = oddness(far, level[0][at], level[1][at])
    return maps, learnt | learn.bank_after(state, queries, z, clock_s)


def clock(times_s: np.ndarray, state: State) -> np.ndarray:
    """float64 (T,): seconds that the camera has been watched, not counting what lay between runs."""
    last_s = float(state.get("last_s", times_s[0]))
    steps = np.maximum(np.diff(times_s, prepend=last_s), 0)
    return np.asarray(float(state.get("clock_s", 0)) + np.cumsum(steps))
