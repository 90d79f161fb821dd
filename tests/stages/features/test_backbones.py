"""torchvision's video networks as extractors: their own preprocessing, their own numbers. About 15 s.

Weights are random, since the published ones cannot be fetched everywhere. Where a network would take seconds, it is
given fewer frames, smaller pictures or, for the transformers, fewer layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from makers_video import write_video
from torch import nn
from torchvision.models import video
from torchvision.models.video.mvit import MSBlockConfig
from torchvision.transforms._presets import VideoClassification

from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import expand
from stages.errors import ConfigError, WeightsError
from stages.features import torchvision_video
from stages.features.clips import ClipExtractor
from stages.features.extract_files import clip_features
from stages.features.pictures import exactly
from stages.features.registry import EXTRACTORS, build_extractor
from stages.features.torchvision_video import MVIT_V2_S, R2PLUS1D_18, R3D_18, S3D, SWIN3D_T, VideoNetwork
from stages.messages import Snippet


@dataclass(frozen=True)
class Case:
    """A network, as published and made small enough for a test."""

    about: VideoNetwork
    published: VideoClassification
    small: VideoNetwork
    make_small: Callable[[], nn.Module]


def small_mvit() -> nn.Module:
    blocks = [
        MSBlockConfig(1, 96, 96, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 4, 4]),
        MSBlockConfig(2, 96, 768, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2]),
    ]
    return video.MViT(
        (64, 64), 4, blocks, residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True,
        proj_after_attn=True,
    )  # fmt: skip


def small_swin() -> nn.Module:
    return video.SwinTransformer3d([2, 4, 4], 96, [1, 1, 1, 1], [3, 6, 12, 24], [8, 7, 7])


CASES = [
    Case(R3D_18, video.R3D_18_Weights.KINETICS400_V1.transforms(),
         replace(R3D_18, clip_frames=4, resize=73, crop=64), video.r3d_18),
    Case(R2PLUS1D_18, video.R2Plus1D_18_Weights.KINETICS400_V1.transforms(),
         replace(R2PLUS1D_18, clip_frames=4, resize=73, crop=64), video.r2plus1d_18),
    Case(S3D, video.S3D_Weights.KINETICS400_V1.transforms(), S3D, video.s3d),
    Case(MVIT_V2_S, video.MViT_V2_S_Weights.KINETICS400_V1.transforms(),
         replace(MVIT_V2_S, clip_frames=4, resize=73, crop=64), small_mvit),
    Case(SWIN3D_T, video.Swin3D_T_Weights.KINETICS400_V1.transforms(),
         replace(SWIN3D_T, clip_frames=4, resize=73, crop=64), small_swin),
]  # fmt: skip
each_network = pytest.mark.parametrize("case", CASES, ids=lambda case: case.about.name)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def pixels(seed: int, frames: int = 4, height: int = 150, width: int = 260) -> np.ndarray:
    """Blocks of colour that differ from frame to frame."""
    coarse = np.random.RandomState(seed).randint(0, 256, (frames, -(-height // 9), -(-width // 9), 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(9, axis=1).repeat(9, axis=2)[:, :height, :width])


def snippet(seed: int, frames: int = 4, height: int = 150, width: int = 260) -> Snippet:
    return Snippet(
        camera=f"cam{seed}", run_ms=5, seq=seed, first_frame=0, times_s=np.arange(frames) / 25,
        picked=np.arange(frames, dtype=np.int32), pixels=pixels(seed, frames, height, width),
    )  # fmt: skip


def channels_first(clip: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(clip).permute(0, 3, 1, 2)


def small_extractor(case: Case) -> ClipExtractor:
    network = seeded(case.make_small)
    setattr(network, case.about.head, nn.Identity())
    return ClipExtractor(case.small.backbone(), network, "made")


def vectors(extractor: ClipExtractor, *snippets: Snippet) -> np.ndarray:
    return np.stack([outputs[0].values for outputs, _ in extractor.process([(s, {}) for s in snippets])])


def distance(got: np.ndarray, expected: np.ndarray) -> float:
    """Relative to the second."""
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@each_network
@pytest.mark.parametrize(("height", "width"), [(240, 427), (150, 133), (128, 171), (256, 256), (99, 100), (300, 227)])
def test_a_picture_becomes_what_torchvision_makes_of_it(case: Case, height: int, width: int) -> None:
    clip = pixels(1, 2, height, width)
    backbone = replace(case.about, clip_frames=2).backbone()
    ours = backbone.scaled(torch.from_numpy(backbone.prepared(clip))[None].permute(0, 4, 1, 2, 3).float())
    assert torch.equal(ours[0], case.published(channels_first(clip)))


@each_network
def test_features_are_what_torchvision_feeds_to_its_classifier(case: Case) -> None:
    network = seeded(case.make_small)
    seen: list[torch.Tensor] = []
    getattr(network, case.about.head).register_forward_hook(lambda _module, given, _got: seen.append(given[0]))
    transform = VideoClassification(
        crop_size=(case.small.crop,) * 2, resize_size=case.published.resize_size if case.small.crop > 64 else [73],
        mean=case.published.mean, std=case.published.std,
    )  # fmt: skip
    frames = case.small.clip_frames
    with torch.inference_mode():
        network(transform(channels_first(pixels(1, frames)))[None])
    expected = seen[0][0].flatten(1).mean(1) if seen[0].dim() == 5 else seen[0][0]
    [got] = vectors(small_extractor(case), snippet(1, frames))
    assert got.shape == (case.about.dim,)
    assert distance(got, expected.numpy()) < 1e-4


@each_network
def test_a_result_does_not_depend_on_its_neighbours(case: Case) -> None:
    extractor = small_extractor(case)
    frames = case.small.clip_frames
    together = vectors(extractor, *(snippet(seed, frames) for seed in range(2)))
    alone = vectors(extractor, snippet(1, frames))
    assert distance(together[1], alone[0]) < 1e-5
    assert distance(together[0], alone[0]) > 1e-3


def test_one_and_eight_at_once_give_the_same() -> None:
    extractor = small_extractor(CASES[0])
    snippets = [snippet(seed, frames=4 + seed % 2, height=100 + seed) for seed in range(9)]
    together = vectors(extractor, *snippets)
    for i in (0, 5, 8):
        assert distance(together[i], vectors(extractor, snippets[i])[0]) < 1e-5
    assert vectors(extractor, snippets[0]).tobytes() == vectors(extractor, snippets[0]).tobytes()


def test_live_equals_offline(tmp_path: Path) -> None:
    extractor = small_extractor(CASES[0])
    (source,) = expand([str(write_video(tmp_path / "clip.mp4", 20))])
    settings = DecodeSettings(height=48, snippet_frames=8)
    offline = np.stack([f.values for f in clip_features(source, extractor, settings)])
    messages = read_messages(source, settings, 0, lambda: 0.0)
    live = vectors(extractor, *(m for m in messages if isinstance(m, Snippet)))
    assert offline.shape == (3, 512)
    assert distance(live, offline) < 1e-5


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 32, 100])
def test_a_network_of_one_length_gets_frames_spread_from_first_to_last(frames: int) -> None:
    taken = exactly(np.arange(frames), 16)
    expected = (
        torch.linspace(0, frames - 1, 16).long().numpy() if frames > 16 else np.minimum(np.arange(16), frames - 1)
    )
    assert taken.tolist() == expected.tolist()


def test_a_longer_snippet_is_thinned_for_mvit_and_taken_whole_by_the_others() -> None:
    lengths = {case.about.name: len(case.about.backbone().prepared(pixels(0, 40, 64, 64))) for case in CASES}
    assert lengths == {"r3d_18": 40, "r2plus1d_18": 40, "s3d": 40, "mvit_v2_s": 16, "swin3d_t": 40}
    assert {len(case.about.backbone().prepared(pixels(0, 3, 64, 64))) for case in CASES} == {16}


@each_network
def test_the_registry_builds_it_from_published_names(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        shapes = case.about.make().state_dict()
    state = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in shapes.items()}
    monkeypatch.setattr(torchvision_video, "load_weights", lambda name, *_: (state, f"hash of {name}"))
    extractor = build_extractor(case.about.name)
    assert (extractor.name, extractor.dim, extractor.sparse) == (case.about.name, case.about.dim, False)
    assert extractor.analysis_height == EXTRACTORS.get(extractor.name).analysis_height
    assert extractor.id == ClipExtractor(case.about.backbone(), nn.Identity(), f"hash of {extractor.name}").id
    del state[next(iter(state))]
    with pytest.raises(WeightsError, match=f"do not fit this torchvision's {extractor.name} .*Missing key"):
        build_extractor(case.about.name)


def test_the_id_changes_with_weights_and_preprocessing_and_not_with_precision() -> None:
    def extractor(about: VideoNetwork, sha256: str, precision: str = "fp32") -> str:
        return ClipExtractor(about.backbone(), nn.Identity(), sha256, precision=precision).id

    first = extractor(R3D_18, "a")
    assert extractor(R3D_18, "a", "bf16") == first
    changed = [replace(R3D_18, crop=111), replace(R3D_18, clip_frames=8), replace(R3D_18, mean=(0.0, 0.0, 0.0))]
    assert len({first, extractor(R3D_18, "b"), *(extractor(about, "a") for about in changed)}) == 5


def test_bf16_differs_within_a_bound() -> None:
    network = seeded(CASES[0].make_small)
    network.fc = nn.Identity()
    exact, short = (
        vectors(ClipExtractor(CASES[0].small.backbone(), network, "made", precision=precision), snippet(1))[0]
        for precision in ("fp32", "bf16")
    )
    assert short.dtype == np.float32
    assert 1e-5 < distance(short, exact) < 0.03


@pytest.mark.parametrize(
    ("precision", "message"),
    [("fp8", "unknown precision 'fp8'; known: fp32, bf16, fp16"), ("fp16", "fp16 is for GPUs")],
)
def test_a_precision_that_is_not_there_is_refused(precision: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_extractor("r3d_18", "cpu", precision)
