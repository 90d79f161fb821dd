"""The novelty model without a checkpoint, on made features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from novelty_makers import features, raw, snippet, watch

from pipeline.bus.codec import decode_state, encode_state
from stages.errors import CheckpointError
from stages.temporal.novelty.warmup import HELD_CELLS, collect
from stages.temporal.registry import build_model


def motion(*args, **how):
    return replace(snippet(*args, **how), extractor="motion@made")


def model():
    return build_model("novelty", "own")


@pytest.fixture(scope="module")
def minute() -> list:
    return [motion(i, 5) for i in range(40)]


@pytest.fixture(scope="module")
def learnt(minute):
    return watch(model(), minute)


def test_scores_are_provisional_until_twenty_seconds_have_taught_what_is_normal(learnt):
    scores, _ = learnt
    provisional = [s.provisional for s in scores]
    known = provisional.index(False)
    assert scores[known].times_s[0] == pytest.approx(20.8)
    assert not any(provisional[known:])
    assert np.all(np.diff(scores[0].reference) >= 0)


def test_the_usual_stays_near_its_reference_and_a_rider_is_beyond_it(learnt):
    scores, state = learnt
    late = scores[16:]
    assert np.mean([s.raw > s.reference[-1] for s in late]) < 0.05
    [odd], _ = watch(model(), [motion(40, 5, rider=True)], state)
    assert odd.raw[5:].min() > odd.reference[-1] + 1


def test_it_is_deterministic_and_its_state_survives_redis(minute, learnt):
    state: dict = {}
    own = model()
    for f in minute:
        [(scores, state)] = own.process([(f, state)])
        fields = {k.encode(): v if isinstance(v, bytes) else v.encode() for k, v in encode_state(state).items()}
        state = decode_state(fields)
    assert np.array_equal(scores[0].raw, learnt[0][-1].raw)
    assert all(np.array_equal(state[k], learnt[1][k]) for k in learnt[1])


def test_processing_leaves_the_given_state_alone(learnt):
    _, state = learnt
    before = {k: v.copy() for k, v in state.items()}
    watch(model(), [motion(40, 5, rider=True)], state)
    assert before.keys() == state.keys()
    assert all(np.array_equal(before[k], state[k]) for k in state)


def test_a_reconnect_keeps_what_was_learned(learnt):
    _, state = model().finish(learnt[1])
    assert "map" not in state
    [first], _ = watch(model(), [motion(0, 6, run_ms=2)], state)
    assert not first.provisional


def test_a_warm_up_goes_on_after_a_reconnect():
    own = model()
    _, state = watch(own, [motion(i, 5) for i in range(8)])
    _, state = own.finish(state)
    scores, _ = watch(own, [motion(i, 6, run_ms=2) for i in range(8)], state)
    assert [s.provisional for s in scores] == [True] * 5 + [False] * 3


def test_another_picture_format_starts_over(learnt):
    wide = replace(motion(0, 5), grid=(12, 30))
    [scores], _ = watch(model(), [wide], learnt[1])
    assert scores.provisional


def test_an_event_stays_odd_while_it_lasts_but_a_lasting_change_becomes_normal(learnt):
    own, state = model(), learnt[1]
    riders = [motion(40 + i, 5, rider=True, walkers=1) for i in range(450)]
    scores, _ = watch(own, riders, state)
    assert all(s.raw[-1] > s.reference[-1] + 1 for s in scores[:20])
    assert raw(scores[-20:]).max() < scores[-1].reference[-1]


def test_the_state_is_bounded(minute):
    own = model()
    busy = [motion(i, 5, walkers=30, fps=200) for i in range(60)]
    _, state = watch(own, busy)
    assert len(state["values"]) <= HELD_CELLS
    assert sum(a.nbytes for a in state.values()) < 500_000
    _, state = watch(own, [motion(i, i, walkers=20) for i in range(60)])
    assert sum(a.nbytes for a in state.values()) < 500_000


def test_the_collected_frames_are_spread_over_the_whole_warm_up():
    state: dict = {}
    for i in range(40):
        f = motion(i, 5, walkers=30, fps=200)
        state = state | collect(f, f.times_s, state)
    every = int(state["every"])
    assert every > 1
    assert np.array_equal(state["clocks"], np.arange(0, 640, every) / 200)
    assert state["counts"].sum() == len(state["values"]) == len(state["places"])


def test_where_nothing_ever_moved_the_first_motion_is_odd():
    own = model()
    still = [replace(motion(i, 5, walkers=0, fps=1)) for i in range(39)]
    scores, state = watch(own, still)
    assert scores[0].provisional
    assert not scores[-1].provisional
    [first], _ = watch(own, [motion(39, 5, fps=1)], state)
    assert first.raw[-1] > first.reference[-1]


def test_dense_features_need_a_checkpoint():
    with pytest.raises(CheckpointError, match=r"learns from 'motion' features, got i3d@1.*oddwatch fit"):
        watch(model(), [features(0, np.zeros(8, np.float32), extractor="i3d@1")])


def test_a_camera_whose_clock_stands_still_after_the_warm_up_is_still_scored(learnt):
    own, state = model(), learnt[1]
    for i in range(200):
        f = motion(i, i)
        [(scores, state)] = own.process([(replace(f, times_s=np.full(16, 64.0)), state)])
    assert np.isfinite(scores[0].raw).all()


@pytest.mark.parametrize(
    "offs_s",
    [
        pytest.param({4: 900.0}, id="one of a quarter of an hour"),
        pytest.param({2: 400.0, 4: 400.0}, id="two that are patience together"),
        pytest.param({k: 30.0 for k in range(1, 25)}, id="one before every snippet"),
    ],
)
def test_holes_do_not_end_the_warm_up(minute, learnt, offs_s: dict[int, float]) -> None:
    offs = np.cumsum([offs_s.get(i, 0.0) for i in range(len(minute))])
    moved = [replace(f, times_s=f.times_s + off) for f, off in zip(minute, offs.tolist(), strict=True)]
    scores, _ = watch(model(), moved)

    provisional = [s.provisional for s in scores]
    assert provisional.index(False) >= [s.provisional for s in learnt[0]].index(False)
    assert not provisional[-1]
