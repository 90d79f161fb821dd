"""Weights that the authors of a method published, under the names our networks know. Nothing in a file is executed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.errors import CheckpointError
from stages.files.checkpoint import Checkpoint
from stages.files.matlab import read_mat
from stages.messages import REFERENCE_LEVELS
from stages.temporal.network_checkpoint import make_checkpoint, read_foreign_weights
from stages.temporal.registry import whole_video_scorer
from stages.temporal.weak import kinds
from stages.temporal.weak.mil import MIL, MILConfig
from stages.temporal.weak.rtfm import RTFM, RTFMConfig

KERAS_LAYERS = {"fc1": "0", "fc2": "2", "fc3": "4"}
"""Our layers -> places in Sultani's model.json; 1 and 3 are dropouts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportedNetwork:
    """A network with published weights, and its configuration."""

    kind: str
    config: MILConfig | RTFMConfig
    net: nn.Module


def import_rtfm(path: Path, config: RTFMConfig) -> ImportedNetwork:
    """RTFM's `state_dict` (.pkl, .pth, .pt, .safetensors); the size of the features is taken from it.

    Raises CheckpointError for anything else.
    """
    arrays = read_foreign_weights(path)
    first = arrays.get("fc1.weight", np.empty(0))
    if first.ndim != 2:
        some = ", ".join(sorted(arrays)[:4])
        raise CheckpointError(f"{path}: not RTFM's weights: no fc1.weight (512, D) among {len(arrays)} arrays ({some})")
    config = RTFMConfig(input_dim=first.shape[1], mode=config.mode, window=config.window)
    return ImportedNetwork(kind=kinds.RTFM.name, config=config, net=_filled(path, RTFM(config), arrays, "RTFM's"))


def import_mil(path: Path) -> ImportedNetwork:
    """Sultani's Keras weights (.mat): a cell of kernel (in, out) and bias (1, out) for each layer "0", "2", "4".

    Source: load_weights and conv_dict of the published Demo_GUI.py. Raises CheckpointError for anything else.
    """
    try:
        content = read_mat(path)
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be read as a MATLAB file ({error}); give Sultani's weights") from error
    arrays: dict[str, np.ndarray] = {}
    for name, layer in KERAS_LAYERS.items():
        cell = np.asarray(content.get(layer, np.empty(0)))
        parts = [np.asarray(part) for part in cell.ravel()] if cell.dtype == object else []
        if len(parts) != 2 or any(part.dtype.kind != "f" for part in parts) or parts[0].ndim != 2:
            keys = ", ".join(sorted(key for key in content if not key.startswith("__"))[:8])
            raise CheckpointError(
                f"{path}: not Sultani's weights: {layer!r} must be a cell of a kernel and a bias; the file has {keys}"
            )
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = parts[0].T, parts[1].ravel()
    config = MILConfig(input_dim=arrays["fc1.weight"].shape[1])
    return ImportedNetwork(kind=kinds.MIL.name, config=config, net=_filled(path, MIL(config), arrays, "Sultani's"))


def _filled(path: Path, net: nn.Module, arrays: dict[str, np.ndarray], whose: str) -> nn.Module:
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    got = {name: array.shape for name, array in arrays.items()}
    wrong = [f"{name} is missing" for name in wanted if name not in got]
    wrong += [f"{name} is unknown" for name in got if name not in wanted]
    wrong += [f"{name} is {got[name]}, not {shape}" for name, shape in wanted.items() if got.get(name, shape) != shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{path}: not {whose} weights: {'; '.join(wrong[:3])}{more}")
    net.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()})
    if not all(bool(torch.isfinite(tensor).all()) for tensor in net.state_dict().values()):
        raise CheckpointError(f"{path}: holds weights that are not finite numbers; get the file again")
    return net.eval()


def imported_checkpoint(
    imported: ImportedNetwork, file: Path, extractor: str, preprocessing: dict, normal: Sequence[np.ndarray]
) -> Checkpoint:
    """A checkpoint of a network read from `file`, whose scores are calibrated on normal videos (T, crops, D).

    Raises CheckpointError when the features do not fit.
    """
    blank = make_checkpoint(
        imported.kind,
        imported.net,
        imported.config,
        extractor=extractor,
        preprocessing=preprocessing,
        reference=np.zeros(len(REFERENCE_LEVELS)),
        training={},
    )
    # In paper mode it never streams, but what is normal for it is seen through the same whole videos.
    score = whole_video_scorer(str(file), blank)
    scores = np.concatenate([score(values) for values in normal])
    reference = np.quantile(scores.astype(np.float64), REFERENCE_LEVELS).astype(np.float32)
    meta = blank.meta | {
        "reference": [float(level) for level in reference],
        "training": {
            "published": file.name,
            "published_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "normal_snippets": len(scores),
            "reference_from": "normal videos given when it was imported",
        },
    }
    return replace(blank, meta=meta)
