"""`oddwatch fit`: features of normal clips, held in bounded memory and split into folds -> a `novelty` checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from stages.errors import OddwatchError
from stages.files.checkpoint import Checkpoint
from stages.messages import Features
from stages.temporal.novelty.fit_arrays import Piece, fit_cells, fit_vectors
from stages.temporal.novelty.kind import NOVELTY
from stages.text import counted

FOLDS = 4
"""Each part of the footage is judged by what the other three teach: by clip, or by time when there are fewer clips."""
HELD = 2_500_000
"""At most so many samples are kept in memory; of longer footage every 2nd, 4th, ... snippet is used."""
LEAST_FRAMES = 32
LEAST_CELLS = 200
"""Below these there is nothing to learn from."""


def fit_novelty(clips: Iterable[Iterable[Features]], preprocessing: dict | None = None) -> Checkpoint:
    """A `novelty` checkpoint from normal footage: each clip's features in order, one clip being one run.

    The same input gives the same bytes. `preprocessing` goes into the metadata as it is. Raises OddwatchError when
    there is too little footage or motion to learn from, or when the clips come from different extractors.
    """
    held, note = gather(clips)
    footage = in_folds(held)
    sparse = note["features"] == "sparse"
    if sparse and note["samples"] < LEAST_CELLS:
        raise OddwatchError(
            f"too little moves in the normal footage to learn from: {note['samples']} active cells in {note['frames']} "
            f"frames, need at least {LEAST_CELLS}; give footage in which the usual things happen"
        )
    try:
        arrays = fit_cells(footage) if sparse else fit_vectors(footage)
    except ValueError as error:
        raise OddwatchError(
            f"cannot learn from {note['frames']} normal frames: {error}; give more footage, with motion all along"
        ) from error
    reference = [round(float(q), 6) for q in arrays["reference"]]
    meta = note | {"preprocessing": preprocessing or {}, "folds": FOLDS, "reference": reference}
    return Checkpoint(kind=NOVELTY.name, meta=meta, arrays=arrays)


def gather(clips: Iterable[Iterable[Features]]) -> tuple[list[list[Features]], dict]:
    """Each clip's snippets, in bounded memory, and what the checkpoint says of them. Raises OddwatchError."""
    held: list[list[tuple[int, Features]]] = []
    first: Features | None = None
    digest, every, held_samples, samples, frames, steps = hashlib.sha256(), 1, 0, 0, 0, []
    for clip in clips:
        held.append([])
        for index, features in enumerate(clip):
            first = first or features
            _refuse_mixed(first, features)
            digest.update(features.values.tobytes())
            samples += _samples(features)
            frames += len(features.picked)
            steps.extend(np.diff(features.times_s[features.picked]).tolist())
            if index % every == 0:
                held[-1].append((index, features))
                held_samples += _samples(features)
            while held_samples > HELD and any(len(kept) > 1 for kept in held):
                every *= 2
                held = [[(i, f) for i, f in kept if i % every == 0] for kept in held]
                held_samples = sum(_samples(f) for kept in held for _, f in kept)
    if first is None or frames < LEAST_FRAMES:
        raise OddwatchError(
            f"too little normal footage to learn from: {counted(frames, 'frame')}, need at least {LEAST_FRAMES}; "
            "give more or longer files"
        )
    step = float(np.median([s for s in steps if s > 0] or [0.0]))
    return [[f for _, f in kept] for kept in held if kept], {
        "extractor": first.extractor,
        "features": "dense" if first.cells is None else "sparse",
        "dim": int(first.values.shape[-1]),
        "grid": first.grid and list(first.grid),
        "clips": sum(bool(kept) for kept in held),
        "frames": frames,
        "samples": samples,
        "fps": round(1 / step, 3) if step else None,
        "training_data": digest.hexdigest(),
    }


def in_folds(held: list[list[Features]]) -> list[Piece]:
    """Whole clips in turn; with fewer clips than folds, each clip is cut into as many stretches of time."""
    by_clip = len(held) >= FOLDS
    return [
        Piece(clip, clip % FOLDS if by_clip else number * FOLDS // len(kept), features)
        for clip, kept in enumerate(held)
        for number, features in enumerate(kept)
    ]


def _samples(features: Features) -> int:
    return 1 if features.cells is None else len(features.values)


def _refuse_mixed(first: Features, features: Features) -> None:
    if features.extractor != first.extractor:
        raise OddwatchError(
            f"the normal footage mixes features of {first.extractor} and {features.extractor}: fit on one of them"
        )
