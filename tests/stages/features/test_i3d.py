"""I3D computes what the published network computes. The golden is by tests/data/make_i3d_golden.py. About 15 s."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from data.make_i3d_golden import GOLDEN, ODD, made_arrays, random_clip, scaled, street_clip
from places import shared

from stages.errors import ConfigError, WeightsError
from stages.features import i3d
from stages.features.clips import ClipExtractor
from stages.features.i3d import build, i3d_extractor, prepared
from stages.features.nets.i3d_net import i3d_from_arrays, same_padding
from stages.messages import Features, Snippet
from stages.weights.arrays import I3D
from stages.weights.store import default_home, install

HALF = "data/weights/i3d_rgb_k400_fp16.npz"


def snippet(seed: int, frames: int = 16, height: int = 48, width: int = 80) -> Snippet:
    """Noise that differs by seed."""
    return Snippet(
        camera=f"cam{seed}",
        run_ms=5,
        seq=seed,
        first_frame=16 * seed,
        times_s=np.arange(frames) / 25,
        picked=np.arange(frames, dtype=np.int32),
        pixels=np.random.RandomState(seed).randint(0, 256, (frames, height, width, 3), dtype=np.uint8),
    )


def values(extractor: ClipExtractor, *snippets: Snippet) -> np.ndarray:
    return np.stack([outputs[0].values for outputs, _ in extractor.process([(s, {}) for s in snippets])])


def distance(got: np.ndarray, expected: np.ndarray) -> float:
    """Of two vectors, relative to the second."""
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def made() -> dict[str, np.ndarray]:
    return made_arrays()


@pytest.fixture(scope="module")
def extractor(made: dict[str, np.ndarray]) -> ClipExtractor:
    return i3d_extractor(i3d_from_arrays(made), "made")


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        pytest.param(224, 7, 2, (2, 3), id="even size, stride 2: the odd cell goes to the end"),
        pytest.param(225, 7, 2, (3, 3), id="odd size, stride 2"),
        pytest.param(28, 3, 2, (0, 1), id="nothing before"),
        pytest.param(7, 3, 1, (1, 1), id="stride 1"),
        pytest.param(4, 2, 2, (0, 0), id="nothing at all"),
        pytest.param(1, 2, 2, (0, 1), id="a single cell"),
    ],
)
def test_padding_is_that_of_tensorflow(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected


def run(arrays: dict[str, np.ndarray], clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of one float clip (T, H, W, 3)."""
    with torch.inference_mode():
        features, logits = i3d_from_arrays(arrays)(torch.from_numpy(clip).permute(3, 0, 1, 2)[None])
    return features[0].numpy(), logits[0].numpy()


def agrees(golden: dict[str, np.ndarray], key: str, arrays: dict[str, np.ndarray], clip: np.ndarray, by: float) -> None:
    features, logits = run(arrays, clip)
    assert distance(features, golden[f"{key}/features"]) < by
    assert np.argsort(-logits)[:5].tolist() == golden[f"{key}/top5"].tolist()
    assert distance(logits[golden[f"{key}/top5"]], golden[f"{key}/top5_logits"]) < by


def test_made_weights_give_what_the_original_code_gives_at_an_odd_size(
    golden: dict[str, np.ndarray], made: dict[str, np.ndarray]
) -> None:
    agrees(golden, "made/odd", made, random_clip(*ODD), by=1e-4)


@pytest.fixture(scope="module")
def half() -> dict[str, np.ndarray]:
    with np.load(shared(HALF)) as arrays:
        return {name: array.astype(np.float32) for name, array in arrays.items()}


def test_kinetics_weights_give_what_the_original_code_gives(
    golden: dict[str, np.ndarray], half: dict[str, np.ndarray]
) -> None:
    agrees(golden, "half/random25", half, random_clip(25), by=1e-4)


def test_kernels_rounded_to_float16_cost_little(golden: dict[str, np.ndarray], half: dict[str, np.ndarray]) -> None:
    features, _ = run(half, random_clip(16))
    assert distance(features, golden["half/random16/features"]) < 1e-4
    # Measured: 0.0010 on this clip, 0.0009 on the street.
    assert 1e-4 < distance(features, golden["full/random16/features"]) < 3e-3


def test_bf16_differs_within_a_bound(half: dict[str, np.ndarray]) -> None:
    net = i3d_from_arrays(half)
    exact, short = (values(i3d_extractor(net, "half", precision=p), snippet(3))[0] for p in ("fp32", "bf16"))
    # Measured: 0.012 to 0.015 on fight clips, which are 0.52 or more from each other.
    assert 1e-3 < distance(short, exact) < 0.04


def test_a_street_gives_what_the_original_code_gives(
    golden: dict[str, np.ndarray], half: dict[str, np.ndarray]
) -> None:
    video = shared("data/videos/vtest.avi")
    agrees(golden, "half/street", half, scaled(street_clip(video)), by=1e-3)


def test_installed_weights_give_what_the_original_code_gives(golden: dict[str, np.ndarray]) -> None:
    home = default_home(os.environ)
    if not I3D.places(home, os.environ)[0].exists():
        pytest.skip("i3d is not installed here: oddwatch weights install i3d")
    pixels = np.rint((random_clip(16) + 1) * 127.5).astype(np.uint8)
    got = build(home=home).features(pixels[None])[0]
    # The clip is rounded to 8 bits here, and the installed kernels may be the rounded ones.
    assert distance(got, golden["full/random16/features"]) < 5e-3


def test_weights_installed_from_a_file_build_the_extractor(tmp_path: Path, half: dict[str, np.ndarray]) -> None:
    install("i3d", tmp_path, {}, from_file=shared(HALF))
    assert build(home=tmp_path).id == build(home=tmp_path).id


def test_without_weights_the_error_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="oddwatch weights install i3d"):
        build(home=tmp_path)


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="finds no GPU"):
        build(device="cuda", home=tmp_path)


def test_missing_and_misshapen_arrays_are_named(made: dict[str, np.ndarray]) -> None:
    name = "params|Mixed_4d|Branch_2/Conv3d_0b_3x3|Conv_0|kernel"
    with pytest.raises(WeightsError, match=r"lack the array .*Mixed_4d\|Branch_2"):
        i3d_from_arrays({key: array for key, array in made.items() if key != name})
    with pytest.raises(WeightsError, match=r"Mixed_4d.*must be \(3, 3, 3, 24, 64\), got \(3,\)"):
        i3d_from_arrays(made | {name: np.zeros(3, np.float32)})


@pytest.fixture(scope="module")
def alone(extractor: ClipExtractor) -> Features:
    """The features of `snippet(3)`, processed by itself."""
    [([features], state)] = extractor.process([(snippet(3), {})])
    assert state == {}
    return features


def test_a_clip_too_short_for_the_network_is_refused(made: dict[str, np.ndarray]) -> None:
    assert np.isfinite(run(made, random_clip(9, 32, 32))[0]).all()
    with pytest.raises(ValueError, match="at least 9 frames, got 8"):
        run(made, random_clip(8, 32, 32))


def test_features_keep_the_header_of_their_snippet(extractor: ClipExtractor, alone: Features) -> None:
    assert (alone.camera, alone.id, alone.first_frame) == ("cam3", "5-3", 48)
    assert alone.values.shape == (extractor.dim,)
    assert alone.extractor == extractor.id
    assert extractor.finish({}) == ([], {})


def test_a_result_does_not_depend_on_its_neighbours(extractor: ClipExtractor, alone: Features) -> None:
    neighbours = [snippet(0, frames=5, height=300, width=400), snippet(3), snippet(2, frames=17)]
    together = values(extractor, *neighbours)
    assert distance(together[1], alone.values) < 1e-4
    assert distance(together[2], values(extractor, neighbours[2])[0]) < 1e-4
    assert distance(together[0], together[1]) > 1e-2


def test_the_same_snippet_gives_the_same_bytes(extractor: ClipExtractor, alone: Features) -> None:
    assert values(extractor, snippet(3)).tobytes() == alone.values.tobytes()


@pytest.mark.parametrize("frames", [1, 15])
def test_a_short_snippet_is_made_up_by_its_last_frame(frames: int) -> None:
    clip = prepared(snippet(0, frames=frames).pixels)
    assert clip.shape == (16, 224, 224, 3)
    assert np.array_equal(clip[frames:], np.repeat(clip[frames - 1 : frames], 16 - frames, axis=0))


def test_the_border_of_the_picture_is_seen() -> None:
    pixels = np.zeros((16, 240, 426, 3), np.uint8)
    pixels[:, :, 420:] = 255
    assert prepared(pixels)[:, :, -2:].min() == 255


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    pixels = snippet(0, height=224, width=224).pixels
    assert np.array_equal(prepared(pixels), pixels)


def test_the_id_changes_with_weights_and_preprocessing(made: dict[str, np.ndarray], monkeypatch) -> None:
    net = i3d_from_arrays(made)
    ids = [i3d_extractor(net, "made").id, i3d_extractor(net, "made").id, i3d_extractor(net, "other").id]
    monkeypatch.setitem(i3d.PREPROCESSING, "version", 2)
    ids.append(i3d_extractor(net, "made").id)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
