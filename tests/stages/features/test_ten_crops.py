"""Ten crops of a snippet, for the protocol of papers. About 5 s."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from makers_video import write_video
from means_extractor import Means
from torch import Tensor, nn

from stages.decode.read import DecodeSettings
from stages.decode.source import expand
from stages.errors import ConfigError
from stages.features import efficientnet, i3d
from stages.features.clips import Backbone, ClipExtractor
from stages.features.extract_files import clip_features, ten_crop_features
from stages.features.pictures import ten
from stages.features.torchvision_video import MVIT_V2_S, R3D_18, S3D

CROPPED = [about.backbone() for about in (R3D_18, S3D, MVIT_V2_S)]
WHOLE = [i3d.BACKBONE, efficientnet.BACKBONE]


def pixels(frames: int = 2, height: int = 90, width: int = 161) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (frames, height, width, 3), np.uint8)


def test_crops_are_the_corners_the_middle_and_their_mirror_images() -> None:
    whole = np.arange(5 * 7, dtype=np.uint8).reshape(1, 5, 7, 1).repeat(3, axis=3)
    crops = ten(whole, 3)[:, 0, :, :, 0]
    assert crops[:5, 0, 0].tolist() == [0, 4, 2 * 7, 2 * 7 + 4, 7 + 2]
    assert np.array_equal(crops[5:], crops[:5, :, ::-1])


@pytest.mark.parametrize("backbone", CROPPED + WHOLE, ids=lambda backbone: backbone.name)
def test_every_network_has_ten_of_its_own_size(backbone: Backbone) -> None:
    crops, usual = backbone.ten_crops(pixels()), backbone.prepared(pixels())
    assert crops.shape == (10, *usual.shape)
    assert crops.dtype == np.uint8
    if backbone in CROPPED:
        assert np.array_equal(crops[4], usual)


class MeanColour(nn.Module):
    """Of each quarter of the picture, in place of a network."""

    def forward(self, clips: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool3d(clips, (1, 2, 2)).flatten(1)


def test_a_file_gives_ten_vectors_per_snippet_of_which_the_fifth_is_the_usual(tmp_path: Path) -> None:
    about = Backbone(
        name="r3d_18", dim=12, analysis_height=48, preprocessing={}, prepared=CROPPED[0].prepared,
        ten_crops=CROPPED[0].ten_crops, scaled=lambda clips: clips / 255,
    )  # fmt: skip
    extractor = ClipExtractor(about, MeanColour(), "made")
    (source,) = expand([str(write_video(tmp_path / "clip.mp4", 40))])
    settings, told = DecodeSettings(height=48), []
    crops = ten_crop_features(source, extractor, settings, told.append)
    usual = np.stack([features.values for features in clip_features(source, extractor, settings)])
    assert crops.shape == (3, 10, 12)
    assert crops.dtype == np.float32
    np.testing.assert_allclose(crops[:, 4], usual, atol=1e-6)
    assert np.abs(crops[:, 0] - crops[:, 3]).max() > 0.01
    assert told[-1] == 40


def test_an_extractor_without_crops_is_refused(tmp_path: Path) -> None:
    (source,) = expand([str(write_video(tmp_path / "clip.mp4", 20))])
    with pytest.raises(ConfigError, match="means describes whole pictures only"):
        ten_crop_features(source, Means(), DecodeSettings(height=48))
