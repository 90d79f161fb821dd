"""What torchvision's video networks have in common: their published preprocessing, and features before the classifier.

Pictures are resized without smoothing and the middle is cropped, as the networks were trained and as
torchvision's own `transforms` do to the last bit of every pixel. What happens outside the crop is not seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from stages.errors import WeightsError
from stages.features.clips import Backbone, ClipExtractor, standardised, usable
from stages.features.pictures import at_least, bilinear, centre, exactly, short_side, ten
from stages.weights.store import default_home, load_weights

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinetics:
    """One network of torchvision's as an extractor."""

    name: str
    dim: int
    resize: int | tuple[int, int]
    """The shorter side, aspect kept; or (height, width), aspect not kept."""
    crop: int
    mean: Colour
    std: Colour
    clip_frames: int
    """Fewer are made up by repeating the last."""
    takes_more: bool
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


def build_kinetics(
    about: Kinetics, make: Callable[[], nn.Module], head: str, device: str, precision: str, home: Path | None
) -> ClipExtractor:
    """The extractor with installed weights; `head` is the layer that is left out.

    Raises WeightsError with the remedy if they are not installed, or are of another network.
    """
    usable(device, precision)
    state, sha256 = load_weights(about.name, home or default_home(os.environ), os.environ)
    network = make()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(
            f"the weights of {about.name!r} do not fit this torchvision's {about.name} ({reason[:200]})"
        ) from error
    setattr(network, head, nn.Identity())
    return ClipExtractor(about.backbone(), network, sha256, device, precision)
