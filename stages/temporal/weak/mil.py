"""Deep MIL ranking: a small network scores every snippet alone, trained with bags of normal and abnormal videos.

Source: Sultani, Chen, Shah, "Real-world anomaly detection in surveillance videos", CVPR 2018; where the paper
and its published code differ, the code. Exactly causal: a score needs its own snippet only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.files.checkpoint import Checkpoint
from stages.messages import Features, Scores
from stages.stage import State
from stages.temporal.network_checkpoint import load_weights, read_config
from stages.temporal.weak.model_io import ModelIO


@dataclass(frozen=True, slots=True, kw_only=True)
class MILConfig:
    """Sizes, and the weights of the loss."""

    input_dim: int = 4096
    """D of the features (4096: C3D fc6, as published)."""
    dropout: float = 0.6
    sparsity: float = 8e-5
    """Weight of the sum of abnormal scores."""
    smoothness: float = 8e-5
    """Weight of the sum of squared differences between neighbouring abnormal scores."""
    kernel_penalty: float = 0.001
    """Weight of the sum of squared kernel weights (the paper's text has 0.01)."""

    def __post_init__(self) -> None:
        if self.input_dim < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"need input_dim >= 1 and 0 <= dropout < 1, got {self.input_dim} and {self.dropout}")


class MIL(nn.Module):
    """(..., D) unit vectors -> (...) scores in [0, 1]."""

    def __init__(self, config: MILConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.input_dim, 512)
        self.fc2 = nn.Linear(512, 32)
        self.fc3 = nn.Linear(32, 1)
        self.dropout = nn.Dropout(config.dropout)
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.dropout(F.relu(self.fc1(x)))  # (..., D) -> (..., 512)
        h = self.dropout(self.fc2(h))  # (..., 512) -> (..., 32): no activation here, as published
        return torch.sigmoid(self.fc3(h)).squeeze(-1)  # (..., 32) -> (...)

    def kernels(self) -> list[Tensor]:
        """The weights that the loss penalises: not the biases."""
        return [self.fc1.weight, self.fc2.weight, self.fc3.weight]


class MILLoss(NamedTuple):
    """The terms, weighted, and their sum."""

    total: Tensor
    hinge: Tensor
    sparsity: Tensor
    smoothness: Tensor
    kernels: Tensor


def mil_loss(
    abnormal: Tensor, normal: Tensor, kernels: Iterable[Tensor] = (), config: MILConfig | None = None
) -> MILLoss:
    """Scores of abnormal videos (A, S) and of normal videos (N, S) -> the ranking loss.

    The hinge takes all A x N pairs: summed over the abnormal videos, averaged over the normal ones.
    Sparsity and smoothness act on abnormal videos only and are sums over them.
    """
    config = config or MILConfig()
    margins = 1 - abnormal.amax(1)[:, None] + normal.amax(1)[None, :]  # (A, N)
    hinge = F.relu(margins).sum(0).mean()
    sparsity = config.sparsity * abnormal.sum()
    smoothness = config.smoothness * abnormal.diff(dim=1).square().sum()
    penalty = config.kernel_penalty * sum((w.square().sum() for w in kernels), start=abnormal.new_zeros(()))
    return MILLoss(hinge + sparsity + smoothness + penalty, hinge, sparsity, smoothness, penalty)


class MILModel:
    """The stage: features (D,) -> the snippet's score, held over its kept frames. Remembers nothing."""

    def __init__(self, io: ModelIO, net: MIL, device: str = "cpu") -> None:
        self.name, self.hash, self.features = io.name, io.hash, io.features
        self._io, self._net, self._device = io, net, device

    @torch.inference_mode()
    def process(self, batch: Sequence[tuple[Features, State]]) -> list[tuple[list[Scores], State]]:
        if not batch:
            return []
        x = self._io.stack([features for features, _ in batch]).to(self._device)  # (B, D)
        scores = self._net(F.normalize(x, dim=1)).tolist()  # (B,)
        return [
            ([self._io.scores(features.header(), score)], {})
            for (features, _), score in zip(batch, scores, strict=True)
        ]

    def finish(self, state: State) -> tuple[list[Scores], State]:
        return [], {}


def build(name: str, checkpoint: Checkpoint, device: str) -> MILModel:
    """Raises CheckpointError for a checkpoint that is not a sound `mil`."""
    config = read_config(name, checkpoint, MILConfig)
    net = MIL(config)
    load_weights(name, net, checkpoint.arrays, device)
    return MILModel(ModelIO.of(name, checkpoint, config.input_dim), net, device)
