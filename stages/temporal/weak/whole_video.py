"""Trained models on the features of a whole video at once: from files, or as their papers were evaluated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from stages.errors import CheckpointError
from stages.files.checkpoint import Checkpoint
from stages.temporal.network_checkpoint import load_weights, read_config
from stages.temporal.registry import Scorer
from stages.temporal.weak.mil import MIL, MILConfig
from stages.temporal.weak.model_io import LARGEST
from stages.temporal.weak.rtfm import RTFM, RTFMConfig, score_video
from stages.temporal.weak.segments import pool_sultani, segments_to_frames


def rtfm_scorer(name: str, checkpoint: Checkpoint, *, paper: bool, device: str) -> Scorer:
    """With `paper`, the network sees the whole video; a causal one has no published form."""
    config = read_config(name, checkpoint, RTFMConfig)
    if paper and config.mode == "lookahead":
        config = replace(config, mode="paper")
    net = RTFM(config)
    load_weights(name, net, checkpoint.arrays, device)

    def scores(values: np.ndarray) -> np.ndarray:
        x = _checked(name, values, config.input_dim)
        return np.asarray(score_video(net, x.transpose(0, 1).contiguous().to(device)).cpu())

    return scores


def mil_scorer(name: str, checkpoint: Checkpoint, *, paper: bool, device: str) -> Scorer:
    """With `paper`, the network sees 32 segments; the last leaves out a long video's last clip, which scores 0."""
    config = read_config(name, checkpoint, MILConfig)
    net = MIL(config)
    load_weights(name, net, checkpoint.arrays, device)

    @torch.inference_mode()
    def scores(values: np.ndarray) -> np.ndarray:
        x = _checked(name, values, config.input_dim)
        if not paper:
            return np.asarray(net(F.normalize(x.to(device), dim=2)).mean(1).cpu())  # (T, C, D) -> (T,)
        crops = [pool_sultani(values[:, crop], paper=True) for crop in range(values.shape[1])]
        segments = net(torch.from_numpy(np.stack(crops, 1)).to(device)).mean(1).cpu().numpy()  # (32, C, D) -> (32,)
        return segments_to_frames(segments, len(values), len(values), clip_frames=1, paper=True)

    return scores


def _checked(name: str, values: np.ndarray, dim: int) -> torch.Tensor:
    if values.shape[2] != dim:
        raise CheckpointError(f"{name}: takes features of size {dim}, got {values.shape[2]}: other features")
    if not np.all(np.abs(values) <= LARGEST):
        raise CheckpointError(f"{name}: features are not finite numbers within {LARGEST:g}; extract them again")
    return torch.from_numpy(np.array(values, np.float32))
