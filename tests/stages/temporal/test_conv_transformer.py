"""The convolutional transformer: attention by hand, and its stage against the network on whole windows. Seconds."""

import math

import numpy as np
import pytest
import torch
from dense_makers import seed_weights, through_redis
from frame_makers import FORM, SCORERS, cut, moving, seeded_checkpoint, snippet, streamed

from stages.temporal.future_frame.conv_transformer import (
    ConvTransformer,
    ConvTransformerConfig,
    TemporalAttention,
    VideoDiscriminator,
    age_codes,
)
from stages.temporal.future_frame.format import FrameFormat, to_unit
from stages.temporal.future_frame.unet import psnr
from stages.temporal.registry import build_model

CONFIG = ConvTransformerConfig(channels=1, widths=(4, 6, 8), heads=2, head_width=3)


@pytest.fixture
def net():
    return seed_weights(ConvTransformer(CONFIG), 3).eval()


def stage_of(config=CONFIG, **changes):
    return build_model("future_frame", "ff", seeded_checkpoint(ConvTransformer, config, seed=3, **changes))


def attention_by_loops(layer, newest, values):
    """The same attention, one head and one frame at a time."""
    t_in, heads, d = len(values), layer.heads, layer.head_width
    ages, seen = age_codes(t_in, layer.ages.shape[1]), []
    for head in range(heads):
        maps = values[:, head * d : (head + 1) * d]  # (t_in, d, h, w)
        described = [torch.cat([maps[t].mean((1, 2)), ages[t]]) for t in range(t_in)]
        query = described[-1] @ layer.query[head]
        keys = [described[t] @ layer.key[head] for t in range(t_in - 1)]
        likeness = [float(query @ key / (query.norm() * key.norm())) for key in keys]
        powers = [math.exp(math.exp(float(layer.log_scale[head])) * each) for each in likeness]
        seen.append(sum(p / sum(powers) * maps[t] for t, p in enumerate(powers)))
    kernel = layer.mix.weight[:, :, 0, 0]
    mixed = torch.einsum("oi,ihw->ohw", kernel, torch.cat([newest, *seen]))
    return mixed + layer.mix.bias[:, None, None]


@pytest.mark.parametrize("t_in", [2, 5])
def test_attention_weights_whole_frames_by_the_likeness_of_their_means_and_ages(t_in):
    config = ConvTransformerConfig(t_in=t_in, heads=3, head_width=2)
    layer = seed_weights(TemporalAttention(4, config), 1)
    rng = torch.Generator().manual_seed(2)
    newest = torch.randn(2, 4, 3, 5, generator=rng)
    values = torch.randn(2, t_in, 6, 3, 5, generator=rng)
    with torch.no_grad():
        got = layer(newest, values)
        for b in range(2):
            torch.testing.assert_close(got[b], attention_by_loops(layer, newest[b], values[b]), rtol=1e-5, atol=1e-6)
        weights = layer.weights(values.unflatten(2, (3, 2)).mean((4, 5)))
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 3))


def test_the_age_of_frames_that_look_alike_still_counts():
    layer = seed_weights(TemporalAttention(4, CONFIG), 1)
    means = torch.ones(1, 4, CONFIG.heads, CONFIG.head_width)
    weights = layer.weights(means)[0, :, 0]
    assert weights.max() - weights.min() > 0.01


def test_the_newest_frame_has_age_zero():
    codes = age_codes(4, 4)
    assert codes[-1].tolist() == [0, 0, 1, 1]
    assert codes[0].tolist() == pytest.approx([math.sin(3), math.sin(1.5), math.cos(3), math.cos(1.5)])


@pytest.mark.parametrize("frame", range(4))
def test_every_frame_before_counts(net, frame):
    images = to_unit(FORM.frames(moving(4))).flatten(0, 1)[None]
    changed = images.clone()
    changed[:, frame] *= -1
    with torch.no_grad():
        assert (net(changed) - net(images)).abs().max() > 1e-4


@pytest.mark.parametrize("config", [CONFIG, ConvTransformerConfig(channels=3, t_in=6, widths=(4, 8), attended=1)])
def test_scores_are_those_of_each_frame_predicted_alone(config):
    form = FrameFormat(height=16, width=24, order="gray" if config.channels == 1 else "rgb")
    net = seed_weights(ConvTransformer(config), 3).eval()
    pixels, t_in = moving(14), config.t_in
    images = to_unit(form.frames(pixels))
    with torch.no_grad():
        expected = [
            -psnr(net(images[t - t_in : t].flatten(0, 1)[None]), images[t : t + 1]).item() for t in range(t_in, 14)
        ]
    raw = streamed(stage_of(config, form=form), pixels, [pixels])
    np.testing.assert_allclose(raw[t_in:], expected, rtol=1e-5)
    np.testing.assert_array_equal(raw[:t_in], raw[t_in])
    assert np.ptp(raw[t_in:]) > 0.01


@pytest.mark.parametrize("seed", range(6))
def test_any_cutting_into_snippets_gives_the_same_scores(seed):
    rng = np.random.default_rng(seed)
    pixels = moving(30, seed)
    stage = stage_of(scorer=SCORERS[seed % 3])
    whole = streamed(stage, pixels, [pixels])
    pieces = list(cut(pixels, rng))
    np.testing.assert_allclose(streamed(stage, pixels, pieces, through_redis)[4:], whole[4:], rtol=1e-5)
    ones = np.split(pixels, len(pixels))
    np.testing.assert_allclose(streamed(stage, pixels, ones, through_redis)[4:], whole[4:], rtol=1e-5)


def test_frames_that_go_through_the_network_together_are_scored_as_one_by_one(monkeypatch):
    pixels, stage = moving(20), stage_of()
    whole = streamed(stage, pixels, [pixels])
    monkeypatch.setattr("stages.temporal.future_frame.stage.AT_ONCE", {"cpu": 7})
    np.testing.assert_allclose(streamed(stage, pixels, [pixels]), whole, rtol=1e-5)
    unlike = [pixels[:3], pixels[3:5], pixels[5:]]
    np.testing.assert_allclose(streamed(stage, pixels, unlike)[4:], whole[4:], rtol=1e-5)


def test_every_frame_is_encoded_once(monkeypatch):
    pixels, stage, encoded = moving(17), stage_of(), []
    encode = ConvTransformer.encode

    def counting(self, frames):
        encoded.extend(frames)
        return encode(self, frames)

    monkeypatch.setattr(ConvTransformer, "encode", counting)
    streamed(stage, pixels, np.split(pixels, [1, 2, 9]))
    torch.testing.assert_close(torch.stack(encoded), to_unit(FORM.frames(pixels)))


def test_a_later_frame_never_changes_an_earlier_score():
    pixels, stage = moving(16), stage_of()
    before = streamed(stage, pixels, [pixels])
    changed = pixels.copy()
    changed[9] = 255 - changed[9]
    after = streamed(stage, changed, [changed])
    np.testing.assert_array_equal(after[:9], before[:9])
    assert np.all(after[9:14] != before[9:14])
    np.testing.assert_array_equal(after[14:], before[14:])


def test_what_is_remembered_has_a_fixed_size_and_is_not_changed():
    stage, state, sizes = stage_of(), {}, []
    for seq, pixels in enumerate(np.split(moving(40), [1, 3, 9, 20, 30])):
        for array in state.values():
            array.setflags(write=False)
        [(_, state)] = stage.process([(snippet(pixels, seq=seq), state)])
        sizes.append(sum(array.nbytes for array in state.values()))
    assert set(state) == {"values.0", "values.1", "prediction", "frame"}
    assert state["values.0"].shape == (3, 6, 8, 12)
    assert sizes[-1] == sizes[2]


def test_cameras_in_one_batch_do_not_see_each_other():
    stage, one, two = stage_of(), moving(8, 1), moving(5, 2)
    together = stage.process([(snippet(one, camera="a"), {}), (snippet(two, camera="b"), {})])
    for pixels, (scores, state) in zip((one, two), together, strict=True):
        [(alone, alone_state)] = stage.process([(snippet(pixels), {})])
        np.testing.assert_allclose(scores[0].raw, alone[0].raw, rtol=1e-5)
        np.testing.assert_allclose(state["prediction"], alone_state["prediction"], atol=1e-6)


def test_the_video_discriminator_sees_the_order_of_frames():
    net = seed_weights(VideoDiscriminator(1, (4, 6)), 5)
    frames = to_unit(FORM.frames(moving(5))).transpose(0, 1)[None]  # (1, C, T, H, W)
    with torch.no_grad():
        judged, backwards = net(frames), net(frames.flip(2))
    assert judged.shape[:3] == (1, 1, 5)
    assert judged.min() >= 0
    assert judged.max() <= 1
    assert (judged - backwards).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"t_in": 1}, "t_in of 2"),
        ({"attended": 4, "widths": (4, 8)}, r"attended within 1\.\.2"),
        ({"position_width": 3}, "even"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        ConvTransformerConfig(**sizes)


def test_gradients_reach_every_weight(net):
    images = to_unit(FORM.frames(moving(4))).flatten(0, 1)[None]
    net(images).square().mean().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
