"""EfficientNet-Lite0 features: what a snippet's frames look like, without how they move. 1280 numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from stages.errors import WeightsError
from stages.features.clips import Backbone, ClipExtractor, usable
from stages.features.kinds import EFFICIENTNET_LITE0
from stages.features.nets.efficientnet_lite0 import DIM, EfficientNetLite0
from stages.features.pictures import squashed, ten
from stages.weights.store import default_home, load_weights

SIDE = EFFICIENTNET_LITE0.analysis_height

PREPROCESSING = {
    "version": 1,
    "picture": f"the whole picture to {SIDE}x{SIDE}, aspect not kept; area when shrinking, bilinear when growing",
    "colour": "RGB, (x - 127) / 128",
    "frames": "each by itself; the mean over a snippet's frames",
}
"""Deviation from the published preprocessing (the middle 87.5 %, bicubic), as for i3d: the border must be seen."""


def prepared(pixels: np.ndarray) -> np.ndarray:
    """Uint8 (T, H, W, 3) -> uint8 (T, 224, 224, 3)."""
    return squashed(pixels, SIDE, SIDE)


def ten_crops(pixels: np.ndarray) -> np.ndarray:
    """Uint8 (10, T, 224, 224, 3): crops of the whole picture at 256x340."""
    return ten(squashed(pixels, 256, 340), SIDE)


class FrameMean(nn.Module):
    """The mean features of a clip's frames."""

    def __init__(self, net: EfficientNetLite0) -> None:
        super().__init__()
        self.net = net

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 1280)."""
        frames = clips.transpose(1, 2)  # (B, T, 3, H, W)
        features = self.net.features(frames.flatten(0, 1))
        return features.reshape(*frames.shape[:2], DIM).mean(dim=1)


BACKBONE = Backbone(
    name=EFFICIENTNET_LITE0.name, dim=DIM, analysis_height=SIDE, preprocessing=PREPROCESSING,
    prepared=prepared, ten_crops=ten_crops, scaled=lambda clips: (clips - 127) / 128,
    any_length=True,
)  # fmt: skip


def load_network(home: Path | None = None) -> tuple[EfficientNetLite0, str]:
    """The network with its classifier, and the hash of its weights. Raises WeightsError."""
    state, sha256 = load_weights(BACKBONE.name, home or default_home(os.environ), os.environ)
    net = EfficientNetLite0()
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{BACKBONE.name}: weights of another network ({str(error)[:200]})") from error
    return net.eval(), sha256


def build(
    name: str = EFFICIENTNET_LITE0.name, device: str = "cpu", precision: str = "fp32", home: Path | None = None
) -> ClipExtractor:
    """The extractor with the weights installed under `home`. Raises WeightsError with the remedy if there are none."""
    usable(device, precision)
    net, sha256 = load_network(home)
    return ClipExtractor(BACKBONE, FrameMean(net), sha256, device, precision)
