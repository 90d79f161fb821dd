"""MIL ranking against the published code's numbers, and as a stage. A few seconds, most of them importing torch."""

import numpy as np
import pytest
import torch
from dense_makers import EXTRACTOR, checkpoint_of, features, relative_error, run_cameras, seed_weights
from places import DATA

from stages.errors import CheckpointError, ConfigError
from stages.files.checkpoint import load_checkpoint, save_checkpoint
from stages.messages import REFERENCE_LEVELS, Prior
from stages.temporal.registry import build_model
from stages.temporal.weak.mil import MIL, MILConfig, mil_loss

CONFIG = MILConfig(input_dim=6)


@pytest.fixture
def net():
    return seed_weights(MIL(CONFIG), 3).eval()


def test_scores_are_those_of_the_published_network():
    golden = np.load(DATA / "golden_mil_small.npz")
    net = MIL(MILConfig(input_dim=128)).eval()
    net.load_state_dict({key[3:]: torch.from_numpy(golden[key]) for key in golden.files if key.startswith("sd/")})
    assert relative_error(net(torch.from_numpy(golden["x"])), golden["scores"]) < 1e-6


@pytest.mark.parametrize("case", ["random", "separated", "const"])
def test_the_loss_and_its_gradients_are_the_published_ones(case):
    golden = {k.split("/")[1]: v for k, v in np.load(DATA / "golden_losses.npz").items() if k.startswith(f"mil_{case}")}
    abnormal, normal = (torch.from_numpy(golden[f"scores_{kind}"]).requires_grad_() for kind in ("abn", "nor"))
    loss = mil_loss(abnormal, normal)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(float(golden["sultani_original_loss"]))
    assert loss.hinge.item() == pytest.approx(float(golden["hinge_sum_abn_mean_nor"]))
    assert loss.sparsity.item() == pytest.approx(8e-5 * float(golden["sparsity_sum"]))
    assert loss.smoothness.item() == pytest.approx(8e-5 * float(golden["smooth_sum"]))
    assert relative_error(abnormal.grad, golden["sultani_original_grad_abn"]) < 1e-6
    assert relative_error(normal.grad, golden["sultani_original_grad_nor"]) < 1e-6


def test_the_loss_penalises_kernels_but_not_biases(net):
    scores = torch.full((2, 32), 0.5)
    squares = sum(float((w.detach() ** 2).sum()) for w in (net.fc1.weight, net.fc2.weight, net.fc3.weight))
    loss = mil_loss(scores, scores, net.kernels())
    assert loss.kernels.item() == pytest.approx(0.001 * squares, rel=1e-5)
    assert loss.total.item() == pytest.approx(mil_loss(scores, scores).total.item() + 0.001 * squares, rel=1e-5)
    loss.total.backward()
    assert net.fc1.bias.grad is None
    assert relative_error(net.fc2.weight.grad, 0.002 * net.fc2.weight.detach()) < 1e-5


def test_a_new_network_is_glorot_normal():
    torch.manual_seed(0)
    net = MIL(MILConfig(input_dim=1024))
    deviation = (2 / (1024 + 512)) ** 0.5
    assert net.fc1.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert net.fc1.weight.abs().max() > 3 * deviation  # not uniform
    assert all(not layer.bias.any() for layer in (net.fc1, net.fc2, net.fc3))


def test_a_snippet_score_is_held_over_its_kept_frames(net):
    stage = build_model("mil", "fights", checkpoint_of("mil", net, CONFIG))
    x = np.random.default_rng(0).normal(size=6)
    sent = features(x, seq=3, thumb=b"jpeg", prior=Prior(run_ms=7, frames=5, down_s=1.5), live=True)
    [([scores], state)] = stage.process([(sent, {})])
    expected = net(torch.tensor(x / np.linalg.norm(x), dtype=torch.float32)).item()
    assert scores.raw == pytest.approx(np.full(8, expected), rel=1e-5)
    assert (scores.model, scores.id, scores.thumb, scores.prior) == ("fights", sent.id, b"jpeg", sent.prior)
    assert scores.lookahead_frames == 0
    np.testing.assert_array_equal(scores.reference, REFERENCE_LEVELS.astype(np.float32))
    assert state == {}
    assert stage.finish(state) == ([], {})


def test_only_the_direction_of_a_feature_counts(net):
    stage = build_model("mil", "mil", checkpoint_of("mil", net, CONFIG))
    x = np.random.default_rng(1).normal(size=6)
    small, large, zero = (stage.process([(features(x * k), {})])[0][0][0].raw[0] for k in (1e-3, 100, 0))
    assert small == pytest.approx(large, rel=1e-5)
    assert np.isfinite(zero)


def test_a_score_depends_on_its_own_snippet_only(net):
    stage = build_model("mil", "mil", checkpoint_of("mil", net, CONFIG))
    rng = np.random.default_rng(2)
    videos = {f"cam{i}": rng.normal(size=(n, 6)) for i, n in enumerate([1, 5, 9])}
    for camera, scores in run_cameras(stage, videos, rng).items():
        for t, one in enumerate(scores):
            [([alone], _)] = stage.process([(features(videos[camera][t]), {})])
            np.testing.assert_allclose(one.raw, alone.raw, rtol=1e-5)


def test_a_checkpoint_scores_the_same_after_a_trip_through_its_file(net, tmp_path):
    made = checkpoint_of("mil", net, CONFIG)
    save_checkpoint(tmp_path / "a.ckpt", made)
    stage = build_model("mil", "mil", load_checkpoint(tmp_path / "a.ckpt"))
    x = np.arange(6)
    [([before], _)] = build_model("mil", "mil", made).process([(features(x), {})])
    [([after], _)] = stage.process([(features(x), {})])
    np.testing.assert_array_equal(before.raw, after.raw)
    assert len(stage.hash) == 64
    assert after.model_hash == stage.hash
    assert stage.features == "i3d"


def test_without_a_checkpoint_the_user_learns_how_to_train_one():
    with pytest.raises(ConfigError, match="fights: mil needs --model CKPT; train one with 'oddwatch train mil"):
        build_model("mil", "fights")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"extractor": ""}, "names no feature extractor", id="no extractor"),
        pytest.param({"reference": np.arange(3)}, "19 rising quantiles", id="short reference"),
        pytest.param({"reference": -REFERENCE_LEVELS}, "19 rising quantiles", id="falling reference"),
        pytest.param({"reference": REFERENCE_LEVELS * np.nan}, "19 rising quantiles", id="reference not numbers"),
    ],
)
def test_a_checkpoint_that_lacks_something_is_refused(net, changes, message):
    with pytest.raises(CheckpointError, match=message):
        build_model("mil", "mil", checkpoint_of("mil", net, CONFIG, **changes))


def test_weights_that_do_not_fit_the_description_are_refused(net):
    with pytest.raises(CheckpointError, match=r"weights do not fit its own description.*fc1"):
        build_model("mil", "mil", checkpoint_of("mil", net, MILConfig(input_dim=7)))
    with pytest.raises(CheckpointError, match="holds a 'rtfm' model, expected 'mil'"):
        build_model("mil", "mil", checkpoint_of("rtfm", net, CONFIG))
    strange = checkpoint_of("mil", net, CONFIG)
    strange.meta["architecture"]["wings"] = 2
    with pytest.raises(CheckpointError, match=r"wings.*train it again"):
        build_model("mil", "mil", strange)


@pytest.mark.parametrize(
    ("values", "fields", "error", "message"),
    [
        pytest.param(np.ones(6), {"extractor": "s3d@ffff"}, CheckpointError, "set its features to 'i3d'", id="name"),
        pytest.param(np.ones(6), {"extractor": "i3d@ffff"}, CheckpointError, "other weights .* of i3d", id="hash"),
        pytest.param(np.ones(5), {}, CheckpointError, "size 6, but camera cam sends 5", id="size"),
        pytest.param(
            np.ones((2, 6)),
            {"cells": np.zeros((2, 3), np.int16), "grid": (4, 4)},
            CheckpointError,
            f"cells of '{EXTRACTOR}'",
            id="sparse",
        ),
        pytest.param([1, 2, 3, 4, 5, np.nan], {}, ValueError, "cam 1000-0: features are not finite", id="nan"),
        pytest.param([1, 2, 3, 4, 5, -1e30], {}, ValueError, "cam 1000-0: features are not finite", id="huge"),
    ],
)
def test_features_it_was_not_trained_on_are_refused(net, values, fields, error, message):
    stage = build_model("mil", "mil", checkpoint_of("mil", net, CONFIG))
    with pytest.raises(error, match=message):
        stage.process([(features(values, **fields), {})])
