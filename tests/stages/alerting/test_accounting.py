"""Nothing is lost silently: for every run, decoded = scored + gaps by cause."""

from __future__ import annotations

import numpy as np
import pytest
from alerting_makers import LOUD, QUIET, end, gap, model_scores, play, prior, published, scores

from stages.alerting.accounting import GAP_FRAMES
from stages.alerting.settings import AlertSettings
from stages.alerting.stage import Joined, read_account
from stages.messages import End, Fused, Gap

FOUR = [QUIET] * 4


def told(messages: list[Fused | Gap | End]) -> list[tuple[str, str, int, int]]:
    """(id, kind or cause, first frame, frames)"""
    kinds = [m.cause if isinstance(m, Gap) else type(m).__name__.lower() for m in messages]
    return [(m.id, kind, m.first_frame, len(m.times_s)) for m, kind in zip(messages, kinds, strict=True)]


def test_a_complete_file_is_accounted_for() -> None:
    items = [scores(FOUR), gap(2, seq=1, first_frame=4), scores(FOUR, seq=2, first_frame=6), end(10, seq=3)]
    outcome, state = play(items)
    account = read_account(state)
    assert account is not None
    assert outcome.closed == [account]
    assert account.balanced
    assert account.as_dict() == {
        "camera": "cam",
        "run_ms": 1000,
        "live": False,
        "decoded": 10,
        "scored": 8,
        "provisional": 0,
        "gaps": {"corrupt": 2},
        "gap_counts": {"corrupt": 1},
        "down_s": 0.0,
        "seconds": pytest.approx(1.0),
        "status": "complete",
        "complete": True,
        "balanced": True,
    }


def test_frames_that_never_came_are_a_gap_with_the_id_before_and_interpolated_times() -> None:
    # seq     0    1 2 3    4
    # frame   0-3  (4-15)  16-19
    outcome, _ = play([scores(FOUR), scores(FOUR, seq=4, first_frame=16)])
    lost = outcome.messages[1]
    assert told(outcome.messages) == [
        ("1000-0", "fused", 0, 4),
        ("1000-3", "behind", 4, 12),
        ("1000-4", "fused", 16, 4),
    ]
    assert lost.times_s == pytest.approx(np.arange(4, 16) / 10)
    assert isinstance(published(lost), Gap)


@pytest.mark.parametrize(
    ("item", "times_s"),
    [
        pytest.param(scores(FOUR, seq=2, first_frame=8), np.arange(8) / 10, id="at the start of a run"),
        pytest.param(gap(2, seq=2, first_frame=8), np.arange(8) / 10, id="before a gap"),
        pytest.param(end(8, seq=2), np.arange(8) * 0.04, id="all of a run: 25 fps is assumed"),
    ],
)
def test_what_was_lost_before_anything_came_has_times_too(item: Joined, times_s: np.ndarray) -> None:
    outcome, state = play([item])
    assert told(outcome.messages)[0] == ("1000-1", "behind", 0, 8)
    assert outcome.messages[0].times_s == pytest.approx(times_s)
    assert read_account(state).balanced  # type: ignore[union-attr]


def test_frames_lost_at_the_end_of_a_file_are_known_from_its_end() -> None:
    outcome, state = play([scores(FOUR), end(10, seq=3)])
    assert told(outcome.messages)[1:] == [("1000-2", "behind", 4, 6), ("1000-3", "end", 10, 0)]
    assert outcome.messages[1].times_s == pytest.approx(np.arange(4, 10) / 10)
    assert read_account(state).gaps == {"behind": 6}  # type: ignore[union-attr]


def test_an_end_that_claims_fewer_frames_than_came_does_not_balance() -> None:
    _, state = play([scores(FOUR), end(3, seq=1)])
    assert not read_account(state).balanced  # type: ignore[union-attr]


def test_a_day_of_lost_frames_is_told_in_pieces_while_ids_are_free() -> None:
    frames = 2 * GAP_FRAMES + 5
    outcome, state = play([scores(FOUR), scores(FOUR, seq=600, first_frame=4 + frames)])
    pieces = told(outcome.messages)[1:-1]
    assert [p[0] for p in pieces] == ["1000-597", "1000-598", "1000-599"]
    assert sum(p[3] for p in pieces) == frames
    assert max(p[3] for p in pieces) <= GAP_FRAMES
    few, state = play([scores(FOUR), scores(FOUR, seq=2, first_frame=4 + frames)])
    assert told(few.messages)[1:-1] == [("1000-1", "behind", 4, frames)]
    assert read_account(state).balanced  # type: ignore[union-attr]


def test_frames_lost_without_a_free_id_are_counted_all_the_same() -> None:
    outcome, state = play([scores(FOUR), scores(FOUR, seq=1, first_frame=8)])
    assert told(outcome.messages) == [("1000-0", "fused", 0, 4), ("1000-1", "fused", 8, 4)]
    account = read_account(state)
    assert account is not None
    assert (account.decoded, account.scored, account.gaps) == (12, 8, {"behind": 4})


def test_a_new_run_closes_the_old_one_by_what_its_first_message_says_of_it() -> None:
    later = scores(FOUR, run_ms=60_000, live=True, prior=prior(1000, frames=10, down_s=12.34))
    outcome, state = play([scores(FOUR, live=True), later])
    assert told(outcome.messages) == [
        ("1000-0", "fused", 0, 4),
        ("1000-1", "behind", 4, 6),
        ("1000-2", "disconnected", 10, 0),
        ("60000-0", "fused", 0, 4),
    ]
    assert outcome.messages[2].detail == "down 12.3 s"  # type: ignore[union-attr]
    (old,), new = outcome.closed, read_account(state)
    assert (old.run_ms, old.decoded, old.gaps, old.status, old.complete) == (1000, 10, {"behind": 6}, "ended", True)
    assert new is not None
    assert (new.run_ms, new.down_s, new.gap_counts, new.status) == (60_000, 12.34, {"disconnected": 1}, "")
    assert old.balanced
    assert new.balanced


def test_a_run_of_which_nothing_arrived_is_accounted_for() -> None:
    later = scores(FOUR, run_ms=60_000, live=True, prior=prior(30_000, frames=7, down_s=1.0))
    outcome, _ = play([scores(FOUR, live=True), later])
    assert told(outcome.messages)[1:3] == [("30000-0", "behind", 0, 7), ("30000-1", "disconnected", 7, 0)]
    assert [(a.run_ms, a.decoded, a.complete, a.balanced) for a in outcome.closed] == [
        (1000, 4, False, True),  # nobody says how many frames it had
        (30_000, 7, True, True),
    ]


def test_a_run_that_ended_is_not_closed_again() -> None:
    later = scores(FOUR, run_ms=60_000, live=True, prior=prior(1000, frames=4, down_s=2.0))
    outcome, _ = play([scores(FOUR, live=True), end(4, seq=1), later])
    assert len(outcome.closed) == 1
    assert [m.id for m in outcome.messages] == ["1000-0", "1000-1", "1000-2", "60000-0"]


def test_a_repeat_does_nothing() -> None:
    once, state = play([scores(FOUR), gap(2, seq=1, first_frame=4)])
    twice, same = play([scores(FOUR), gap(2, seq=1, first_frame=4), scores(FOUR), gap(2, seq=1, first_frame=4)])
    assert told(twice.messages) == told(once.messages)
    assert {k: v.tobytes() for k, v in same.items()} == {k: v.tobytes() for k, v in state.items()}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        pytest.param([scores(FOUR), scores(FOUR, seq=1)], "frame 0 comes again", id="frames that come again"),
        pytest.param([end(0, seq=0), scores(FOUR, seq=1)], "after the end", id="after the end"),
        pytest.param([scores(FOUR), scores(FOUR, camera="other")], "state of camera cam", id="another camera"),
    ],
)
def test_what_contradicts_the_past_is_refused(items: list[Joined], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        play(items)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: Joined(), "either scores", id="nothing"),
        pytest.param(lambda: Joined(gap=gap(1, seq=0, first_frame=0).gap, end=end(0, seq=0).end), "either", id="both"),
        pytest.param(lambda: Joined(scores={"x": model_scores(FOUR)}), "joined as 'x'", id="a wrong name"),
        pytest.param(
            lambda: Joined(scores={"m": model_scores(FOUR), "n": model_scores(FOUR, seq=1, model="n")}),
            "another model",
            id="other frames",
        ),
    ],
)
def test_what_does_not_belong_together_cannot_be_joined(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_frame_without_a_finite_score_is_a_failed_gap() -> None:
    nan = np.nan
    outcome, state = play([scores([QUIET, nan, np.inf, QUIET]), scores([nan] * 4, seq=1, first_frame=4)])
    fused, failed = outcome.messages
    assert isinstance(fused, Fused)
    assert np.isfinite(fused.score).tolist() == [True, False, False, True]
    assert told([failed]) == [("1000-1", "failed", 4, 4)]
    account = read_account(state)
    assert account is not None
    assert (account.scored, account.gaps) == (2, {"failed": 6})
    assert account.balanced


def test_the_warm_up_is_reported() -> None:
    loud = [LOUD] * 10
    items = [scores(loud, provisional=True), scores([QUIET] * 10, seq=1, first_frame=10)]
    outcome, state = play(items, AlertSettings())
    account = read_account(state)
    assert account is not None
    assert (account.scored, account.provisional) == (20, 10)
    assert outcome.alerts == []


def test_nothing_is_known_of_a_camera_that_was_never_seen() -> None:
    assert read_account({}) is None
