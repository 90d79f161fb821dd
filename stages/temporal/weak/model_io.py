"""Dense features in, scores out: the part that all weakly supervised models have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.errors import CheckpointError
from stages.files.checkpoint import Checkpoint
from stages.messages import REFERENCE_LEVELS, Features, Scores

LARGEST = 1e6
"""Features beyond this size are damage: cubed, as in RTFM's attention, they would leave float32."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelIO:
    """What a model takes and gives, as its checkpoint says: dense features of one extractor, and scores."""

    kind: str
    name: str
    hash: str
    extractor: str
    """Id of the extractor it was trained on, `name@hash`."""
    input_dim: int
    reference: np.ndarray

    @property
    def features(self) -> str:
        """Name of the extractor it reads."""
        return self.extractor.partition("@")[0]

    @classmethod
    def of(cls, name: str, checkpoint: Checkpoint, input_dim: int) -> ModelIO:
        """Raises CheckpointError when the extractor or the reference quantiles are missing or malformed."""
        extractor = checkpoint.meta.get("extractor")
        reference = np.asarray(checkpoint.meta.get("reference", []), np.float32)
        if not isinstance(extractor, str) or not extractor:
            raise CheckpointError(f"{name}: the checkpoint names no feature extractor; train it again")
        if reference.shape != REFERENCE_LEVELS.shape or not np.all(np.diff(reference) >= 0):
            raise CheckpointError(
                f"{name}: the checkpoint's reference must be {len(REFERENCE_LEVELS)} rising quantiles of normal "
                f"scores, got {reference.tolist()}; train it again"
            )
        return cls(
            kind=checkpoint.kind,
            name=name,
            hash=checkpoint.sha256,
            extractor=extractor,
            input_dim=input_dim,
            reference=reference,
        )

    def stack(self, messages: Sequence[Features]) -> Tensor:
        """The messages' feature vectors, float32 (B, D).

        Raises CheckpointError for features of another extractor or size, ValueError for damaged ones.
        """
        for features in messages:
            if features.extractor != self.extractor or features.cells is not None:
                kind = "cells of " if features.cells is not None else ""
                raise CheckpointError(
                    f"{self.name}: trained on features of {self.extractor!r}, but camera {features.camera} sends "
                    f"{kind}{features.extractor!r}; {self._remedy(features.extractor)}"
                )
            if features.values.shape != (self.input_dim,):
                raise CheckpointError(
                    f"{self.name}: trained on features of size {self.input_dim}, but camera {features.camera} sends "
                    f"{features.values.shape[0]} from {features.extractor!r}; train again on these"
                )
            if not np.all(np.abs(features.values) <= LARGEST):
                raise ValueError(f"{features.camera} {features.id}: features are not finite numbers within {LARGEST:g}")
        return torch.from_numpy(np.stack([features.values for features in messages]))

    def _remedy(self, got: str) -> str:
        again = f"train again with 'oddwatch train {self.kind} --features {got.partition('@')[0]}'"
        if got.partition("@")[0] != self.features:
            return f"set its features to {self.features!r}, or {again}"
        # Same name, other hash: for i3d most likely the weights rounded to float16.
        return f"other weights or another version of {self.features}: use those it was trained with, or {again}"

    def scores(self, header: dict, score: float, lookahead_frames: int = 0) -> Scores:
        """The snippet's score held over its kept frames."""
        return Scores(
            **header,
            model=self.name,
            model_hash=self.hash,
            raw=np.full(len(header["picked"]), score, np.float32),
            reference=self.reference,
            lookahead_frames=lookahead_frames,
        )
