"""S3D features (Xie et al., ECCV 2018), torchvision's: the 1024 numbers that the logits are linear in."""

from __future__ import annotations

from pathlib import Path

from torchvision.models.video import s3d

from stages.features.clips import ClipExtractor
from stages.features.kinetics import Kinetics, build_kinetics

S3D = Kinetics(
    name="s3d", dim=1024, resize=(256, 256), crop=224, clip_frames=16, takes_more=True,
    mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989),
)  # fmt: skip
"""Evaluated by its authors on 128 frames at 15 per second; it needs 14, and averages any number over time."""


def build(name: str = "s3d", device: str = "cpu", precision: str = "fp32", home: Path | None = None) -> ClipExtractor:
    """The extractor with the weights installed under `home`. Raises WeightsError with the remedy if there are none."""
    return build_kinetics(S3D, s3d, "classifier", device, precision, home)
