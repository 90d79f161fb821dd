"""R3D-18 and R(2+1)D-18 features (Tran et al., CVPR 2018), torchvision's: 512 numbers after the last pooling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torchvision.models.video import r2plus1d_18, r3d_18

from stages.features.clips import ClipExtractor
from stages.features.kinetics import Kinetics, build_kinetics

R3D_18 = Kinetics(
    name="r3d_18", dim=512, resize=(128, 171), crop=112, clip_frames=16, takes_more=True,
    mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989),
)  # fmt: skip
"""Trained on 16 frames at 15 per second; any number of frames is averaged over time."""
R2PLUS1D_18 = replace(R3D_18, name="r2plus1d_18")


def build(
    name: str = "r3d_18", device: str = "cpu", precision: str = "fp32", home: Path | None = None
) -> ClipExtractor:
    """The extractor with the weights installed under `home`. Raises WeightsError with the remedy if there are none."""
    about, make = {"r3d_18": (R3D_18, r3d_18), "r2plus1d_18": (R2PLUS1D_18, r2plus1d_18)}[name]
    return build_kinetics(about, make, "fc", device, precision, home)
