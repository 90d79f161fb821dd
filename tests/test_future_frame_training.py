"""Training of future-frame predictors on a tiny made clip: it learns, resumes, and repeats. Some seconds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from frame_makers import FORM, moving, streamed

from pipeline.errors import CheckpointError, OddwatchError
from pipeline.messages import REFERENCE_LEVELS
from stages.checkpoint import load_checkpoint, save_checkpoint
from stages.temporal import build_model
from stages.temporal.conv_transformer import ConvTransformerConfig
from stages.temporal.frame_format import to_unit
from stages.temporal.future_frame import LossWeights, UNetConfig
from stages.training.future_frame import (
    Critic,
    Training,
    hold_out,
    make_critics,
    make_network,
    train,
    train_step,
)
from stages.training.future_frame_settings import TrainSettings, paper_settings

UNET = TrainSettings(
    network=UNetConfig(channels=1, widths=(4, 8, 8)),
    form=FORM,
    weights=LossWeights(),
    critic_widths=(4, 6, 8),
    batch=2,
    rate=5e-3,
    patch_px=0,
)
TRANSFORMER = replace(UNET, network=ConvTransformerConfig(channels=1, widths=(4, 8, 8), heads=2, head_width=3))
CLIPS = [FORM.frames(moving(20, seed)) for seed in range(3)]
BOTH = pytest.mark.parametrize("settings", [UNET, TRANSFORMER], ids=["unet", "conv_transformer"])


def trained(settings=UNET, steps=6, clips=CLIPS, seed=1, **kwargs):
    return train(clips, settings, seed=seed, done=lambda n: n / steps, **kwargs)


def same(one, two):
    return all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays.keys() | two.arrays.keys())


def test_the_odd_thing_is_odder_after_training():
    settings = replace(UNET, patch_px=6, weights=LossWeights(adversarial=0, flow=0.2))
    pixels = moving(11, 1)
    pixels[9:, 20:28, 4:12] = 0  # something appears where nothing was
    after, before = (
        streamed(build_model("future_frame", "ff", trained(settings, steps=n)), pixels, [pixels]) for n in (120, 1)
    )
    assert after[9] > after[4:9].max() + 10
    assert after[4:9].max() < before[4:9].max() - 10


@BOTH
def test_a_resumed_training_ends_as_one_that_was_not_interrupted(settings, tmp_path):
    whole = trained(settings)

    def save(training, _):
        if training.steps == 3:
            save_checkpoint(tmp_path / "progress.ckpt", training.progress())

    trained(settings, each=save)
    resumed = trained(settings, resume=load_checkpoint(tmp_path / "progress.ckpt"))
    assert same(resumed, whole)
    assert resumed.meta == whole.meta
    assert not same(trained(settings, steps=3), whole)


def test_a_look_at_the_result_on_the_way_changes_nothing():
    def look(training, _):
        training.result()
        training.progress()

    assert same(trained(each=look), trained())


def test_the_seed_decides_and_the_callers_random_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = trained()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(trained(), first)
    assert not same(trained(seed=2), first)


@BOTH
def test_a_step_moves_the_discriminators_before_the_generator(settings):
    training = Training(CLIPS, settings, seed=1)
    seen = []

    def watch(critic, name):
        original = critic.net.forward

        def forward(images):
            seen.append((name, images.requires_grad, next(critic.net.parameters()).requires_grad))
            return original(images)

        critic.net.forward = forward

    for i, critic in enumerate(training.critics):
        watch(critic, i)
    before = [[p.clone() for p in critic.net.parameters()] for critic in training.critics]
    losses = training.step(0)
    count = 1 if settings is UNET else 2
    assert [name for name, *_ in seen] == [n for i in range(count) for n in (i, i)] + list(range(count))
    assert all(not grad and own for _, grad, own in seen[: 2 * count])  # their own step: the frames are given
    assert all(grad and not own for _, grad, own in seen[2 * count :])  # the generator's: they are
    for critic, old in zip(training.critics, before, strict=True):
        assert any(not torch.equal(p, o) for p, o in zip(critic.net.parameters(), old, strict=True))
    assert losses.total == pytest.approx(
        losses.intensity + losses.gradient + 2 * losses.flow + 0.05 * losses.adversarial, rel=1e-5
    )


def test_the_video_discriminator_gets_the_frames_before_and_the_new_one():
    critics = make_critics(TRANSFORMER)
    assert [critic.sees_past for critic in critics] == [False, True]
    shapes = []
    past, frame = torch.zeros(2, 4, 1, 16, 24), torch.ones(2, 1, 16, 24)

    def net(images):
        shapes.append(images)
        return images

    Critic(net, None, True).judge(past, frame)
    assert shapes[0].shape == (2, 1, 5, 16, 24)
    assert shapes[0][:, :, -1].min() == 1
    assert shapes[0][:, :, :-1].max() == 0
    assert make_critics(replace(TRANSFORMER, weights=LossWeights(adversarial=0))) == []


def test_steps_on_one_batch_lower_its_loss():
    generator = make_network(UNET.network)
    optimiser = torch.optim.Adam(generator.parameters(), 5e-3)
    windows = to_unit(np.stack([CLIPS[0][:5], CLIPS[1][3:8]]))
    weights = LossWeights(adversarial=0)
    losses = [train_step(generator, optimiser, [], windows[:, :-1], windows[:, -1], weights).total for _ in range(40)]
    assert losses[-1] < losses[0] / 2


def test_the_rates_fall_to_a_tenth_near_the_end():
    training = Training(CLIPS, UNET, seed=1)
    for done, rate in ((0.79, 5e-3), (0.8, 5e-4)):
        training.step(done)
        assert training.optimiser.param_groups[0]["lr"] == pytest.approx(rate)
        assert training.critics[0].optimiser.param_groups[0]["lr"] == pytest.approx(rate * 2e-5 / 5e-3)


def test_the_reference_is_made_of_scores_of_footage_that_was_held_out():
    clips = [FORM.frames(moving(12, seed)) for seed in range(9)]
    checkpoint = trained(clips=clips)
    stage = build_model("future_frame", "ff", checkpoint)
    pixels = moving(12, 7)
    scores = streamed(stage, pixels, [pixels])[4:]
    np.testing.assert_allclose(checkpoint.meta["reference"], np.quantile(scores, REFERENCE_LEVELS), rtol=1e-5)
    other = [*clips[:7], 255 - clips[7], clips[8]]
    assert same(trained(clips=other), checkpoint)  # what is held out teaches nothing
    assert trained(clips=other).meta["reference"] != checkpoint.meta["reference"]


@pytest.mark.parametrize(
    ("lengths", "trained_on", "held"),
    [
        pytest.param([10] * 9, [10] * 8, [10], id="whole clips"),
        pytest.param([80, 24], [70, 19], [10, 5], id="the end of each"),
        pytest.param([80, 7], [70], [10, 5], id="a clip too short to train on"),
    ],
)
def test_an_eighth_of_the_footage_is_held_out(lengths, trained_on, held):
    parts = hold_out([np.zeros((n, 1, 2, 2), np.uint8) for n in lengths], 5)
    assert [[len(clip) for clip in part] for part in parts] == [trained_on, held]


@pytest.mark.parametrize("lengths", [[], [9], [4, 4]])
def test_too_little_footage_is_refused(lengths):
    clips = [np.zeros((n, 1, 16, 24), np.uint8) for n in lengths]
    with pytest.raises(OddwatchError, match=r"too little normal footage.*need clips of 10 frames and more"):
        Training(clips, UNET, seed=1)


def test_clips_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"uint8 \(T, 1, 16, 24\), got \(20, 1, 16, 16\)"):
        Training([np.zeros((20, 1, 16, 16), np.uint8)], UNET, seed=1)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seed": 2}, "seed"),
        ({"clips": CLIPS[:2]}, "data"),
        ({"settings": replace(UNET, rate=1e-3)}, "settings"),
    ],
)
def test_another_training_cannot_be_resumed(changes, what):
    progress = Training(CLIPS, UNET, seed=1).progress()
    with pytest.raises(CheckpointError, match=f"other {what}"):
        trained(resume=progress, **changes)
    with pytest.raises(CheckpointError, match="cannot resume from a 'future_frame' checkpoint"):
        trained(resume=trained(steps=1))


def test_a_checkpoint_says_what_it_was_trained_on():
    training = trained().meta["training"]
    assert (training["seed"], training["steps"]) == (1, 6)
    assert training["settings"]["weights"] == {"intensity": 1, "gradient": 1, "flow": 2, "adversarial": 0.05}
    assert training["data"] != trained(clips=CLIPS[::-1]).meta["training"]["data"]


def test_the_papers_sizes_are_at_hand():
    assert paper_settings().form.height == 256
    assert make_network(paper_settings().network).config.widths == (64, 128, 256, 512)
    with pytest.raises(ValueError, match="multiples of 8, got 100"):
        replace(paper_settings(), form=replace(paper_settings().form, height=100))
