"""The novelty model on made features: fitted, dense, and adaptive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from novelty_makers import clip, features, raw, snippet, watch

from stages.errors import CheckpointError
from stages.files.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stages.messages import REFERENCE_LEVELS
from stages.temporal.novelty.fit_checkpoint import fit_novelty
from stages.temporal.novelty.oddness import kcentre, mean_distance, pool, weight
from stages.temporal.registry import build_model


@pytest.fixture(scope="module")
def fitted() -> Checkpoint:
    return fit_novelty(clip(seed) for seed in range(5))


def test_a_walker_is_normal_and_a_rider_is_beyond_all_normal_footage(fitted):
    model = build_model("novelty", "odd", fitted)
    scores, _ = watch(model, [snippet(i, 77, rider=i == 3) for i in range(6)])
    highest = scores[0].reference[-1]
    assert raw(scores[:3]).max() < highest + 0.5
    assert scores[3].raw[4:].min() > highest + 1
    assert scores[5].raw[-1] < highest + 0.5


def test_the_same_motion_is_odd_where_nobody_walks(fitted):
    model = build_model("novelty", "odd", fitted)
    usual = clip(77, 1)[0]
    elsewhere = replace(usual, cells=(usual.cells - np.array([0, 4, 0])).astype(np.int16))
    assert raw(watch(model, [usual])[0]).mean() < fitted.arrays["reference"][-1]
    assert raw(watch(model, [elsewhere])[0]).min() > fitted.arrays["reference"][-1]


def test_scores_carry_the_header_the_hash_and_a_rising_reference(fitted):
    model = build_model("novelty", "odd", fitted)
    [scores], _ = watch(model, clip(8, 1))
    assert (scores.model, scores.model_hash, scores.provisional) == ("odd", model.hash, False)
    assert (scores.camera, scores.id, len(scores.raw)) == ("yard", "1-0", 16)
    assert np.all(np.diff(scores.reference) >= 0)
    assert scores.lookahead_frames == 0


def test_frames_without_motion_score_the_least(fitted):
    model = build_model("novelty", "odd", fitted)
    still = snippet(0, 1, walkers=0)
    assert watch(model, [still])[0][0].raw == pytest.approx(-1)


def test_how_frames_are_cut_into_snippets_changes_no_score(fitted):
    model = build_model("novelty", "odd", fitted)
    whole = clip(9, 2)
    parts = [part for f in whole for part in (cut(f, 0, 5), cut(f, 5, 16))]
    assert np.array_equal(raw(watch(model, whole)[0]), raw(watch(model, parts)[0]))


def cut(f, a: int, b: int):
    own = (f.cells[:, 0] >= a) & (f.cells[:, 0] < b)
    return replace(
        f,
        first_frame=f.first_frame + a,
        times_s=f.times_s[a:b],
        picked=np.arange(b - a, dtype=np.int32),
        values=f.values[own],
        cells=(f.cells[own] - np.array([a, 0, 0])).astype(np.int16),
    )


def test_after_finish_a_run_scores_as_if_it_were_the_first(fitted):
    model = build_model("novelty", "odd", fitted)
    _, state = watch(model, [snippet(0, 1, rider=True)])
    _, state = model.finish(state)
    assert np.array_equal(raw(watch(model, clip(3, 1), state)[0]), raw(watch(model, clip(3, 1))[0]))


def test_a_camera_is_scored_alike_whoever_else_is_in_the_batch(fitted):
    model = build_model("novelty", "odd", fitted)
    mine, other = snippet(0, 1), snippet(0, 2, rider=True)
    [([alone], _)] = model.process([(mine, {})])
    [_, ([beside], _)] = model.process([(other, {}), (mine, {})])
    assert np.array_equal(alone.raw, beside.raw)


def test_a_wider_picture_than_was_fitted_is_scored_all_the_same(fitted):
    model = build_model("novelty", "odd", fitted)
    wide = replace(clip(3, 1)[0], grid=(12, 30))
    wide = replace(wide, cells=(wide.cells + np.array([0, 0, 10])).astype(np.int16))
    assert np.isfinite(raw(watch(model, [wide])[0])).all()


def test_a_saved_model_scores_the_same(fitted, tmp_path):
    save_checkpoint(tmp_path / "yard.ckpt", fitted)
    model = build_model("novelty", "odd", load_checkpoint(tmp_path / "yard.ckpt", "novelty"))
    fresh = build_model("novelty", "odd", fitted)
    assert np.array_equal(raw(watch(model, clip(3))[0]), raw(watch(fresh, clip(3))[0]))


def test_features_of_another_extractor_are_refused_by_name(fitted):
    model = build_model("novelty", "odd", fitted)
    with pytest.raises(CheckpointError, match=r"made@1 features, got made@2: .*oddwatch fit"):
        watch(model, [replace(snippet(0, 1), extractor="made@2")])


def test_a_checkpoint_of_an_older_motion_extractor_is_refused_at_once(fitted):
    old = replace(fitted, meta=fitted.meta | {"extractor": "motion@00000000"})
    with pytest.raises(CheckpointError, match=r"motion@00000000 .*this version makes motion@.*fit again"):
        build_model("novelty", "odd", old)


@pytest.mark.parametrize("lost", ["bank", "reference", "ground"])
def test_a_checkpoint_that_is_not_whole_is_refused(fitted, lost):
    arrays = {name: array for name, array in fitted.arrays.items() if name != lost}
    with pytest.raises(CheckpointError, match=f"missing .*{lost}"):
        build_model("novelty", "odd", replace(fitted, arrays=arrays))


def dense_clip(seed: int, shift: float = 0.0):
    draw = np.random.default_rng(seed)
    return [features(i, (draw.normal(0, 1, 32) + shift).astype(np.float32)) for i in range(10)]


def test_dense_features_are_scored_by_snippet():
    model = build_model("novelty", "odd", fit_novelty(dense_clip(s) for s in range(6)))
    usual, _ = watch(model, dense_clip(50))
    odd, _ = watch(model, dense_clip(51, shift=4))
    assert raw(odd).min() > usual[0].reference[-1]
    assert np.median(raw(usual)) == pytest.approx(usual[0].reference[7], abs=0.7)
    assert np.all(odd[0].raw == odd[0].raw[0])


def test_the_bank_covers_everything_and_leaves_out_repeats():
    samples = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    chosen = kcentre(np.concatenate([samples[:40], samples[:40]]), 80)
    assert len(chosen) == len(set(chosen % 40)) == 40
    few = samples[kcentre(samples, 60)]
    random = samples[:60]
    reach = [np.sqrt(((samples[:, None] - b) ** 2).sum(2)).min(1).max() for b in (few, random)]
    assert reach[0] < reach[1]


@pytest.mark.parametrize("dim", [5, 13, 1024])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-4, 0), (1e4, 0), (1, 30)])
def test_repeats_are_at_distance_zero_whatever_the_processor_and_the_scale(dim, scale, offset):
    """Squares minus products do not cancel in float32, how far depends on the kernel that BLAS picks."""
    samples = (np.random.default_rng(2).normal(size=(60, dim)) * scale + offset).astype(np.float32)
    chosen = kcentre(np.concatenate([samples, samples, samples[:7]]), 150)
    assert sorted(chosen % 60) == list(range(60))
    thrice = np.repeat(samples, 3, axis=0)
    assert mean_distance(samples, thrice).tolist() == [0.0] * 60
    apart = mean_distance(samples[:30], thrice[90:])
    plain = np.sqrt(((samples[:30, None] - samples[30:].astype(np.float64)) ** 2).sum(2)).min(1)
    assert apart == pytest.approx(plain, rel=2e-2)


def test_distance_is_the_mean_to_the_three_nearest():
    draw = np.random.default_rng(1)
    queries, bank = draw.normal(size=(7, 4)).astype(np.float32), draw.normal(size=(50, 4)).astype(np.float32)
    plain = np.sort(np.sqrt(((queries[:, None] - bank) ** 2).sum(2)), axis=1)[:, :3].mean(1)
    assert mean_distance(queries, bank) == pytest.approx(plain, rel=1e-3)
    assert mean_distance(queries, bank[:2]).shape == (7,)


@pytest.mark.parametrize(("step_s", "frames"), [(0.1, 5), (0.04, 12.5), (0.001, 30), (0.0, 30), (-1.0, 30), (9.0, 5)])
def test_the_moving_mean_spans_half_a_second_within_bounds(step_s, frames):
    assert weight(step_s) == pytest.approx(2 / (frames + 1))


def test_one_odd_frame_counts_less_than_a_lasting_one_and_one_cell_less_than_many():
    def peak(frames: int, cells: int) -> float:
        maps = np.full((20, 12, 20), -1, np.float32)
        maps[10 : 10 + frames, 5, 5 : 5 + cells] = 4
        return float(pool(maps, np.arange(20) / 10, {})[0].max())

    assert peak(1, 10) < peak(8, 10)
    assert peak(8, 1) < peak(8, 10)


def test_the_reference_levels_are_what_alerting_expects(fitted):
    assert fitted.arrays["reference"].shape == REFERENCE_LEVELS.shape


@pytest.mark.parametrize("cut", [10, 5])
@pytest.mark.parametrize("hole_s", [3600.0, 1.5])
def test_pooling_begins_anew_after_a_hole(hole_s: float, cut: int) -> None:
    maps = np.random.default_rng(1).normal(size=(20, 3, 4)).astype(np.float32)
    times_s = np.arange(20) / 25 + hole_s * (np.arange(20) >= 10)
    before, state = pool(maps[:cut], times_s[:cut], {})
    after, _ = pool(maps[cut:], times_s[cut:], state)

    alone, _ = pool(maps[10:], times_s[10:], {})
    assert np.concatenate([before, after])[10:] == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("step_s", [0.04, 3.0, 50.0])
def test_even_frames_are_pooled_however_slow(step_s: float) -> None:
    maps = np.ones((20, 3, 4), np.float32)
    maps[10:] = 0
    scores, _ = pool(maps, np.arange(20) * step_s, {})
    assert 0 < scores[11] < 1
