"""The arrays of a `novelty` model from pieces of normal footage: its bank, and how far held-out footage is from the
banks of the rest. Used by `oddwatch fit` (fit_checkpoint.py) and at the end of a warm-up (warmup.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.messages import REFERENCE_LEVELS, Features
from stages.stage import State
from stages.temporal.novelty.oddness import (
    PlaceStats,
    Scale,
    coordinates,
    distances,
    held_map,
    kcentre,
    mean_distance,
    odd_maps,
    oddness,
    places_on,
    pool,
)

CLIP_SAMPLES = 12_000
"""At most so many samples of a clip go into the pool,"""
POOL = 40_000
"""which holds at most so many,"""
BANK = 4_000
"""of which at most so many stand for all."""
SEED = 20180612


@dataclass(frozen=True, eq=False)
class Piece:
    """One snippet of the footage."""

    clip: int
    fold: int
    """The part of the footage it is held out with."""
    features: Features


def fit_cells(footage: Sequence[Piece], samples: int = POOL, size: int = BANK) -> dict[str, np.ndarray]:
    """Arrays of a model of sparse features: scale, bank, level at each place, reference.

    Raises ValueError when fewer than two folds have motion.
    """
    return learn_cells(footage, samples, size)[0]


def learn_cells(footage: Sequence[Piece], samples: int, size: int) -> tuple[dict[str, np.ndarray], State]:
    """The same, and the state of `pool` after the held-out scores of the last piece: what live ones go on from."""
    grids = [p.features.grid for p in footage if p.features.grid]
    rows = grids[0][0]
    grid = rows, max(c * rows // r for r, c in grids)
    scale = Scale.of(np.concatenate([p.features.values for p in footage]), rows)
    far: dict[int, np.ndarray] = {}
    by_fold: dict[int, PlaceStats] = {}
    for fold in sorted({p.fold for p in footage}):
        chosen = kcentred(pool_of([p for p in footage if p.fold != fold], scale, samples), size)
        own = [n for n, p in enumerate(footage) if p.fold == fold]
        far |= {n: distances(footage[n].features, scale, chosen) for n in own}
        places = np.concatenate([places_on(footage[n].features, rows) for n in own])
        by_fold[fold] = PlaceStats.of(grid, places, np.concatenate([far[n] for n in own]))
    # A fold is judged by the levels of the others too, or a place that one clip alone visits would look normal in it.
    others = {f: PlaceStats.total([g for o, g in by_fold.items() if o != f], grid).levels() for f in by_fold}
    maps = (odd_maps(p.features, far[n], others[p.fold]) for n, p in enumerate(footage))
    total = PlaceStats.total(list(by_fold.values()), grid)
    scores, trail = pooled(footage, maps)
    return {
        "mean": scale.mean,
        "deviation": scale.deviation,
        "bank": kcentred(pool_of(footage, scale, samples), size),
        "ground": total.sums,
        "reference": reference(scores),
    }, trail


def fit_vectors(footage: Sequence[Piece]) -> dict[str, np.ndarray]:
    """Arrays of a model of dense features: scale, bank, level, reference.

    Raises ValueError when there are fewer than two folds.
    """
    values = np.stack([p.features.values for p in footage])
    folds = np.array([p.fold for p in footage])
    scale = Scale.of(values, rows=1)
    standard = coordinates(values, scale.mean, scale.deviation)
    far = np.empty(len(values), np.float32)
    for fold in np.unique(folds):
        bank = kcentred(standard[folds != fold], BANK)
        far[folds == fold] = np.concatenate([mean_distance(row[None], bank) for row in standard[folds == fold]])
    level = np.array([far.mean(), max(far.std(), 1e-3)], np.float32)
    arrays = {"mean": scale.mean, "deviation": scale.deviation, "level": level}
    maps = (held_map(oddness(far[n : n + 1], level[0], level[1])[0], p.features) for n, p in enumerate(footage))
    return arrays | {"bank": kcentred(standard, BANK), "reference": reference(pooled(footage, maps)[0])}


def pool_of(footage: Sequence[Piece], scale: Scale, size: int) -> np.ndarray:
    """Coordinates float32 (N <= size, D + 2) of active cells drawn at random, no clip with more than its share."""
    draw = np.random.default_rng(SEED)
    clips = []
    for clip in sorted({p.clip for p in footage}):
        own = [p.features for p in footage if p.clip == clip]
        values = np.concatenate([f.values for f in own])
        places = np.concatenate([places_on(f, scale.rows) for f in own])
        some = _some(draw, len(values), CLIP_SAMPLES)
        clips.append(scale(values[some], places[some]))
    pool = np.concatenate(clips) if clips else np.zeros((0, 1), np.float32)
    return pool[_some(draw, len(pool), size)]


def kcentred(pool: np.ndarray, size: int) -> np.ndarray:
    """The members of `pool` that cover it. Raises ValueError when it is empty."""
    if not len(pool):
        raise ValueError("nothing to learn from in the rest of the footage")
    return pool[kcentre(pool, size)]


def pooled(footage: Sequence[Piece], maps: Iterable[np.ndarray]) -> tuple[np.ndarray, State]:
    """float32 (T,): held-out scores, pooled like live ones within unbroken footage; and the state of `pool` after."""
    parts = []
    state: State = {}
    last: tuple[int, int] | None = None
    for piece, odd in zip(footage, maps, strict=True):
        f = piece.features
        scores, state = pool(odd, f.times_s[f.picked], state if last == (piece.clip, f.first_frame) else {})
        parts.append(scores)
        last = piece.clip, f.next_frame
    return np.concatenate(parts), state


def reference(scores: np.ndarray) -> np.ndarray:
    """float32: quantiles at REFERENCE_LEVELS."""
    return np.quantile(scores, REFERENCE_LEVELS).astype(np.float32)


def _some(draw: np.random.Generator, count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of `count` things, rising."""
    return np.arange(count) if count <= most else np.sort(draw.choice(count, most, replace=False))
