"""What trained models on dense features have in common: their checkpoint, and its fit to the features that come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stages.errors import CheckpointError
from stages.files.checkpoint import Checkpoint
from stages.files.tensor_files import read_tensors
from stages.messages import REFERENCE_LEVELS, Features, Scores

Config = TypeVar("Config")

LARGEST = 1e6
"""Features beyond this size are damage: cubed, as in RTFM's attention, they would leave float32."""


def make_checkpoint(
    kind: str,
    net: nn.Module,
    config: Any,
    *,
    extractor: str,
    preprocessing: dict,
    reference: np.ndarray,
    training: dict,
) -> Checkpoint:
    """A checkpoint of a trained network on dense features.

    `config` is the model's dataclass; `extractor` an id `name@hash`; `reference` float32 (len(REFERENCE_LEVELS),),
    quantiles of its scores on normal footage; `training` says what it was trained on (fingerprint, settings).
    """
    meta = {
        "architecture": asdict(config),
        "extractor": extractor,
        "preprocessing": preprocessing,
        "reference": [float(level) for level in reference],
        "training": training,
    }
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}
    return Checkpoint(kind=kind, meta=meta, arrays=arrays)


def read_config(name: str, checkpoint: Checkpoint, config: type[Config]) -> Config:
    """The model's own configuration out of a checkpoint's `architecture`. Raises CheckpointError when it is not one."""
    try:
        return config(**checkpoint.meta["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{name}: the checkpoint's architecture cannot be read ({error}); it was made by another version: "
            f"train it again with 'oddwatch train {checkpoint.kind}'"
        ) from error


def load_weights(name: str, net: nn.Module, arrays: dict[str, np.ndarray], device: str) -> None:
    """Fill `net` from a checkpoint's arrays and make it ready to score. Raises CheckpointError when they do not fit."""
    try:
        net.load_state_dict({key: torch.from_numpy(np.array(array)) for key, array in arrays.items()})
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{name}: the checkpoint's weights do not fit its own description ({reason}); make it again"
        ) from error
    net.to(device).eval().requires_grad_(False)


def read_published(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict that others published: safetensors, or torch's format without executing anything.

    Raises CheckpointError for anything but named tensors.
    """
    try:
        tensors = read_tensors(path)
    except ValueError as error:
        raise CheckpointError(
            f"{path}: cannot be read as plain weights ({error}); give the published file, or safetensors of it"
        ) from error
    # NumPy has no bfloat16.
    halves = (torch.bfloat16, torch.float16)
    plain = {name: tensor.float() if tensor.dtype in halves else tensor for name, tensor in tensors.items()}
    return {name.removeprefix("module."): tensor.numpy() for name, tensor in plain.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What a trained model must know of its checkpoint to take features and give scores."""

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
    def of(cls, name: str, checkpoint: Checkpoint, input_dim: int) -> Trained:
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
