"""Fitting novelty on made features."""

from __future__ import annotations

from dataclasses import replace

import pytest
from novelty_makers import clip, raw, snippet, watch

from stages.errors import OddwatchError
from stages.files.checkpoint import save_checkpoint
from stages.temporal.novelty import fit_checkpoint as fit
from stages.temporal.novelty.fit_checkpoint import fit_novelty, in_folds
from stages.temporal.registry import build_model


def test_the_same_footage_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, fit_novelty(clip(s, 3) for s in range(4)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_footage_has_another_fingerprint():
    prints = {fit_novelty([clip(s)]).meta["training_data"] for s in (1, 2)}
    assert len(prints) == 2


def test_the_checkpoint_says_what_it_was_fitted_on():
    meta = fit_novelty((clip(s, 3) for s in range(4)), {"analysis_height": 240}).meta
    assert (meta["extractor"], meta["clips"], meta["frames"], meta["fps"]) == ("made@1", 4, 192, 10.0)
    assert (meta["dim"], meta["grid"], meta["features"]) == (11, [12, 20], "sparse")
    assert meta["preprocessing"] == {"analysis_height": 240}
    assert len(meta["reference"]) == 19


@pytest.mark.parametrize("clips", [1, 5])
def test_any_number_of_clips_makes_a_model_that_tells_riders_from_walkers(clips):
    model = build_model("novelty", "odd", fit_novelty(clip(s, 24 // clips) for s in range(clips)))
    usual, _ = watch(model, clip(90))
    odd, _ = watch(model, [snippet(i, 90, rider=True) for i in range(2)])
    assert raw(odd)[5:].min() > max(usual[0].reference[-1], raw(usual).max())


def test_the_reference_is_of_held_out_footage():
    # One clip has a rider: seen in training, but in no other part of the footage.
    clips = [clip(s, 3) for s in range(4)] + [[snippet(i, 4, rider=True) for i in range(3)]]
    checkpoint = fit_novelty(clips)
    scores, _ = watch(build_model("novelty", "odd", checkpoint), clips[-1])
    assert checkpoint.arrays["reference"][-1] > raw(scores).max() + 1


def test_clips_are_folds_and_few_clips_are_cut_by_time():
    whole, few = in_folds([clip(s, 2) for s in range(5)]), in_folds([clip(0, 8)])
    assert [p.fold for p in whole] == [0, 0, 1, 1, 2, 2, 3, 3, 0, 0]
    assert [p.fold for p in few] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_long_footage_is_thinned_evenly_to_fit_in_memory(monkeypatch):
    monkeypatch.setattr(fit, "HELD", 3_000)
    held, note = fit.gather([clip(0, 8), clip(1, 8)])
    assert [[f.seq for f in kept] for kept in held] == [[0, 4], [0, 4]]
    assert note["frames"] == 256


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        pytest.param([], "0 frames, need at least 32", id="nothing"),
        pytest.param([clip(0, 1)], "16 frames, need at least 32", id="too short"),
        pytest.param([clip(0, 8, walkers=0)], "0 active cells in 128 frames", id="nothing moves"),
        pytest.param([[snippet(i, 0, walkers=4 * (i == 7)) for i in range(8)]], "motion all along", id="moves once"),
        pytest.param([clip(0), [replace(snippet(0, 1), extractor="made@2")]], "made@1 and made@2", id="mixed"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_a_way_out(clips, message):
    with pytest.raises(OddwatchError, match=message):
        fit_novelty(clips)
