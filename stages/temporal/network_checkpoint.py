"""Trained networks and their checkpoints: how one is made, what it must hold, and how its weights are loaded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from stages.errors import CheckpointError, ConfigError
from stages.files.checkpoint import Checkpoint
from stages.files.tensor_files import read_tensors

Config = TypeVar("Config")


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


def require(kind: str, name: str, checkpoint: Checkpoint | None) -> Checkpoint:
    """The checkpoint, which must be there and hold a `kind`. Raises ConfigError or CheckpointError otherwise."""
    if checkpoint is None:
        raise ConfigError(
            f"{name}: {kind} needs --model CKPT; train one with 'oddwatch train {kind} --manifest F --out CKPT'"
        )
    if checkpoint.kind != kind:
        raise CheckpointError(f"{name}: the checkpoint holds a {checkpoint.kind!r} model, expected {kind!r}")
    return checkpoint


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


def read_foreign_weights(path: Path) -> dict[str, np.ndarray]:
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
