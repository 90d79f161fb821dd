"""Training of future-frame predictors on a tiny made clip: it learns, resumes, and repeats. Some seconds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from frame_makers import FORM, clip, moving, streamed

from stages.errors import CheckpointError, OddwatchError
from stages.files.checkpoint import load_checkpoint, save_checkpoint
from stages.messages import REFERENCE_LEVELS
from stages.temporal.future_frame.conv_transformer import ConvTransformerConfig
from stages.temporal.future_frame.format import to_unit
from stages.temporal.future_frame.scorer import Squares
from stages.temporal.future_frame.stage import PLACE_SUMS
from stages.temporal.future_frame.unet import LossWeights, UNetConfig
from stages.temporal.registry import build_model
from stages.training.future_frame.footage import hold_out
from stages.training.future_frame.settings import STEPS, TrainSettings, preset
from stages.training.future_frame.step import Critic, make_critics, make_network, train_step
from stages.training.future_frame.train import Budget, Training, train

UNET = TrainSettings(
    network=UNetConfig(channels=1, widths=(4, 8, 8)),
    form=FORM,
    weights=LossWeights(),
    critic_widths=(4, 6, 8),
    batch=2,
    rate=5e-3,
    score="picture",
)
TRANSFORMER = replace(UNET, network=ConvTransformerConfig(channels=1, widths=(4, 8, 8), heads=2, head_width=3))
CLIPS = [clip(moving(20, seed), str(seed)) for seed in range(3)]
BOTH = pytest.mark.parametrize("settings", [UNET, TRANSFORMER], ids=["unet", "conv_transformer"])


def trained(settings=UNET, steps=6, clips=CLIPS, seed=1, **kwargs):
    return train(clips, settings, Budget(steps=steps), seed=seed, **kwargs)[0]


def same(one, two):
    return all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays.keys() | two.arrays.keys())


def test_the_odd_thing_is_odder_after_training():
    settings = replace(UNET, score="square", weights=LossWeights(adversarial=0, flow=0.2))
    pixels = moving(11, 1)
    pixels[9:, 20:28, 4:12] = 0  # something appears where nothing was
    after, before = (
        streamed(build_model("future_frame", "ff", trained(settings, steps=n)), pixels, [pixels]) for n in (120, 1)
    )
    assert after[9] > after[4:9].max() + 10
    assert after[4:9].max() < before[4:9].max() - 10


@BOTH
def test_a_resumed_training_ends_as_one_that_was_not_interrupted(settings, tmp_path):
    whole, looks = train(CLIPS, settings, Budget(steps=6), seed=1)

    def die(progress):
        save_checkpoint(tmp_path / "progress.ckpt", progress)
        if progress.meta["steps"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(settings, keep=die)
    start = load_checkpoint(tmp_path / "progress.ckpt")
    resumed, its_looks = train(CLIPS, settings, Budget(steps=6), seed=1, resume=start)
    assert same(resumed, whole)
    assert resumed.meta == whole.meta
    assert its_looks == looks
    assert [look.steps for look in looks] == [1, 2, 3, 4, 5, 6]
    assert not same(trained(settings, steps=3), whole)


def test_a_look_at_the_result_on_the_way_changes_nothing():
    def look(_, training):
        training.look()
        training.result()
        training.progress()

    assert same(trained(report=look), trained())


def test_looks_are_spread_over_a_long_training_and_see_it_get_better():
    _, looks = train(CLIPS, UNET, Budget(steps=120), seed=1)
    assert [look.steps for look in looks] == list(range(3, 121, 3))
    assert looks[-1].psnr_db > looks[0].psnr_db + 5
    assert looks[-1].loss < looks[0].loss


def test_a_training_by_the_clock_ends_by_the_clock(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr("stages.training.future_frame.train.time.monotonic", lambda: float(next(ticks)))
    parts = []
    checkpoint, _ = train(
        CLIPS, UNET, Budget(seconds=5), seed=1, report=lambda part, training: parts.append((part, training.steps))
    )
    assert parts == [(0.2, 1), (0.4, 2), (0.6, 3), (0.8, 4), (1.0, 5)]
    assert checkpoint.meta["training"]["steps"] == 5
    begun = Training(CLIPS, UNET, seed=1)
    begun.spent_s = 3.0
    rest, _ = train(CLIPS, UNET, Budget(seconds=5), seed=1, resume=begun.progress())
    assert rest.meta["training"]["steps"] == 2  # the time before counts


@pytest.mark.parametrize("given", [{}, {"steps": 3, "seconds": 3.0}, {"seconds": -1.0}])
def test_a_budget_is_steps_or_seconds(given):
    with pytest.raises(ValueError, match="either steps or seconds"):
        Budget(**given)


@BOTH
def test_half_precision_learns_as_well(settings):
    checkpoint, looks = train(CLIPS, replace(settings, mixed=True), Budget(steps=20), seed=1)
    assert looks[-1].psnr_db > looks[0].psnr_db + 1
    assert all(array.dtype in (np.float32, np.int64) for array in checkpoint.arrays.values())
    assert not same(checkpoint, trained(settings, steps=20))


def test_by_default_squares_are_judged_by_place():
    settings = replace(UNET, score="place", weights=LossWeights(adversarial=0))
    checkpoint = trained(settings, steps=40)
    assert checkpoint.meta["score"]["by"] == "place"
    assert checkpoint.arrays[PLACE_SUMS].shape == (3, *Squares.of_height(16).grid(16, 24))
    assert checkpoint.arrays[PLACE_SUMS][0].sum() > 0
    pixels = moving(22, 1)
    pixels[12::2, 4:28, 8:40] = 255 - pixels[12::2, 4:28, 8:40]  # flickers
    raw = streamed(build_model("future_frame", "ff", checkpoint), pixels, [pixels])
    assert raw[14:].min() > raw[4:12].max()


def test_footage_in_which_nothing_moves_is_refused_by_place_alone():
    still = [clip(np.repeat(moving(1), 20, 0), str(n)) for n in range(2)]
    with pytest.raises(OddwatchError, match=r"nothing moves.*--score picture"):
        trained(replace(UNET, score="place"), clips=still, steps=1)
    assert trained(clips=still, steps=1).meta["score"] == {"by": "picture", "patch_px": 0}


@pytest.mark.parametrize("score", ["picture", "place"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_rate_that_leads_astray_is_named(score, steps):
    with pytest.raises(OddwatchError, match=r"lower --learning-rate than 1e\+30"):
        trained(replace(UNET, rate=1e30, score=score), steps=steps)


@BOTH
@pytest.mark.parametrize("score", ["picture", "place"])
def test_the_end_looks_at_footage_in_pieces_and_finds_the_same(settings, score, monkeypatch):
    whole = trained(replace(settings, score=score))
    monkeypatch.setattr("stages.training.future_frame.train.PIECE_FRAMES", 3)
    pieces = trained(replace(settings, score=score))
    assert same(whole, pieces)
    assert whole.meta["reference"] == pieces.meta["reference"]


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

    Critic(net, None, True).realness(past, frame)
    assert shapes[0].shape == (2, 1, 5, 16, 24)
    assert shapes[0][:, :, -1].min() == 1
    assert shapes[0][:, :, :-1].max() == 0
    assert make_critics(replace(TRANSFORMER, weights=LossWeights(adversarial=0))) == []


def test_steps_on_one_batch_lower_its_loss():
    generator = make_network(UNET.network)
    optimiser = torch.optim.Adam(generator.parameters(), 5e-3)
    windows = to_unit(np.stack([CLIPS[0].frames[:5], CLIPS[1].frames[3:8]]))
    weights = LossWeights(adversarial=0)
    losses = [train_step(generator, optimiser, [], windows[:, :-1], windows[:, -1], weights).total for _ in range(40)]
    assert losses[-1] < losses[0] / 2


def test_the_rates_fall_to_a_tenth_near_the_end():
    training = Training(CLIPS, UNET, seed=1)
    for done, rate in ((0.79, 5e-3), (0.8, 5e-4)):
        training.step(done)
        assert training.optimiser.param_groups[0]["lr"] == pytest.approx(rate)
        assert training.critics[0].optimiser.param_groups[0]["lr"] == pytest.approx(rate * 2e-5 / 5e-3)


@pytest.mark.parametrize("score", ["picture", "place"])
def test_the_reference_is_made_of_scores_of_footage_that_was_held_out(score):
    settings = replace(UNET, score=score)
    clips = [clip(moving(12, seed), f"{seed:02}") for seed in range(5)]
    checkpoint = trained(settings, clips=clips)
    other = [*clips[:3], clip(moving(12, 9), "03"), clips[4]]
    changed = trained(settings, clips=other)  # what is held out teaches nothing
    assert all(np.array_equal(changed.arrays[k], a) for k, a in checkpoint.arrays.items() if k != PLACE_SUMS)
    assert changed.meta["reference"] != checkpoint.meta["reference"]
    if score == "picture":
        pixels = moving(12, 3)
        scores = streamed(build_model("future_frame", "ff", checkpoint), pixels, [pixels])[4:]
        np.testing.assert_allclose(checkpoint.meta["reference"], np.quantile(scores, REFERENCE_LEVELS), rtol=1e-5)


def blank(frames, group):
    return clip(np.zeros((frames, 4, 4, 3), np.uint8), group)


@pytest.mark.parametrize(
    ("lengths", "trained_on", "held"),
    [
        pytest.param([10] * 5, [10] * 4, [10], id="whole clips"),
        pytest.param([80, 24], [60, 18], [20, 6], id="the end of each"),
        pytest.param([80, 7], [60], [20, 5], id="a clip too short to train on"),
    ],
)
def test_a_quarter_of_the_footage_is_held_out(lengths, trained_on, held):
    parts = hold_out([blank(n, str(i)) for i, n in enumerate(lengths)], 5)
    assert [[len(c) for c in part] for part in parts] == [trained_on, held]


def test_clips_of_one_group_are_on_one_side():
    clips = [blank(10, group) for group in "abcdabcd"]
    parts = hold_out(clips, 5)
    assert [[c.group for c in part] for part in parts] == [list("abcabc"), list("dd")]


@pytest.mark.parametrize("lengths", [[], [9], [4, 4]])
def test_too_little_footage_is_refused(lengths):
    with pytest.raises(OddwatchError, match=r"too little normal footage.*need clips of 10 frames and more"):
        Training([blank(n, str(n)) for n in lengths], UNET, seed=1)


def test_clips_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"uint8 \(T, 1, 16, 24\), got \(20, 1, 32, 48\)"):
        Training([clip(moving(20), form=replace(FORM, height=32, width=48))], UNET, seed=1)


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
    with pytest.raises(CheckpointError, match="other seed"):
        trained(resume=replace(progress, meta={}))
    with pytest.raises(CheckpointError, match="cannot resume from a 'future_frame' checkpoint"):
        trained(resume=trained(steps=1))


def test_a_checkpoint_says_what_it_was_trained_on():
    training = trained().meta["training"]
    assert (training["seed"], training["steps"]) == (1, 6)
    assert training["settings"]["weights"] == {"intensity": 1, "gradient": 1, "flow": 2, "adversarial": 0.05}
    assert training["data"] != trained(clips=CLIPS[::-1]).meta["training"]["data"]


def test_the_papers_sizes_are_at_hand():
    paper = preset("paper")
    assert (paper.form.height, paper.form.order, paper.score) == (256, "bgr", "picture")
    assert (paper.weights, paper.rate, paper.critic_rate, paper.batch) == (LossWeights(), 1e-4, 1e-5, 4)
    assert make_network(paper.network).config.widths == (64, 128, 256, 512)
    with pytest.raises(ValueError, match="multiples of 8, got 100"):
        replace(paper, form=replace(paper.form, height=100))


@pytest.mark.parametrize("size", STEPS)
def test_a_size_is_there_for_both_networks(size):
    plain, attending = preset(size), preset(size, "conv_transformer")
    assert (plain.arch, attending.arch) == ("unet", "conv_transformer")
    assert plain.form == attending.form
    assert make_network(attending.network).config.channels == attending.form.channels
