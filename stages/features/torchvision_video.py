"""torchvision's video networks as extractors: a table of what differs, and their published preprocessing.

Pictures are resized without smoothing and the middle is cropped, as the networks were trained and as torchvision's own
`transforms` do to the last bit of every pixel. What happens outside the crop is not seen. Features are what the
network feeds to its classifier.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn
from torchvision.models import video

from stages.errors import WeightsError
from stages.features.clips import Backbone, ClipExtractor, standardised, usable
from stages.features.pictures import at_least, bilinear, centre, exactly, short_side, ten
from stages.weights.store import default_home, load_weights

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoNetwork:
    """One network of torchvision's as an extractor."""

    name: str
    make: Callable[[], nn.Module]
    head: str
    """The layer that is left out."""
    dim: int
    resize: int | tuple[int, int]
    """The shorter side, aspect kept; or (height, width), aspect not kept."""
    crop: int
    mean: Colour
    std: Colour
    clip_frames: int = 16
    """Fewer are made up by repeating the last."""
    takes_more: bool = True
    """False: of more frames, `clip_frames` are picked evenly, because the network knows no other length."""

    @property
    def analysis_height(self) -> int:
        return self.resize if isinstance(self.resize, int) else self.resize[0]

    def preprocessing(self) -> dict[str, object]:
        """In words and numbers, for the id."""
        size = f"shorter side to {self.resize}" if isinstance(self.resize, int) else "to {}x{}".format(*self.resize)
        longer = "as they come" if self.takes_more else f"more than {self.clip_frames} are thinned out evenly"
        return {
            "version": 1,
            "picture": f"{size}, bilinear without smoothing, 8 bits; then the middle {self.crop}x{self.crop}",
            "colour": f"RGB in [0, 1], minus {self.mean}, by {self.std}",
            "frames": f"{longer}; fewer than {self.clip_frames} are made up by repeating the last",
        }

    def backbone(self) -> Backbone:
        """For the stage that runs it."""
        return Backbone(
            name=self.name, dim=self.dim, analysis_height=self.analysis_height, preprocessing=self.preprocessing(),
            prepared=lambda pixels: centre(self._resized(pixels), self.crop),
            ten_crops=lambda pixels: ten(self._resized(pixels), self.crop),
            scaled=standardised(self.mean, self.std),
        )  # fmt: skip

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        pixels = at_least(pixels, self.clip_frames) if self.takes_more else exactly(pixels, self.clip_frames)
        if isinstance(self.resize, int):
            return short_side(pixels, self.resize)
        return bilinear(pixels, *self.resize)


R3D_18 = VideoNetwork(
    name="r3d_18", make=video.r3d_18, head="fc", dim=512, resize=(128, 171), crop=112,
    mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989),
)  # fmt: skip
"""Tran et al., CVPR 2018, as the next: 512 numbers after the last pooling. Trained on 16 frames at 15 per second; any
number of frames is averaged over time."""
R2PLUS1D_18 = replace(R3D_18, name="r2plus1d_18", make=video.r2plus1d_18)
S3D = VideoNetwork(
    name="s3d", make=video.s3d, head="classifier", dim=1024, resize=(256, 256), crop=224,
    mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989),
)  # fmt: skip
"""Xie et al., ECCV 2018: the 1024 numbers that the logits are linear in. Evaluated by its authors on 128 frames at 15
per second; it needs 14, and averages any number over time."""
MVIT_V2_S = VideoNetwork(
    name="mvit_v2_s", make=video.mvit_v2_s, head="head", dim=768, resize=256, crop=224, takes_more=False,
    mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225),
)  # fmt: skip
"""Li et al., CVPR 2022: the class token's 768 numbers. Trained on 16 frames at 7.5 per second; its positions are those
of 16 frames, no more and no fewer."""
SWIN3D_T = VideoNetwork(
    name="swin3d_t", make=video.swin3d_t, head="head", dim=768, resize=256, crop=224,
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
)  # fmt: skip
"""Liu et al., CVPR 2022: 768 numbers after the last pooling. Its published accuracy is with 32 frames at 15 per
second: set `decode.snippet_frames: 32` for those.

Any number works, because its attention looks at windows of 16 frames: a snippet of 16 fills one of them exactly, and
is given as it comes (repeating frames to make 32 would cost twice as much and halve all speeds).
"""
NETWORKS = {network.name: network for network in (R3D_18, R2PLUS1D_18, S3D, MVIT_V2_S, SWIN3D_T)}


def build(name: str, device: str = "cpu", precision: str = "fp32", home: Path | None = None) -> ClipExtractor:
    """The extractor with the weights installed under `home`.

    Raises WeightsError with the remedy if they are not installed, or are of another network.
    """
    about = NETWORKS[name]
    usable(device, precision)
    state, sha256 = load_weights(name, home or default_home(os.environ), os.environ)
    network = about.make()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"the weights of {name!r} do not fit this torchvision's {name} ({reason[:200]})") from error
    setattr(network, about.head, nn.Identity())
    return ClipExtractor(about.backbone(), network, sha256, device, precision)
