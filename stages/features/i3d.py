"""I3D features: one vector of 1024 numbers that says what moves, and how, in the whole picture of a snippet."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from stages.features.clips import Backbone, ClipExtractor, usable
from stages.features.kinds import I3D as KIND
from stages.features.nets.i3d_net import DIM, I3D, i3d_from_arrays
from stages.features.pictures import at_least, squashed, ten
from stages.weights.store import default_home, load_weights

SIDE = KIND.analysis_height
MIN_FRAMES = 16

PREPROCESSING = {
    "version": 1,
    "picture": f"the whole picture to {SIDE}x{SIDE}, aspect not kept; area when shrinking, bilinear when growing",
    "colour": "RGB in [-1, 1]",
    "frames": f"as they come; fewer than {MIN_FRAMES} are made up by repeating the last",
}
"""What is done to pixels before the network. Change it with its version: it is part of the extractor's id.

Deviation from the paper, which crops the middle 224 of 256: what happens at the border of a camera's
view must be seen too. Measured on 132 fight clips (two snippets each, logistic regression, 5 folds by
source video, mean of 5 shuffles, roughly +-0.02): clip AUC 0.845 so, 0.830 with the paper's crop.
"""


def prepared(pixels: np.ndarray) -> np.ndarray:
    """Uint8 (T, H, W, 3) as the network wants it: uint8 (max(T, 16), 224, 224, 3). See PREPROCESSING."""
    return at_least(squashed(pixels, SIDE, SIDE), MIN_FRAMES)


def ten_crops(pixels: np.ndarray) -> np.ndarray:
    """Uint8 (10, max(T, 16), 224, 224, 3): crops of the whole picture at 256x340, as published features have them."""
    return ten(at_least(squashed(pixels, 256, 340), MIN_FRAMES), SIDE)


class Penultimate(nn.Module):
    """I3D without its classifier."""

    def __init__(self, net: I3D) -> None:
        super().__init__()
        self.net = net

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.net(clips)[0]
        return features


BACKBONE = Backbone(
    name=KIND.name, dim=DIM, analysis_height=SIDE, preprocessing=PREPROCESSING, prepared=prepared, ten_crops=ten_crops,
    scaled=lambda clips: clips / 127.5 - 1,
)  # fmt: skip


def i3d_extractor(net: I3D, weights_sha256: str, device: str = "cpu", precision: str = "fp32") -> ClipExtractor:
    """The extractor around a loaded network."""
    return ClipExtractor(BACKBONE, Penultimate(net), weights_sha256, device, precision)


def build(
    name: str = KIND.name, device: str = "cpu", precision: str = "fp32", home: Path | None = None
) -> ClipExtractor:
    """The extractor with the weights installed under `home`. Raises WeightsError with the remedy if there are none."""
    usable(device, precision)
    arrays, sha256 = load_weights(name, home or default_home(os.environ), os.environ)
    return i3d_extractor(i3d_from_arrays(arrays), sha256, device, precision)
