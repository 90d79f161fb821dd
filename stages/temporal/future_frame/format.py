"""How a predictor sees frames: size, colour order and scale, as its checkpoint states them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

ORDERS = {"gray": 1, "rgb": 3, "bgr": 3}
INTERPOLATIONS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFormat:
    """Pixels as the network was trained on them; the aspect ratio is not kept."""

    height: int = 256
    width: int = 256
    order: str = "rgb"
    """`gray`, `rgb` or `bgr` (weights published for OpenCV's order)."""
    interpolation: str = "area"
    """`area`, or `linear` as published."""

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 16:
            raise ValueError(f"height and width must be at least 16, got {self.height} and {self.width}")
        if self.order not in ORDERS or self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"order must be one of {', '.join(ORDERS)} and interpolation one of {', '.join(INTERPOLATIONS)}, "
                f"got {self.order!r} and {self.interpolation!r}"
            )

    @property
    def channels(self) -> int:
        return ORDERS[self.order]

    def frames(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (T, H, W, 3) RGB -> uint8 (T, channels, height, width), contiguous."""
        return np.stack([self._frame(picture) for picture in pixels])

    def _frame(self, picture: np.ndarray) -> np.ndarray:
        if picture.shape[:2] != (self.height, self.width):
            interpolation = INTERPOLATIONS[self.interpolation]
            picture = cv2.resize(picture, (self.width, self.height), interpolation=interpolation)
        if self.order == "gray":
            return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[None]
        planes = picture.transpose(2, 0, 1)
        return np.ascontiguousarray(planes if self.order == "rgb" else planes[::-1])


def to_unit(frames: np.ndarray) -> Tensor:
    """uint8 of any shape -> float32 in [-1, 1]."""
    return torch.from_numpy(frames.astype(np.float32)) / 127.5 - 1
