"""The adaptive novelty model on motion that comes late, in bursts, hardly or in masses: it never fails. 25 s."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from novelty_makers import GRID, features, snippet, watch

from pipeline.bus.codec import decode_state, encode_state
from stages.temporal.novelty.warmup import HELD_CELLS, MOST_CELLS, collect, enough, fit_collected
from stages.temporal.registry import build_model

FPS = 5.0
CELLS = GRID[0] * GRID[1]


def moving(index: int, counts: np.ndarray):
    """Snippet `index`, 3.2 s, with so many moving cells in each of its 16 frames, anywhere."""
    draw = np.random.default_rng([index, int(np.sum(counts))])
    at = np.concatenate([np.sort(draw.choice(CELLS, n, replace=False)) for n in counts])
    cells = np.column_stack([np.repeat(np.arange(16), counts), at // GRID[1], at % GRID[1]]).astype(np.int16)
    values = draw.normal(1, 0.2, (len(at), 11)).astype(np.float32)
    return features(index, values, cells, extractor="motion@made", fps=FPS)


def through_redis(state):
    fields = encode_state(state)
    return decode_state({k.encode(): v if isinstance(v, bytes) else v.encode() for k, v in fields.items()})


def nothing(index, draw):
    return np.zeros(16, int)


def all_the_time(index, draw):
    return draw.integers(200, CELLS, 16)


def one_cell(index, draw):
    return np.ones(16, int)


def flicker(index, draw):
    return (draw.random(16) < 0.02).astype(int)


def after_five_minutes(index, draw):
    return draw.integers(10, 60, 16) * (index >= 100)


def after_an_hour(index, draw):
    return draw.integers(10, 60, 16) * (index >= 1_130)


def in_bursts(index, draw):
    return draw.integers(0, 150, 16) * (index % 40 < 2)


def one_frame_a_minute(index, draw):
    return np.where(np.arange(16) == 7, CELLS, 0) * (index % 20 == 0)


def at_random(index, draw):
    return draw.integers(0, 100, 16) * (draw.random(16) < draw.choice([0.0, 0.1, 0.9])) * (index // 50 % 3 != 1)


LEARNT_AFTER = {
    nothing: None,
    all_the_time: 15,
    one_cell: 200,
    flicker: None,
    after_five_minutes: 115,
    after_an_hour: 1_145,
    in_bursts: 300,
    one_frame_a_minute: None,
    at_random: 100,
}
"""Snippets after which what moves must be known; None: too little ever moves."""


@pytest.mark.parametrize("motion", LEARNT_AFTER, ids=lambda motion: motion.__name__)
def test_whatever_moves_and_whenever_every_snippet_is_scored_in_bounded_memory(motion):
    model, state, learnt_after = build_model("novelty", "own"), {}, None
    draw = np.random.default_rng(3)
    for i in range((LEARNT_AFTER[motion] or 400) + 20):
        [([scores], state)] = model.process([(moving(i, motion(i, draw)), state)])
        assert np.isfinite(scores.raw).all()
        assert np.isfinite(scores.reference).all()
        if learnt_after is None and "bank" in state:
            learnt_after = i + 1
        state = through_redis(state if draw.random() > 0.02 else model.finish(state)[1])
        assert sum(a.nbytes for a in state.values()) < 1_000_000
    assert not scores.provisional, "known, or known to be a still place"
    if LEARNT_AFTER[motion] is None:
        assert learnt_after is None
    else:
        assert learnt_after <= LEARNT_AFTER[motion]


@pytest.mark.parametrize("seed", range(4))
def test_random_activity_never_fails(seed):
    model, state = build_model("novelty", "own"), {}
    draw = np.random.default_rng([8, seed])
    left, most = 0, 0
    for i in range(300):
        if left == 0:  # a spell of quiet, of a little, of some or of much motion
            left, most = int(draw.integers(1, 60)), int(draw.choice([0, 0, 1, 8, 60]))
        left -= 1
        [([scores], state)] = model.process([(moving(i, draw.integers(0, most + 1, 16)), state)])
        assert np.isfinite(scores.raw).all()
        state = through_redis(state if draw.random() > 0.05 else model.finish(state)[1])
        assert sum(a.nbytes for a in state.values()) < 1_000_000
    assert "bank" in state


def test_motion_after_a_long_quiet_teaches_the_same_as_motion_at_once():
    def taught(quiet: int) -> tuple:
        state: dict = {}
        for i in range(quiet + 12):
            f = replace(snippet(i - quiet, 5) if i >= quiet else moving(i, nothing(i, None)), extractor="motion@made")
            clock_s = (i * 16 + np.arange(16)) / 10
            state |= collect(f, clock_s, state) | {"clock_s": clock_s[-1:].reshape(())}
        return state, fit_collected(state, GRID)[0]

    (late, after_quiet), (early, at_once) = taught(4_000), taught(0)
    assert late["frames"] == early["frames"] == len(late["counts"])
    for name, array in at_once.items():
        assert np.allclose(after_quiet[name], array, atol=1e-5), name


def test_a_time_lapse_needs_as_many_frames_and_one_long_step_is_no_twenty_seconds():
    busy = moving(0, np.full(16, 240))
    hourly = collect(busy, np.arange(16) * 3_600.0, {})
    assert hourly["moved_s"] == 15
    assert not enough(hourly)


def test_frames_with_more_cells_than_can_be_held_are_thinned_and_still_teach():
    grid = (120, 120)
    at = np.arange(grid[0] * grid[1])
    state: dict = {}
    for i in range(12):
        cells = np.column_stack(
            [np.repeat(np.arange(16), len(at)), np.tile(np.column_stack(np.divmod(at, 120)), (16, 1))]
        )
        values = np.random.default_rng(i).normal(1, 0.2, (len(cells), 2)).astype(np.float32)
        f = replace(features(i, values, cells.astype(np.int16), extractor="motion@made"), grid=grid)
        clock_s = (i * 16 + np.arange(16)) / 8
        state |= collect(f, clock_s, state) | {"clock_s": clock_s[-1:].reshape(())}
        assert len(state["values"]) <= HELD_CELLS
        assert state["counts"].max() <= MOST_CELLS
    assert enough(state)
    assert np.isfinite(fit_collected(state, grid)[0]["reference"]).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_first_scores_after_the_warm_up_are_pooled_like_those_after_them(seed):
    run = [replace(snippet(i, seed), extractor="motion@made") for i in range(40)]
    scores, _ = watch(build_model("novelty", "own"), run)
    known = [s for s in scores if not s.provisional]
    first, later = known[0].raw[:3], np.concatenate([s.raw for s in known[:4]])[16:]
    assert first.max() < later.max() + later.std()
