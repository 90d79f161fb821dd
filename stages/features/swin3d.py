"""Video Swin-T features (Liu et al., CVPR 2022), torchvision's: 768 numbers after the last pooling."""

from __future__ import annotations

from pathlib import Path

from torchvision.models.video import swin3d_t

from stages.features.clips import ClipExtractor
from stages.features.kinetics import Kinetics, build_kinetics

SWIN3D_T = Kinetics(
    name="swin3d_t", dim=768, resize=256, crop=224, clip_frames=16, takes_more=True,
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
)  # fmt: skip
"""Its published accuracy is with 32 frames at 15 per second: set `decode.snippet_frames: 32` for those.

Any number works, because its attention looks at windows of 16 frames: a snippet of 16 fills one of them
exactly, and is given as it comes (repeating frames to make 32 would cost twice as much and halve all speeds).
"""


def build(
    name: str = "swin3d_t", device: str = "cpu", precision: str = "fp32", home: Path | None = None
) -> ClipExtractor:
    """The extractor with the weights installed under `home`. Raises WeightsError with the remedy if there are none."""
    return build_kinetics(SWIN3D_T, swin3d_t, "head", device, precision, home)
