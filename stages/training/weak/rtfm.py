"""Training of `rtfm`: Adam on bags of 32 segments, as published by Tian et al. (ICCV 2021)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stages.temporal.weak.rtfm import RTFM, Output, RTFMConfig, RTFMLoss, choose, draw_keep, rtfm_loss, score_video
from stages.temporal.weak.segments import SEGMENTS, pool_rtfm
from stages.training.weak.loop import Settings, seeded

PUBLISHED = Settings(iterations=15_000, batch=32, learning_rate=1e-3, check_every=250)
WEIGHT_DECAY = 0.005
"""As in the published code; the paper has 0.0005."""


class TrainableRTFM:
    """An `rtfm` network in training, in the form (`mode`) in which it will score."""

    def __init__(
        self,
        config: RTFMConfig,
        settings: Settings,
        device: str = "cpu",
        segments: int = SEGMENTS,
        weight_decay: float = WEIGHT_DECAY,
    ) -> None:
        self.config, self.device, self._segments = config, torch.device(device), segments
        self.net = seeded(lambda: RTFM(config), settings.seed).to(self.device)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=settings.learning_rate, weight_decay=weight_decay)

    def pool(self, values: np.ndarray) -> np.ndarray:
        return pool_rtfm(values, self._segments)

    def loss(self, abnormal: Tensor, normal: Tensor) -> RTFMLoss:
        half = len(normal)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            output = Output(*(part.float() for part in self.net(torch.cat([normal, abnormal]))))
        normal_bag, abnormal_bag = (
            choose(videos, self.config.top_k, draw_keep(videos, self.config))
            for videos in (output.videos(slice(half)), output.videos(slice(half, None)))
        )
        return rtfm_loss(normal_bag, abnormal_bag, output.scores[half:], self.config)

    @torch.inference_mode()
    def scores(self, values: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(values.transpose(1, 0, 2).copy()).to(self.device)  # (C, T, D)
        return np.asarray(score_video(self.net.eval(), x).cpu())
