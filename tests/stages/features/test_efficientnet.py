"""EfficientNet-Lite0 is the published network, and sees what is in a picture. About 5 s."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import EfficientNet_B0_Weights

from stages.errors import WeightsError
from stages.features import efficientnet
from stages.features.clips import ClipExtractor
from stages.features.efficientnet import BACKBONE, FrameMean, build, load_network, prepared
from stages.features.nets.efficientnet_lite0 import DIM, EfficientNetLite0
from stages.messages import Snippet
from stages.weights.store import default_home

STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}


def by_the_book(state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits of (B, 3, H, W), from the tensors alone: the paper's table, TensorFlow's 'SAME' padding."""

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        kernel = state[f"{name}.weight"]
        total = [max((-(-size // stride) - 1) * stride + kernel.shape[-1] - size, 0) for size in x.shape[2:]]
        pads = [half for t in reversed(total) for half in (t // 2, t - t // 2)]
        return F.conv2d(F.pad(x, pads), kernel, None, stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * weight + bias

    x = norm(conv(x, "_conv_stem", 2), "_bn0").clamp(0, 6)
    for i in range(16):
        block, wide, stride = f"_blocks.{i}", x, STRIDES.get(i, 1)
        if i:
            wide = norm(conv(wide, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
        wide = norm(conv(wide, f"{block}._depthwise_conv", stride, wide.shape[1]), f"{block}._bn1").clamp(0, 6)
        narrow = norm(conv(wide, f"{block}._project_conv"), f"{block}._bn2")
        x = x + narrow if narrow.shape == x.shape else narrow
    features = norm(conv(x, "_conv_head"), "_bn1").clamp(0, 6).mean((2, 3))
    return features, features @ state["_fc.weight"].T + state["_fc.bias"]


def made() -> EfficientNetLite0:
    """With random weights and norms of lively channels."""
    torch.manual_seed(0)
    net = EfficientNetLite0().eval()
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.1, 0.3)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return net


def published() -> EfficientNetLite0:
    try:
        return load_network()[0]
    except WeightsError as error:
        pytest.skip(str(error))


def agrees(net: EfficientNetLite0, size: tuple[int, int]) -> None:
    pictures = torch.from_numpy(np.random.RandomState(1).uniform(-1, 1, (2, 3, *size)).astype(np.float32))
    with torch.inference_mode():
        features, logits = by_the_book(net.state_dict(), pictures)
        for got, expected in ((net.features(pictures), features), (net(pictures), logits)):
            assert torch.linalg.norm(got - expected) < 1e-4 * torch.linalg.norm(expected)
    assert not torch.allclose(features[0], features[1], rtol=1e-2)


@pytest.mark.parametrize("size", [(224, 224), (75, 101)], ids=["its size", "a size that pads unevenly"])
def test_the_network_computes_what_the_paper_says(size: tuple[int, int]) -> None:
    agrees(made(), size)


def test_the_published_weights_fit_and_compute_what_the_paper_says() -> None:
    agrees(published(), (224, 224))


def test_the_published_network_knows_a_daisy() -> None:
    net = published()
    clip = prepared(np.ascontiguousarray(load_sample_image("flower.jpg"))[None])
    with torch.inference_mode():
        logits = net(BACKBONE.scaled(torch.from_numpy(clip).permute(0, 3, 1, 2).float()))[0]
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    # Wrong padding or colours make a mushroom, or a honeycomb.
    assert names[int(logits.argmax())] == "daisy"


def snippet(frames: int, seed: int = 0) -> Snippet:
    coarse = np.random.RandomState(seed).randint(0, 256, (frames, 9, 13, 3), np.uint8)
    return Snippet(
        camera="a", run_ms=5, seq=1, first_frame=0, times_s=np.arange(frames) / 25,
        picked=np.arange(frames, dtype=np.int32), pixels=coarse.repeat(9, axis=1).repeat(9, axis=2),
    )  # fmt: skip


def vector(extractor: ClipExtractor, one: Snippet) -> np.ndarray:
    [([features], _)] = extractor.process([(one, {})])
    return features.values


def test_a_snippet_is_the_mean_of_its_frames() -> None:
    extractor, one = ClipExtractor(BACKBONE, FrameMean(made()), "made"), snippet(3)
    with torch.inference_mode():
        frames = np.stack([cv2.resize(frame, (224, 224), interpolation=cv2.INTER_LINEAR) for frame in one.pixels])
        scaled = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - 127) / 128
        expected = by_the_book(made().state_dict(), scaled)[0].mean(0).numpy()
    got = vector(extractor, one)
    assert got.shape == (DIM,)
    assert np.linalg.norm(got - expected) < 1e-4 * np.linalg.norm(expected)


def test_weights_of_another_network_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(efficientnet, "load_weights", lambda *_: ({"a": torch.zeros(1)}, "hash"))
    with pytest.raises(WeightsError, match="efficientnet_lite0: weights of another network"):
        build(home=tmp_path)


def test_bf16_differs_within_a_bound_with_published_weights() -> None:
    published()
    one = snippet(2)
    exact, short = (vector(build(precision=p, home=default_home(os.environ)), one) for p in ("fp32", "bf16"))
    assert 1e-4 < np.linalg.norm(short - exact) / np.linalg.norm(exact) < 0.15
