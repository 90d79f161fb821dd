"""RTFM streamed through its stages: equal to the whole video at once, and causal where it says so. A few seconds."""

import numpy as np
import pytest
import torch
from dense_makers import checkpoint_of, features, run_cameras, seed_weights
from places import DATA

from stages.errors import CheckpointError, ConfigError
from stages.messages import Prior
from stages.temporal.registry import build_model
from stages.temporal.weak.rtfm import LOOKAHEAD, REACH, RTFM, RTFMConfig, score_video

D = 5


def make(mode, window=16, dim=D, seed=1):
    """A network in which every branch works, and its stage."""
    config = RTFMConfig(input_dim=dim, mode=mode, window=window)
    net = seed_weights(RTFM(config), seed).eval()
    return net, build_model("rtfm", "rtfm", checkpoint_of("rtfm", net, config))


def streamed(stage, x, seed=0):
    """Scores (T,) of one video (T, D)."""
    return np.array([s.raw[0] for s in run_cameras(stage, {"cam": x}, np.random.default_rng(seed))["cam"]])


def at_once(net, x):
    return score_video(net, torch.from_numpy(x).float()[None]).numpy()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", ["lookahead", "causal"])
def test_streaming_cameras_in_random_batches_gives_the_scores_of_whole_videos(mode, seed):
    rng = np.random.default_rng(seed)
    net, stage = make(mode, window=int(rng.integers(1 if mode == "causal" else 2 * LOOKAHEAD + 1, 40)), seed=seed)
    videos = {f"cam{i}": np.abs(rng.normal(size=(int(rng.integers(1, 60)), D))) for i in range(4)}
    for camera, scores in run_cameras(stage, videos, rng).items():
        assert [s.seq for s in scores] == list(range(len(videos[camera])))
        np.testing.assert_allclose([s.raw[0] for s in scores], at_once(net, videos[camera]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("snippets", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("mode", ["lookahead", "causal"])
def test_short_videos_are_scored_to_the_end(mode, snippets):
    net, stage = make(mode)
    x = np.random.default_rng(snippets).random((snippets, D))
    np.testing.assert_allclose(streamed(stage, x), at_once(net, x), rtol=1e-5)


def test_lookahead_scores_are_those_of_the_published_network_on_windows():
    golden = np.load(DATA / "golden_rtfm_stream.npz")
    net, stage = make("lookahead", window=32, dim=64, seed=20210)
    crops = {f"crop{i}": x for i, x in enumerate(golden["x"][0])}
    scores = run_cameras(stage, crops, np.random.default_rng(0))
    mean = np.mean([[s.raw[0] for s in scores[crop]] for crop in crops], axis=0)
    np.testing.assert_allclose(mean[:55], golden["window32_lookahead5"], rtol=1e-5)
    last = net(torch.from_numpy(golden["x"][:, :, -32:])).scores[0, -5:].detach()
    np.testing.assert_allclose(mean[55:], last, rtol=1e-5)
    offline = net(torch.from_numpy(golden["x"])).scores[0].detach()
    np.testing.assert_allclose(offline, golden["offline_scores"], rtol=1e-5)


def test_a_later_snippet_never_changes_an_earlier_causal_score():
    net, stage = make("causal", window=7)
    x = np.random.default_rng(3).random((30, D))
    before, offline = streamed(stage, x), at_once(net, x)
    for t in (1, 12, 29):
        changed = x.copy()
        changed[t:] += 1
        after = streamed(stage, changed)
        np.testing.assert_array_equal(after[:t], before[:t])
        assert after[t] != before[t]
        np.testing.assert_allclose(at_once(net, changed)[:t], offline[:t], rtol=1e-6)


@pytest.mark.parametrize("window", [1, 7, 20])
def test_a_causal_score_forgets_what_left_its_window(window):
    _, stage = make("causal", window=window)
    x = np.random.default_rng(4).random((40, D))
    before = streamed(stage, x)
    changed = x.copy()
    changed[10] += 1
    reach = 2 + max(REACH, window - 1)  # the last convolution sees two earlier rows
    moved = np.flatnonzero(streamed(stage, changed) != before)
    assert moved[0] == 10
    assert moved[-1] == 10 + reach


def test_a_lookahead_score_sees_five_snippets_ahead_and_no_more():
    _, stage = make("lookahead", window=14)
    x = np.random.default_rng(5).random((40, D))
    changed = x.copy()
    changed[20] += 1
    moved = np.flatnonzero(np.abs(streamed(stage, changed) - streamed(stage, x)) > 1e-7)
    assert moved[0] == 20 - LOOKAHEAD
    assert moved[-1] == 20 + 14 - 1 - LOOKAHEAD


def test_a_lookahead_score_comes_late_with_the_header_of_its_own_snippet():
    _, stage = make("lookahead")
    rng = np.random.default_rng(6)
    prior = Prior(run_ms=5, frames=9, down_s=0.5)
    sent = [features(rng.random(D), seq=t, thumb=b"%d" % t, prior=prior, live=True) for t in range(8)]
    state, came = {}, []
    for message in sent:
        [(out, state)] = stage.process([(message, state)])
        came.append(out)
    assert [[s.seq for s in out] for out in came] == [[], [], [], [], [], [0], [1], [2]]
    owed, state = stage.finish(state)
    assert state == {}
    scores = [s for out in came for s in out] + owed
    assert [s.lookahead_frames for s in scores] == [80, 80, 80, 64, 48, 32, 16, 0]
    for score, message in zip(scores, sent, strict=True):
        header = message.header()
        assert (score.id, score.thumb, score.prior, score.live) == (message.id, message.thumb, prior, True)
        np.testing.assert_array_equal(score.times_s, header["times_s"])
        np.testing.assert_array_equal(score.picked, header["picked"])
    assert stage.finish({}) == ([], {})


@pytest.mark.parametrize("mode", ["lookahead", "causal"])
def test_what_is_remembered_does_not_grow_with_the_video(mode):
    _, stage = make(mode, window=12)
    x = np.random.default_rng(7).random((90, D))
    state, sizes = {}, []
    for t, row in enumerate(x):
        [(_, state)] = stage.process([(features(row, seq=t % 10), state)])
        sizes.append(sum(array.nbytes for array in state.values()))
    assert sizes[-1] == sizes[29]


def test_a_whole_video_checkpoint_is_refused_as_a_stream():
    config = RTFMConfig(input_dim=D, mode="paper")
    with pytest.raises(CheckpointError, match="needs whole videos"):
        build_model("rtfm", "rtfm", checkpoint_of("rtfm", RTFM(config), config))


def test_without_a_checkpoint_the_user_learns_how_to_train_one():
    with pytest.raises(ConfigError, match="rtfm needs --model CKPT; train one with 'oddwatch train rtfm"):
        build_model("rtfm", "rtfm")


@pytest.mark.parametrize("mode", ["lookahead", "causal"])
def test_features_it_was_not_trained_on_are_refused(mode):
    _, stage = make(mode)
    with pytest.raises(CheckpointError, match=r"sends 'motion@11'.*train rtfm --features motion"):
        stage.process([(features(np.ones(D), extractor="motion@11"), {})])
    with pytest.raises(ValueError, match="not finite"):
        stage.process([(features(np.full(D, np.nan)), {})])
    assert stage.process([]) == []
