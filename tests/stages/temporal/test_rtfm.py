"""RTFM's network, selection and loss against the published code's numbers. A few seconds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from dense_makers import relative_error, seed_weights
from places import DATA, shared

from stages.errors import CheckpointError
from stages.temporal.network_checkpoint import read_foreign_weights
from stages.temporal.weak.rtfm import RTFM, Bag, Masks, RTFMConfig, choose, draw_keep, rtfm_loss, score_video

CONFIG = RTFMConfig(input_dim=64, mode="paper")
GOLDEN = np.load(DATA / "golden_rtfm_seeded64.npz")
FULL = "data/golden/golden_rtfm.npz"


@pytest.fixture(scope="module")
def inputs():
    """The golden inputs, drawn again from their seed."""
    rs = np.random.RandomState(7)
    shapes = {f"eval_T{t}": (1, 10, t, 64) for t in (3, 7, 20, 32, 45)}
    shapes |= {"eval_1crop": (1, 1, 32, 64), "train": (4, 10, 32, 64)}
    return {k: torch.from_numpy(np.abs(rs.standard_normal(s)).astype(np.float32)) for k, s in shapes.items()}


def golden_masks():
    rs = np.random.RandomState(8)
    shapes = ((40, 32, 64), (40, 32, 512), (40, 32, 128), (2, 32), (2, 32))
    features, fc1, fc2, abnormal, normal = (torch.from_numpy(rs.random_sample(s) >= 0.7) for s in shapes)
    return Masks(features, fc1, fc2), normal, abnormal


def no_masks():
    """Dropout as identity: the mask that undoes the scaling."""
    return Masks(*[torch.tensor(0.3)] * 3), None, None


def training_step(x, masks, keep_normal, keep_abnormal):
    net = seed_weights(RTFM(CONFIG), 20210).train()
    output = net(x, masks)
    normal = choose(output.videos(slice(0, 2)), 3, keep_normal)
    abnormal = choose(output.videos(slice(2, 4)), 3, keep_abnormal)
    loss = rtfm_loss(normal, abnormal, output.scores[2:])
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=0.005)
    loss.total.backward()
    return net, output, normal, abnormal, loss, optimiser


@pytest.mark.parametrize("case", ["eval_T7", "eval_T32", "eval_1crop"])
@torch.inference_mode()
def test_scores_and_magnitudes_are_those_of_the_published_network(inputs, case):
    output = seed_weights(RTFM(CONFIG), 20210).eval()(inputs[case])
    assert relative_error(output.scores, GOLDEN[f"{case}/scores"]) < 1e-5
    assert relative_error(output.magnitudes, GOLDEN[f"{case}/feat_magnitudes"]) < 1e-5
    if case != "eval_1crop":
        assert relative_error(output.embedded[0, 0], GOLDEN[f"{case}/aggregate_out_crop0"]) < 1e-5
        assert relative_error(choose(output, 3).score, GOLDEN[f"{case}/score_abnormal"]) < 1e-5


@pytest.mark.parametrize(("case", "masks"), [("train_nodrop", no_masks), ("train_drop", golden_masks)])
def test_a_training_step_is_the_published_one(inputs, case, masks):
    net, output, normal, abnormal, loss, optimiser = training_step(inputs["train"], *masks())
    golden = {key.removeprefix(case + "/"): GOLDEN[key] for key in GOLDEN.files if key.startswith(case)}
    assert relative_error(output.scores, golden["scores"]) < 1e-5
    assert relative_error(output.magnitudes, golden["feat_magnitudes"]) < 1e-5
    assert relative_error(normal.score, golden["score_normal"]) < 1e-5
    assert relative_error(abnormal.score, golden["score_abnormal"]) < 1e-5
    assert loss.bce.item() == pytest.approx(float(golden["loss_bce"]), rel=1e-5)
    assert loss.magnitude.item() == pytest.approx(1e-4 * float(golden["loss_mag"]), rel=1e-5)
    assert loss.sparsity.item() == pytest.approx(float(golden["loss_sparse"]), rel=1e-5)
    assert loss.smoothness.item() == pytest.approx(float(golden["loss_smooth"]), rel=1e-5)
    assert loss.total.item() == pytest.approx(float(golden["loss_total"]), rel=1e-5)
    for name, parameter in net.named_parameters():
        # A bias before a batch norm has no gradient but rounding: 1e-8 in the golden numbers.
        floor = 1e-6 if name == "Aggregate.non_local.W.0.bias" else 0
        assert parameter.grad.norm().item() == pytest.approx(float(golden[f"gradnorm/{name}"]), rel=1e-4, abs=floor)
    optimiser.step()
    for key in ("fc3.weight", "fc3.bias", "fc2.bias"):
        assert relative_error(net.state_dict()[key], golden[f"after_adam/{key}"]) < 1e-5


@pytest.mark.parametrize(("case", "masks"), [("train_nodrop", no_masks), ("train_drop", golden_masks)])
def test_gradients_choices_and_running_statistics_are_the_published_ones(case, masks):
    full = np.load(shared(FULL))
    net, _, normal, abnormal, _, optimiser = training_step(torch.from_numpy(full["train/x"]), *masks())
    assert relative_error(normal.features, full[f"{case}/feat_select_normal"]) < 1e-5
    assert relative_error(abnormal.features, full[f"{case}/feat_select_abn"]) < 1e-5
    parameters = dict(net.named_parameters())
    for key in full.files:
        if key.startswith(f"{case}/grad/") and not key.endswith("W.0.bias"):
            assert relative_error(parameters[key.split("/")[2]].grad, full[key]) < 1e-4, key
    optimiser.step()
    for key in full.files:
        if key.startswith(f"{case}/after_"):
            assert relative_error(net.state_dict()[key.split("/")[2]], full[key]) < 1e-5, key


@torch.inference_mode()
def test_published_weights_load_by_their_own_names():
    full = np.load(shared(FULL))
    net = RTFM(CONFIG)
    net.load_state_dict({key[3:]: torch.from_numpy(full[key]) for key in full.files if key.startswith("sd/")})
    net.eval()
    for t in (3, 7, 20, 32, 45):
        output = net(torch.from_numpy(full[f"eval_T{t}/x"]))
        assert relative_error(output.scores, full[f"eval_T{t}/scores"]) < 1e-5
        assert relative_error(output.magnitudes, full[f"eval_T{t}/feat_magnitudes"]) < 1e-5


def test_the_loss_and_its_gradients_are_the_published_ones():
    golden = {k[5:]: torch.from_numpy(v) for k, v in np.load(DATA / "golden_losses.npz").items() if k[:5] == "rtfm/"}
    leaves = {
        key: golden[key].clone().requires_grad_()
        for key in ("feat_nor", "feat_abn", "score_nor", "score_abn", "scores_flat")
    }
    none = torch.zeros(0, dtype=torch.int64)
    normal = Bag(leaves["score_nor"][:, 0], leaves["feat_nor"], none)
    abnormal = Bag(leaves["score_abn"][:, 0], leaves["feat_abn"], none)
    scores = leaves["scores_flat"].view(8, 32)[4:]
    loss = rtfm_loss(normal, abnormal, scores)
    loss.total.backward()
    assert loss.bce.item() == pytest.approx(golden["bce_term"].item(), rel=1e-5)
    assert loss.magnitude.item() == pytest.approx(1e-4 * golden["mag_term"].item(), rel=1e-5)
    assert loss.sparsity.item() == pytest.approx(golden["loss_sparse"].item(), rel=1e-5)
    assert loss.smoothness.item() == pytest.approx(golden["loss_smooth"].item(), rel=1e-5)
    assert loss.total.item() == pytest.approx(golden["loss_total"].item(), rel=1e-5)
    for key, leaf in leaves.items():
        assert relative_error(leaf.grad, golden[f"grad_{key}"]) < 1e-5, key
    apart = rtfm_loss(normal, abnormal, scores, RTFMConfig(smooth_across_videos=False))
    assert apart.smoothness.item() == pytest.approx(8e-4 * golden["smooth_per_video_sum_unweighted"].item(), rel=1e-5)


def test_the_snippets_of_largest_magnitude_stand_for_a_video(inputs):
    output = seed_weights(RTFM(CONFIG), 20210).eval()(inputs["eval_T20"])
    bag = choose(output, 3)
    top = output.magnitudes[0].argsort(descending=True)[:3]
    np.testing.assert_array_equal(bag.snippets[0], top)
    assert bag.score.item() == pytest.approx(output.scores[0, top].mean().item())
    np.testing.assert_array_equal(bag.features.detach(), output.embedded[0][:, top].detach())
    two = RTFM(CONFIG).eval()(inputs["train"][:2, :3])
    features, chosen = choose(two, 3).features, choose(two, 3).snippets
    np.testing.assert_array_equal(features[2 * 2 + 1].detach(), two.embedded[1, 2][chosen[1]].detach())  # crop by crop
    keep = torch.ones(1, 20)
    keep[0, top[0]] = 0
    assert top[0] not in choose(output, 3, keep).snippets


@pytest.mark.parametrize("mode", ["paper", "lookahead", "causal"])
@pytest.mark.parametrize("snippets", [1, 2])
def test_a_video_shorter_than_the_selection_works(mode, snippets):
    net = seed_weights(RTFM(RTFMConfig(input_dim=4, mode=mode)), 1).eval()
    x = torch.rand(3, 2, snippets, 4)
    output = net(x)
    assert choose(output, 3).features.shape == (6, snippets, 4)
    assert score_video(net, x[0]).shape == (snippets,)
    assert torch.isfinite(output.scores).all()


def test_a_new_network_begins_with_an_idle_non_local_block():
    torch.manual_seed(0)
    net = RTFM(CONFIG)
    x = torch.rand(2, 512, 5)
    np.testing.assert_array_equal(net.Aggregate.non_local.eval()(x).detach(), x)
    assert net.fc1.weight.abs().max().item() == pytest.approx((6 / (64 + 512)) ** 0.5, rel=1e-3)
    assert not net.fc1.bias.any()
    assert not net.Aggregate.conv_1[0].bias.any()
    assert sum(p.numel() for p in RTFM(RTFMConfig()).parameters()) == 24_718_849  # as counted in the original


def test_dropout_of_magnitudes_keeps_three_of_ten():
    torch.manual_seed(0)
    output = RTFM(CONFIG).eval()(torch.rand(50, 1, 32, 64))
    assert draw_keep(output, CONFIG).float().mean().item() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "future"}, "mode must be paper, lookahead or causal"),
        ({"window": 10}, "window must be at least 11"),
        ({"window": 0, "mode": "causal"}, "window must be at least 1 "),
        ({"dropout": 1.0}, "dropout < 1"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RTFMConfig(**fields)


def test_published_weight_files_are_read_without_executing_them(tmp_path):
    net = RTFM(CONFIG)
    torch.save({f"module.{key}": value for key, value in net.state_dict().items()}, tmp_path / "w.pkl")
    arrays = read_foreign_weights(tmp_path / "w.pkl")
    assert arrays.keys() == net.state_dict().keys()
    np.testing.assert_array_equal(arrays["fc3.weight"], net.fc3.weight.detach())


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: None, "No such file", id="absent"),
        pytest.param(lambda path: path.write_bytes(b"<html>"), "cannot be read as plain weights", id="not weights"),
        pytest.param(lambda path: torch.save([1, 2], path), "other things than named tensors", id="a list"),
        pytest.param(lambda path: torch.save({"a": 3}, path), "other things than named tensors", id="no tensors"),
        pytest.param(
            lambda path: torch.save({"a": Touch(path.with_name("hit"))}, path), "cannot be read as plain", id="hostile"
        ),
    ],
)
def test_anything_else_is_refused(tmp_path, make, message):
    make(tmp_path / "w.pkl")
    with pytest.raises(CheckpointError, match=message):
        read_foreign_weights(tmp_path / "w.pkl")
    assert not (tmp_path / "hit").exists()
