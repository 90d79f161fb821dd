"""Training of `mil`: Adagrad on bags of 32 segments of unit length, as published by Sultani et al. (CVPR 2018)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.temporal.mil import MIL, MILConfig, MILLoss, mil_loss
from stages.temporal.segments import SEGMENTS, pool_sultani
from stages.training.loop import Settings, seeded

PUBLISHED = Settings(iterations=20_000, batch=30, learning_rate=0.01, check_every=1000)


class MILTask:
    """A `mil` network in training; of crops, as others publish features, the mean score counts."""

    def __init__(self, config: MILConfig, settings: Settings, device: str = "cpu", segments: int = SEGMENTS) -> None:
        self.config, self.device, self._segments = config, torch.device(device), segments
        self.net = seeded(lambda: MIL(config), settings.seed).to(self.device)
        self.optimiser = torch.optim.Adagrad(self.net.parameters(), lr=settings.learning_rate, eps=1e-8)

    def pool(self, values: np.ndarray) -> np.ndarray:
        crops = [pool_sultani(values[:, crop], self._segments) for crop in range(values.shape[1])]
        return np.stack(crops, axis=1)

    def loss(self, abnormal: Tensor, normal: Tensor) -> MILLoss:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            scores = self.net(torch.cat([abnormal, normal])).mean(1)  # (2 B, C, S, D) -> (2 B, S)
        first, second = scores.float().split(len(abnormal))
        return mil_loss(first, second, self.net.kernels(), self.config)

    @torch.inference_mode()
    def scores(self, values: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.array(values)).to(self.device)  # (T, C, D)
        return np.asarray(self.net.eval()(F.normalize(x, dim=2)).mean(1).cpu())
