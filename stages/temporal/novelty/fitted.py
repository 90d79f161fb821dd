"""`novelty`: how far a frame is from what is normal for its camera. Causal, one score per kept frame.

Sparse features: a memory bank of normal moving cells and a calibration per place (METHODS.md, A0b).
Dense features: a memory bank of snippets' vectors. Without a checkpoint it learns from the camera itself (`adaptive`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from stages.errors import CheckpointError
from stages.features.registry import EXTRACTORS, build_extractor
from stages.files.checkpoint import Checkpoint
from stages.messages import REFERENCE_LEVELS, Features, Scores
from stages.stage import State
from stages.temporal.novelty.adaptive import Adaptive
from stages.temporal.novelty.kind import NOVELTY
from stages.temporal.novelty.oddness import PlaceStats, Scale, distances, held_map, odd_maps, pool, snippet_oddness

SPARSE = {"mean", "deviation", "bank", "ground", "reference"}
DENSE = {"mean", "deviation", "bank", "level", "reference"}


def build(name: str, checkpoint: Checkpoint | None, device: str = "cpu") -> Novelty | Adaptive:
    """The fitted model, or without a checkpoint the adaptive one; both run on the CPU, whatever `device` says.

    Raises CheckpointError when the checkpoint is damaged or its features are no longer made the way they were.
    """
    if checkpoint is None:
        return Adaptive(name)
    return Novelty(name, checkpoint)


class Novelty:
    """Features to scores with a fitted bank; remembers half a second of scores per camera."""

    def __init__(self, name: str, checkpoint: Checkpoint) -> None:
        check(checkpoint)
        arrays = checkpoint.arrays
        self.name = name
        self.hash = (checkpoint.sha256 or _digest(checkpoint))[:12]
        self.extractor = str(checkpoint.meta["extractor"])
        self.features = self.extractor.partition("@")[0]
        self._sparse = checkpoint.meta["features"] == "sparse"
        self._arrays = arrays
        self._levels = PlaceStats(arrays["ground"]).levels() if self._sparse else None

    def process(self, batch: Sequence[tuple[Features, State]]) -> list[tuple[list[Scores], State]]:
        """Scores of each snippet's frames. Raises CheckpointError for features of another extractor."""
        return [self._score(features, state) for features, state in batch]

    def finish(self, state: State) -> tuple[list[Scores], State]:
        """Forget the last scores."""
        return [], {}

    def _score(self, features: Features, state: State) -> tuple[list[Scores], State]:
        if features.extractor != self.extractor:
            raise CheckpointError(
                f"model {self.name!r} was fitted on {self.extractor} features, got {features.extractor}: "
                f"configure the extractor {self.features!r}, or fit again with 'oddwatch fit'"
            )
        raw, state = pool(self._maps(features), features.times_s[features.picked], state)
        scores = Scores(
            **features.header(), model=self.name, model_hash=self.hash, raw=raw, reference=self._arrays["reference"]
        )
        return [scores], state

    def _maps(self, features: Features) -> np.ndarray:
        a = self._arrays
        if not self._sparse:
            odd = snippet_oddness(features.values, a["mean"], a["deviation"], a["bank"], a["level"])
            return held_map(odd, features)
        assert self._levels is not None
        scale = Scale(a["mean"], a["deviation"], a["ground"].shape[1])
        far = distances(features, scale, a["bank"])
        return odd_maps(features, far, self._levels)


def check(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError unless the checkpoint is a whole `novelty` model whose features can still be made."""
    extractor = checkpoint.meta.get("extractor", "")
    wanted = SPARSE if checkpoint.meta.get("features") == "sparse" else DENSE
    missing = wanted - checkpoint.arrays.keys()
    if checkpoint.kind != NOVELTY.name or not extractor or missing:
        raise CheckpointError(
            f"not a whole novelty checkpoint (kind {checkpoint.kind!r}, missing {sorted(missing) or 'extractor'}); "
            "make one with 'oddwatch fit'"
        )
    if checkpoint.arrays["reference"].shape != REFERENCE_LEVELS.shape:
        raise CheckpointError("the novelty checkpoint has other reference levels than this version; fit again")
    name = extractor.partition("@")[0]
    if name in EXTRACTORS and not EXTRACTORS.get(name).weights:
        current = build_extractor(name).id
        if extractor != current:
            raise CheckpointError(
                f"the novelty checkpoint was fitted on {extractor} features, this version makes {current}: "
                "fit again with 'oddwatch fit'"
            )


def _digest(checkpoint: Checkpoint) -> str:
    """A name for a checkpoint that was never a file."""
    digest = hashlib.sha256(repr(sorted(checkpoint.meta.items())).encode())
    for name in sorted(checkpoint.arrays):
        digest.update(np.ascontiguousarray(checkpoint.arrays[name]).tobytes())
    return digest.hexdigest()
