"""MViTv2-S features (Li et al., CVPR 2022), torchvision's: the class token's 768 numbers."""

from __future__ import annotations

from pathlib import Path

from torchvision.models.video import mvit_v2_s

from stages.features.clips import ClipExtractor
from stages.features.kinetics import Kinetics, build_kinetics

MVIT_V2_S = Kinetics(
    name="mvit_v2_s", dim=768, resize=256, crop=224, clip_frames=16, takes_more=False,
    mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225),
)  # fmt: skip
"""Trained on 16 frames at 7.5 per second; its positions are those of 16 frames, no more and no fewer."""


def build(
    name: str = "mvit_v2_s", device: str = "cpu", precision: str = "fp32", home: Path | None = None
) -> ClipExtractor:
    """The extractor with the weights installed under `home`. Raises WeightsError with the remedy if there are none."""
    return build_kinetics(MVIT_V2_S, mvit_v2_s, "head", device, precision, home)
