"""How predicted frames are judged: by place, so that what is normal near the camera is not so far away. Seconds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from frame_makers import FORM, SQUARES, cut, moving, place_scorer, seeded_checkpoint, snippet, streamed

from stages.errors import CheckpointError
from stages.files.checkpoint import load_checkpoint, save_checkpoint
from stages.temporal.future_frame.conv_transformer import ConvTransformer, ConvTransformerConfig
from stages.temporal.future_frame.format import to_unit
from stages.temporal.future_frame.scorer import PlaceScorer, Squares, place_sums_of
from stages.temporal.future_frame.stage import PLACE_SUMS
from stages.temporal.future_frame.unet import UNet, UNetConfig, psnr
from stages.temporal.registry import build_model

NETWORKS = [(UNet, UNetConfig(channels=1, widths=(4, 6, 8))), (ConvTransformer, ConvTransformerConfig(
    channels=1, widths=(4, 6, 8), heads=2, head_width=3))]  # fmt: skip
BOTH = pytest.mark.parametrize("network", NETWORKS, ids=["unet", "conv_transformer"])


def stage_of(network=NETWORKS[0], scorer=None):
    return build_model("future_frame", "ff", seeded_checkpoint(*network, scorer=scorer or place_scorer()))


def frames(*pictures):
    """(T, 1, 16, 24) in [-1, 1]."""
    return torch.stack([torch.as_tensor(p, dtype=torch.float32) for p in pictures])[:, None]


def test_a_square_error_is_that_squares_psnr_and_nothing_happens_where_nothing_changes():
    rng = np.random.default_rng(0)
    before, real, predicted = rng.uniform(-1, 1, (3, 16, 24))
    before[:, 12:] = real[:, 12:]
    errors = SQUARES.errors(frames(predicted), frames(real), frames(before))[0]
    assert errors.shape == SQUARES.grid(16, 24) == (7, 11)
    assert errors[1, 2] == pytest.approx(-psnr(frames(predicted[2:6, 4:8]), frames(real[2:6, 4:8])).item(), rel=1e-5)
    assert torch.isneginf(errors[:, 6:]).all()
    assert torch.isfinite(errors[:, :6]).all()


def test_the_same_error_is_odd_only_where_it_is_not_normal():
    scorer = place_scorer()
    far, near = (np.full((9, 7, 11), -np.inf, np.float32) for _ in range(2))
    far[:, 1, 2:8] = near[:, 6, 2:8] = -6.5
    times_s = np.arange(9) / 10
    assert scorer.scores(far, times_s, {})[0][-1] > scorer.scores(near, times_s, {})[0][-1] + 0.1
    still = scorer.scores(np.full((9, 7, 11), -np.inf, np.float32), times_s, {})[0]
    np.testing.assert_allclose(still, -1)


def test_what_is_normal_where_is_learned_from_what_moves():
    rng = np.random.default_rng(1)
    maps = rng.normal(-10, 1, (400, 7, 11)).astype(np.float32)
    maps[:, 4:] += 6
    maps[rng.random(maps.shape) < 0.3] = -np.inf
    sums = place_sums_of([maps[:150], maps[150:]])
    np.testing.assert_allclose(sums, place_sums_of([maps]), rtol=1e-12)
    assert sums[0].sum() == np.isfinite(maps).sum()
    scorer = PlaceScorer(SQUARES, sums)
    at = np.arange(30) / 10
    top, bottom = (np.full((30, 7, 11), -np.inf, np.float32) for _ in range(2))
    top[:, 0], bottom[:, 6] = -6, -6
    assert scorer.scores(top, at, {})[0][-1] > scorer.scores(bottom, at, {})[0][-1]


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_any_cutting_into_snippets_gives_the_same_scores(network, seed):
    pixels = moving(40, seed)
    stage = stage_of(network)
    whole = streamed(stage, pixels, [pixels])
    assert np.ptp(whole[4:]) > 0.01
    pieces = list(cut(pixels, np.random.default_rng(seed), 7))
    np.testing.assert_allclose(streamed(stage, pixels, pieces)[4:], whole[4:], rtol=1e-5)


@BOTH
def test_a_later_frame_never_changes_an_earlier_score(network):
    pixels, stage = moving(24), stage_of(network)
    changed = pixels.copy()
    changed[12:, :, :24] = 255 - changed[12:, :, :24]
    before, after = (streamed(stage, p, [p]) for p in (pixels, changed))
    np.testing.assert_array_equal(after[:12], before[:12])
    assert after[12] != before[12]


@BOTH
def test_what_is_remembered_does_not_grow(network):
    stage, state, sizes = stage_of(network), {}, []
    for seq, pixels in enumerate(np.split(moving(60), 6)):
        for array in state.values():
            array.setflags(write=False)
        [(_, state)] = stage.process([(snippet(pixels, seq=seq, first_frame=20 * seq), state)])
        sizes.append(sum(np.asarray(array).nbytes for array in state.values()))
    assert sizes[-1] == sizes[0]
    assert state["map"].shape == (7, 11)


def test_a_checkpoint_keeps_what_is_normal_where(tmp_path):
    made = seeded_checkpoint(*NETWORKS[0], scorer=place_scorer())
    save_checkpoint(tmp_path / "a.ckpt", made)
    loaded = load_checkpoint(tmp_path / "a.ckpt")
    assert loaded.meta["score"] == {"by": "place", "window_px": 4, "stride_px": 2, "least_change": 2e-4}
    pixels = moving(12)
    one, two = (streamed(build_model("future_frame", "ff", c), pixels, [pixels]) for c in (made, loaded))
    np.testing.assert_array_equal(one, two)


def test_a_checkpoint_of_the_first_version_scores_as_it_did():
    made = seeded_checkpoint(*NETWORKS[0])
    made.meta["score"] = {"patch_px": 5}
    pixels = moving(12)
    images, net = to_unit(FORM.frames(pixels)), NETWORKS[0][0](NETWORKS[0][1])
    net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in made.arrays.items()})
    with torch.no_grad():
        expected = -psnr(net.eval()(images[4:8].flatten(0, 1)[None]), images[8:9], 5).item()
    assert streamed(build_model("future_frame", "ff", made), pixels, [pixels])[8] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda c: c.arrays.pop(PLACE_SUMS), PLACE_SUMS, id="no ground"),
        pytest.param(
            lambda c: c.arrays.update({PLACE_SUMS: c.arrays[PLACE_SUMS][:, 1:]}), r"finite \(3, 7, 11\)", id="shape"
        ),
        pytest.param(
            lambda c: c.arrays.update({PLACE_SUMS: c.arrays[PLACE_SUMS] * np.nan}), "finite", id="not a number"
        ),
        pytest.param(lambda c: c.meta["score"].update(window_px=99), "window_px must be at most 16", id="window"),
        pytest.param(lambda c: c.meta["score"].update(stride_px=0), "1 <= stride_px", id="stride"),
        pytest.param(lambda c: c.meta["score"].update(by="ear"), "not by 'ear'", id="by"),
    ],
)
def test_a_checkpoint_that_does_not_fit_together_is_refused(damage, message):
    checkpoint = seeded_checkpoint(*NETWORKS[0], scorer=place_scorer())
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        build_model("future_frame", "ff", checkpoint)


def test_squares_keep_their_share_of_the_picture():
    assert Squares.of_height(128) == replace(Squares.of_height(128), window_px=16, stride_px=5)
    assert Squares.of_height(256).window_px == 32
    assert Squares.of_height(4).window_px == 1
