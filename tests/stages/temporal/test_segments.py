"""Segment pooling against the numbers of the published code. Well under a second."""

import numpy as np
import pytest
from dense_makers import relative_error
from places import DATA

from stages.temporal.weak.segments import pool_rtfm, pool_sultani, segments_to_frames, sultani_bounds, unit_rows

GOLDEN = np.load(DATA / "golden_pool_eval.npz")
LENGTHS = sorted(int(key[6:-2]) for key in GOLDEN.files if key.startswith("pool_") and key.endswith("/x"))


@pytest.mark.parametrize("clips", LENGTHS)
def test_sultani_segments_are_the_published_ones(clips):
    bounds = GOLDEN[f"pool_N{clips}/sultani_matlab_bounds_1based"] - 1
    bounds[:, 1] = np.maximum(bounds[:, 1], bounds[:, 0])
    np.testing.assert_array_equal(sultani_bounds(clips, paper=True), bounds)
    x = GOLDEN[f"pool_N{clips}/x"]
    assert relative_error(pool_sultani(x, paper=True), GOLDEN[f"pool_N{clips}/sultani_matlab_pool_l2"]) < 1e-6


@pytest.mark.parametrize("clips", LENGTHS)
def test_published_segment_scores_become_the_published_frame_scores(clips):
    scores, expected = (GOLDEN[f"pool_N{clips}/{key}"] for key in ("scores32", "sultani_expand_frames"))
    np.testing.assert_array_equal(segments_to_frames(scores, clips, 16 * clips, paper=True), expected)


@pytest.mark.parametrize("clips", LENGTHS)
def test_rtfm_segments_are_the_published_ones(clips):
    for segments in (32, 200):
        if (key := f"pool_N{clips}/rtfm_process_feat_{segments}") in GOLDEN.files:
            assert relative_error(pool_rtfm(GOLDEN[f"pool_N{clips}/x"], segments), GOLDEN[key]) < 1e-6


@pytest.mark.parametrize("clips", [1, 2, 17, 18, 33, 100])
def test_the_last_clip_counts_unless_the_paper_is_followed(clips):
    x = np.zeros((clips, 2))
    x[:, 0] = 1
    x[-1] = [0, 1]
    assert pool_sultani(x)[-1, 1] > 0
    assert (pool_sultani(x, paper=True)[:, 1].max() > 0) == (clips < 18)
    scores = np.linspace(0.1, 1, 32)
    assert segments_to_frames(scores, clips, 16 * clips + 7)[-8:] == pytest.approx(1)
    assert segments_to_frames(scores, clips, 16 * clips + 7, paper=True)[-8:] == pytest.approx(float(clips < 18))


def test_every_clip_lies_in_one_segment_of_a_long_video():
    bounds = sultani_bounds(1000)
    assert bounds[0, 0] == 0
    assert bounds[-1, 1] == 999
    np.testing.assert_array_equal(bounds[1:, 0], bounds[:-1, 1] + 1)


def test_rtfm_pools_each_crop_by_itself():
    x = np.random.default_rng(0).normal(size=(45, 10, 4))
    np.testing.assert_array_equal(pool_rtfm(x)[:, 3], pool_rtfm(x[:, 3]))


def test_an_empty_feature_stays_zero_and_an_empty_video_is_refused():
    np.testing.assert_array_equal(unit_rows(np.zeros((2, 3))), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="32 segments of 0 clips"):
        pool_sultani(np.zeros((0, 3)))
