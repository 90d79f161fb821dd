"""Future-frame prediction against the published code's numbers, and as a stage. A few seconds, half of them torch."""

import cv2
import numpy as np
import pytest
import torch
from dense_makers import relative_error, seed_weights, through_redis
from frame_makers import FORM, SCORERS, cut, moving, seeded_checkpoint, snippet, streamed
from places import DATA
from torch.nn import functional as F

from stages.errors import CheckpointError, ConfigError
from stages.files.checkpoint import load_checkpoint, save_checkpoint
from stages.messages import REFERENCE_LEVELS, Prior
from stages.temporal.future_frame.format import FrameFormat, to_unit
from stages.temporal.future_frame.scorer import PictureScorer
from stages.temporal.future_frame.stage import make_predictor
from stages.temporal.future_frame.unet import (
    LossWeights,
    PatchDiscriminator,
    UNet,
    UNetConfig,
    adversarial_loss,
    discriminator_loss,
    displacement,
    flow_loss,
    generator_loss,
    gradient_loss,
    intensity_loss,
    psnr,
)
from stages.temporal.registry import build_model, reads_features

CONFIG = UNetConfig(channels=1, widths=(4, 6, 8))


@pytest.fixture(scope="module")
def golden():
    return {key: value for key, value in np.load(DATA / "golden_ffp.npz").items() if not key.startswith("memae")}


def published_name(key: str) -> str:
    """The port's name of one of `UNet`'s parameters: `encode.1.0.weight` -> `down1.mpconv.1.conv.0.weight`."""
    part, _, rest = key.partition(".")
    if part == "out":
        return f"outc.{rest}"
    index, _, rest = rest.partition(".")
    if part == "encode":
        return f"inc.conv.conv.{rest}" if index == "0" else f"down{index}.mpconv.1.conv.{rest}"
    level = f"up{int(index) + 1}"
    return f"{level}.up.{rest}" if part == "grow" else f"{level}.conv.conv.{rest}"


@pytest.fixture(scope="module")
def published(golden):
    """The full-size U-Net, filled by the rule of GOLDEN.md in the order of the published names."""
    net = UNet(UNetConfig())
    ours = {published_name(key): key for key in net.state_dict()}
    assert sorted(ours) == golden["unet/sorted_keys"].tolist()
    renamed = torch.nn.Module()
    renamed.state_dict = lambda: {theirs: net.state_dict()[key] for theirs, key in ours.items()}
    renamed.load_state_dict = lambda state: net.load_state_dict({ours[theirs]: a for theirs, a in state.items()})
    seed_weights(renamed, int(golden["unet/seed_w"]))
    return net


@pytest.fixture
def net():
    return seed_weights(UNet(CONFIG), 7).eval()


def stage_of(**changes):
    return build_model("future_frame", "ff", seeded_checkpoint(UNet, CONFIG, **changes))


def tensor(golden, name):
    return torch.from_numpy(golden[name])


@pytest.mark.parametrize("size", ["32x32", "64x96"])
def test_predictions_are_those_of_the_published_network(golden, published, size):
    with torch.no_grad():
        predicted = published.eval()(tensor(golden, f"unet_{size}/x"))
    assert relative_error(predicted, golden[f"unet_{size}/y"]) < 1e-5


def test_training_mode_normalises_by_the_batch_as_published(golden, published):
    before = {key: value.clone() for key, value in published.state_dict().items()}
    with torch.no_grad():
        predicted = published.train()(tensor(golden, "unet_train/x"))
    published.load_state_dict(before)
    assert relative_error(predicted, golden["unet_train/y"]) < 5e-5


def test_it_has_the_published_size():
    assert sum(p.numel() for p in UNet(UNetConfig()).parameters()) == 7_707_011


def test_the_discriminator_is_the_published_one(golden):
    net = seed_weights(PatchDiscriminator(), int(golden["disc/seed_w"]))
    judged = net(tensor(golden, "disc_64/x"))
    assert judged.shape == (1, 1, 11, 11)
    assert relative_error(judged, golden["disc_64/y"]) < 1e-5


@pytest.mark.parametrize(("loss", "name"), [(intensity_loss, "intensity"), (gradient_loss, "gradient")])
def test_image_losses_and_their_gradients_are_the_published_ones(golden, loss, name):
    predicted = tensor(golden, "loss/gen").requires_grad_()
    value = loss(predicted, tensor(golden, "loss/gt"))
    value.backward()
    assert value.item() == pytest.approx(float(golden[f"loss/{name}"]), rel=1e-6)
    assert relative_error(predicted.grad, golden[f"loss/grad_{name}_wrt_gen"]) < 1e-5


def test_adversarial_flow_and_total_losses_are_the_published_ones(golden):
    flows = tensor(golden, "loss/flow_gen"), tensor(golden, "loss/flow_gt")
    real, predicted = tensor(golden, "loss/d_real"), tensor(golden, "loss/d_fake")
    assert flow_loss(*flows).item() == pytest.approx(float(golden["loss/flow"]), rel=1e-6)
    assert adversarial_loss(predicted).item() == pytest.approx(float(golden["loss/adv_generator"]), rel=1e-6)
    judged = discriminator_loss(real, predicted).item()
    assert judged == pytest.approx(float(golden["loss/discriminator"]), rel=1e-6)
    images = tensor(golden, "loss/gen"), tensor(golden, "loss/gt")
    total = generator_loss(*images, flows, predicted, LossWeights()).total.item()
    assert total == pytest.approx(float(golden["loss/total_generator_ped2_weights"]), rel=1e-6)


def test_psnr_is_the_published_one(golden):
    images = tensor(golden, "loss/gen"), tensor(golden, "loss/gt")
    assert relative_error(psnr(*images), golden["psnr/per_frame"]) < 1e-6


def test_psnr_of_the_worst_square_finds_a_small_odd_thing():
    real = torch.zeros(1, 3, 32, 48)
    odd, faint = real.clone(), torch.full_like(real, 0.2)
    odd[:, :, 10:14, 20:24] = 1
    assert psnr(odd, real) > psnr(faint, real)
    assert psnr(odd, real, 4) < psnr(faint, real, 4)
    assert psnr(odd, real, 4).item() == pytest.approx(10 * np.log10(4), rel=1e-5)
    assert psnr(faint, real, 4).item() == pytest.approx(psnr(faint, real).item(), rel=1e-5)
    assert psnr(real, real).item() == pytest.approx(100)


def waves(dx, dy, height=48, width=64):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = 0.8 * np.sin((x - dx) / 2.5) * np.cos((y - dy) / 3)
    return torch.from_numpy(picture)[None, None]


@pytest.mark.parametrize(("dx", "dy"), [(0.4, 0.0), (0.0, -0.4), (-0.3, 0.2)])
def test_displacement_points_to_where_a_structure_went(dx, dy):
    seen = displacement(waves(dx, dy), waves(0, 0))[0, :, 8:-8, 8:-8].mean((1, 2))
    assert seen.tolist() == pytest.approx([dx, dy], abs=0.08)
    assert displacement(waves(0, 0), waves(0, 0)).abs().max() == 0
    flat = torch.zeros(1, 1, 48, 64)
    assert displacement(flat + 0.5, flat).abs().max() < 1e-6


def test_displacement_is_the_difference_of_two_real_flows():
    last, real, predicted = waves(0, 0), waves(1.0, 0.3), waves(0.7, 0.3)

    def dis(picture):
        one, two = (((p[0, 0].numpy() + 1) * 127.5).astype(np.uint8) for p in (last, picture))
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(one, two, None)
        return flow[8:-8, 8:-8].mean((0, 1))

    seen = displacement(predicted, real)[0, :, 8:-8, 8:-8].mean((1, 2))
    assert seen.tolist() == pytest.approx((dis(predicted) - dis(real)).tolist(), abs=0.08)


def test_following_the_displacement_brings_the_prediction_into_place():
    real, predicted = waves(0, 0), waves(0.6, -0.4).requires_grad_()
    for _ in range(40):
        (slope,) = torch.autograd.grad(displacement(predicted, real).abs().mean(), predicted)
        predicted = (predicted - 40 * slope).detach().requires_grad_()
    before, after = (displacement(p, real).abs().mean() for p in (waves(0.6, -0.4), predicted))
    assert after < before / 2


@pytest.mark.parametrize(
    ("order", "expected"), [("gray", [[54.0]]), ("rgb", [[100], [40], [6]]), ("bgr", [[6], [40], [100]])]
)
def test_the_colour_order_is_the_checkpoints(order, expected):
    pixels = np.broadcast_to(np.array([100, 40, 6], np.uint8), (2, 40, 60, 3))
    frames = FrameFormat(height=16, width=24, order=order).frames(pixels)
    assert frames.shape == (2, len(expected), 16, 24)
    np.testing.assert_array_equal(frames, np.broadcast_to(np.array(expected, np.uint8)[:, :, None], frames.shape))


def test_black_is_minus_one_and_white_is_one():
    assert to_unit(np.array([0, 255], np.uint8)).tolist() == [-1, 1]


def test_scores_are_those_of_each_frame_predicted_alone(net):
    pixels = moving(14)
    images = to_unit(FORM.frames(pixels))
    with torch.no_grad():
        expected = [-psnr(net(images[t - 4 : t].flatten(0, 1)[None]), images[t : t + 1]).item() for t in range(4, 14)]
    raw = streamed(stage_of(), pixels, [pixels])
    np.testing.assert_allclose(raw[4:], expected, rtol=1e-5)
    np.testing.assert_array_equal(raw[:4], raw[4])
    assert np.ptp(raw[4:]) > 0.1


@pytest.mark.parametrize("seed", range(6))
def test_any_cutting_into_snippets_gives_the_same_scores(seed):
    rng = np.random.default_rng(seed)
    pixels = moving(30, seed)
    stage = stage_of(scorer=SCORERS[seed % 3])
    whole = streamed(stage, pixels, [pixels])
    pieces = list(cut(pixels, rng))
    np.testing.assert_allclose(streamed(stage, pixels, pieces, through_redis)[4:], whole[4:], rtol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "early"),
    [
        pytest.param([2, 4, 3], [-30, -30, "own", "own"], id="the third is in a snippet with a predicted frame"),
        pytest.param([1, 1, 1, 1, 5], [-30] * 4, id="snippets of one frame"),
        pytest.param([6, 3], ["own"] * 4, id="all in the first snippet"),
    ],
)
def test_frames_too_early_to_be_predicted_are_neither_odd_nor_normal(sizes, early):
    pixels = moving(9)
    raw = streamed(stage_of(), pixels, np.split(pixels, np.cumsum(sizes)[:-1]))
    np.testing.assert_allclose(raw[:4], [raw[4] if e == "own" else e for e in early])
    assert raw[4] != -30


def test_a_later_frame_never_changes_an_earlier_score():
    pixels, stage = moving(16), stage_of()
    before = streamed(stage, pixels, [pixels])
    changed = pixels.copy()
    changed[9] = 255 - changed[9]
    after = streamed(stage, changed, [changed])
    np.testing.assert_array_equal(after[:9], before[:9])
    assert np.all(after[9:14] != before[9:14])
    np.testing.assert_array_equal(after[14:], before[14:])


def test_cameras_in_one_batch_do_not_see_each_other():
    stage, one, two = stage_of(), moving(8, 1), moving(5, 2)
    [(_, kept)] = stage.process([(snippet(moving(6, 3)), {})])
    for array in kept.values():
        array.setflags(write=False)
    together = stage.process([(snippet(one, camera="a"), {}), (snippet(two, camera="b", seq=1), kept)])
    [alone_a], [alone_b] = (stage.process([item]) for item in ((snippet(one), {}), (snippet(two, seq=1), kept)))
    for (scores, state), (alone, alone_state) in zip(together, (alone_a, alone_b), strict=True):
        np.testing.assert_allclose(scores[0].raw, alone[0].raw, rtol=1e-5)
        np.testing.assert_array_equal(state["frames"], alone_state["frames"])
    assert stage.process([]) == []


def test_what_is_remembered_is_the_newest_frames_and_nothing_else():
    stage, state = stage_of(), {}
    for seq, pixels in enumerate(np.split(moving(12), [1, 3, 9])):
        [(_, state)] = stage.process([(snippet(pixels, seq=seq), state)])
        assert list(state) == ["frames"]
        assert len(state["frames"]) == min(4, [1, 3, 9, 12][seq])
    np.testing.assert_array_equal(state["frames"], FORM.frames(moving(12)[-4:]))


def test_a_score_carries_the_header_of_its_snippet():
    sent = snippet(
        moving(6), seq=3, first_frame=48, thumb=b"jpeg", prior=Prior(run_ms=7, frames=5, down_s=1), live=True
    )
    [([scores], _)] = stage_of().process([(sent, {})])
    assert (scores.model, scores.id, scores.thumb, scores.prior, scores.live) == (
        "ff",
        sent.id,
        b"jpeg",
        sent.prior,
        True,
    )
    assert (scores.lookahead_frames, scores.provisional) == (0, False)
    np.testing.assert_array_equal(scores.picked, sent.picked)
    np.testing.assert_array_equal(scores.reference, (-40 + 20 * REFERENCE_LEVELS).astype(np.float32))


def test_a_checkpoint_scores_the_same_after_a_trip_through_its_file(tmp_path):
    made = seeded_checkpoint(UNet, CONFIG)
    save_checkpoint(tmp_path / "a.ckpt", made)
    loaded = load_checkpoint(tmp_path / "a.ckpt")
    pixels = moving(8)
    before, after = (build_model("future_frame", "ff", c) for c in (made, loaded))
    np.testing.assert_array_equal(streamed(before, pixels, [pixels]), streamed(after, pixels, [pixels]))
    assert after.hash == loaded.sha256
    assert after.features is None
    assert reads_features("future_frame", loaded, "motion") is None


def test_published_weights_load_by_their_published_names(golden, published):
    theirs = {published_name(key): value for key, value in published.state_dict().items()}
    net = UNet(UNetConfig())
    net.load_state_dict({key: theirs[published_name(key)] for key in net.state_dict()})
    predictor = make_predictor(net, PictureScorer())
    frames = FrameFormat(height=16, width=16, order="bgr").frames(moving(6, height=20, width=20))
    errors, _ = predictor.advance(frames, {})
    with torch.no_grad():
        expected = published.eval()(to_unit(frames[:4]).flatten(0, 1)[None])
    assert errors[4] == pytest.approx(-psnr(expected, to_unit(frames[4:5])).item(), rel=1e-5)


def test_without_a_checkpoint_the_user_learns_how_to_train_one():
    with pytest.raises(ConfigError, match="yard: future_frame needs --model CKPT; train one with 'oddwatch train fut"):
        build_model("future_frame", "yard")


def change(part, **values):
    return lambda meta: meta[part].update(values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda m: m.update(arch="gan"), "arch is 'gan', known are unet, conv_transformer", id="arch"),
        pytest.param(change("architecture", wings=2), r"wings.*train it again", id="unknown size"),
        pytest.param(change("architecture", widths=[4, 6, 9]), r"weights do not fit.*", id="other size"),
        pytest.param(change("preprocessing", height=30), r"multiples of 4, got 30 and 24", id="height"),
        pytest.param(change("preprocessing", order="rgb"), "takes 1 channels, rgb frames have 3", id="channels"),
        pytest.param(change("preprocessing", order="cmyk"), "order must be one of gray, rgb, bgr", id="order"),
        pytest.param(change("score", patch_px=99), r"patch_px must lie within 0\.\.16", id="patch"),
        pytest.param(lambda m: m.pop("score"), "'score'", id="no score"),
        pytest.param(lambda m: m.update(reference=[1, 2]), "19 rising quantiles", id="reference"),
    ],
)
def test_a_checkpoint_that_does_not_fit_together_is_refused(damage, message):
    checkpoint = seeded_checkpoint(UNet, CONFIG)
    damage(checkpoint.meta)
    with pytest.raises(CheckpointError, match=message):
        build_model("future_frame", "ff", checkpoint)


def test_a_checkpoint_of_another_model_is_refused():
    checkpoint = seeded_checkpoint(UNet, CONFIG)
    object.__setattr__(checkpoint, "kind", "mil")
    with pytest.raises(CheckpointError, match="holds a 'mil' model, expected 'future_frame'"):
        build_model("future_frame", "ff", checkpoint)


@pytest.mark.parametrize("frames", [1, 4])
def test_a_picture_smaller_than_the_network_is_enlarged(frames):
    pixels = moving(frames + 4, height=10, width=12)
    assert np.isfinite(streamed(stage_of(), pixels, [pixels])).all()


def test_new_kernels_are_drawn_as_published():
    torch.manual_seed(0)
    kernel = UNet(UNetConfig()).merge[0][0].weight
    assert kernel.std().item() == pytest.approx(0.02, rel=0.01)
    assert F.relu(kernel - 0.06).any()  # normal, not uniform
