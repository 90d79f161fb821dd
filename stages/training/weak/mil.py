"""Training of `mil`: Adagrad on bags of 32 segments of unit length, as published by Sultani et al. (CVPR 2018).

Own addition, off by default: standardised inputs. Features of one camera look much alike, so their mean is most of
every unit vector and the spread of some numbers a hundredth of that of others, which slows down training. The
shift and scale are linear and end up in the first layer: the network that scores is the published one.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.temporal.weak.mil import MIL, MILConfig, MILLoss, mil_loss
from stages.temporal.weak.segments import SEGMENTS, pool_sultani, unit_rows
from stages.training.bags import TrainingVideo
from stages.training.weak.loop import Settings, seeded

PUBLISHED = Settings(iterations=20_000, batch=30, learning_rate=0.01, check_every=1000)
LEAST_SPREAD = 1e-4
"""Features that hardly vary are noise; they are not blown up beyond this."""
SIZE = 3.0
"""Usual length of a standardised vector; larger learns faster. Fixed by hand, not searched."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standard:
    """Input of the first layer = (unit vector - mean) * scale, both float32 (D,)."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, videos: Sequence[TrainingVideo]) -> Standard:
        """Mean and spread of the snippets of all videos and crops."""
        rows = np.concatenate([unit_rows(video.values).reshape(-1, video.values.shape[2]) for video in videos])
        spread = np.maximum(rows.std(0, dtype=np.float64), LEAST_SPREAD)
        scale = SIZE / (spread * np.sqrt(rows.shape[1]))
        return cls(mean=rows.mean(0, dtype=np.float64).astype(np.float32), scale=scale.astype(np.float32))


class TrainableMIL:
    """A `mil` network in training; of crops, as others publish features, the mean score counts."""

    def __init__(
        self,
        config: MILConfig,
        settings: Settings,
        device: str = "cpu",
        segments: int = SEGMENTS,
        standard: Standard | None = None,
    ) -> None:
        self.config, self.device, self._segments = config, torch.device(device), segments
        self.net = seeded(lambda: MIL(config), settings.seed).to(self.device)
        self.optimiser = torch.optim.Adagrad(self.net.parameters(), lr=settings.learning_rate, eps=1e-8)
        given = standard or Standard(mean=np.zeros(1, np.float32), scale=np.ones(1, np.float32))
        self._mean = torch.from_numpy(given.mean).to(self.device)
        self._scale = torch.from_numpy(given.scale).to(self.device)

    def pool(self, values: np.ndarray) -> np.ndarray:
        crops = [pool_sultani(values[:, crop], self._segments) for crop in range(values.shape[1])]
        return np.stack(crops, axis=1)

    def loss(self, abnormal: Tensor, normal: Tensor) -> MILLoss:
        x = (torch.cat([abnormal, normal]) - self._mean) * self._scale  # (2 B, C, S, D)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            scores = self.net(x).mean(1)  # (2 B, S)
        first, second = scores.float().split(len(abnormal))
        return mil_loss(first, second, self.net.kernels(), self.config)

    @torch.inference_mode()
    def scores(self, values: np.ndarray) -> np.ndarray:
        x = F.normalize(torch.from_numpy(np.array(values)).to(self.device), dim=2)  # (T, C, D)
        return np.asarray(self.net.eval()((x - self._mean) * self._scale).mean(1).cpu())

    @torch.no_grad()
    def finished(self) -> MIL:
        """The published network on plain unit vectors that gives the same scores."""
        net = deepcopy(self.net).cpu()
        weight = net.fc1.weight * self._scale.cpu()  # (512, D)
        net.fc1.bias.sub_(weight @ self._mean.cpu().expand(weight.shape[1]))
        net.fc1.weight.copy_(weight)
        return net.eval()
