"""Frames become events. Timelines: one character a frame, at 10 frames per second unless told otherwise.

`.` quiet (0.1)   `-` between clear_at and raise_at (0.55)   `#` raised (0.8)   `^` the peak (0.9)   `?` not scored
"""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from stages.alerting.events import Event, EventState, FrameScore, PhaseChange, advance, finish
from stages.alerting.settings import AlertSettings

SCORE = {".": 0.1, "-": 0.55, "#": 0.8, "^": 0.9, "?": None}
PLAIN = {"min_length_s": 0.3, "min_fraction": 1.0, "merge_gap_s": 0.5, "cooldown_s": 0.0}


def run(scores: list[FrameScore], settings: AlertSettings, live: bool = False) -> list[tuple[int, PhaseChange]]:
    """(frame at which it is told, change); the end of the run is told at frame -1."""
    state, told = EventState(), []
    for now in scores:
        state, changes = advance(state, now, settings, live)
        told += [(now.frame, change) for change in changes]
    state, changes = finish(state, settings)
    assert state.event is None
    return told + [(-1, change) for change in changes]


def frames(timeline: str, fps: float = 10.0) -> list[FrameScore]:
    return [FrameScore(i, i / fps, SCORE[c], {"m": SCORE[c] or 0.0}) for i, c in enumerate(timeline)]


def told(timeline: str, fps: float = 10.0, live: bool = False, **settings: float) -> list[tuple[str, int, int, int]]:
    """(phase, told at frame, first frame, last frame)"""
    changes = run(frames(timeline, fps), AlertSettings(**(PLAIN | settings)), live)  # type: ignore[arg-type]
    return [(phase, at, event.start_frame, event.end_frame) for at, (phase, event) in changes]


def test_an_event_opens_when_it_is_long_enough_and_closes_when_silent_for_long() -> None:
    #                0         1
    #                012345678901234567890
    assert told(    "...######...........") == [("open", 6, 3, 6), ("close", 14, 3, 8)]  # fmt: skip


@pytest.mark.parametrize(
    ("timeline", "count"),
    [
        pytest.param("...###..............", 0, id="shorter than min_length"),
        pytest.param("...####.............", 1, id="exactly min_length, from first to last frame"),
        pytest.param("...---------........", 0, id="above clear_at but never raised"),
        pytest.param("...##.##.##.........", 0, id="a dip starts the count anew where none is forgiven"),
    ],
)
def test_what_is_too_short_is_no_event(timeline: str, count: int) -> None:
    assert len([t for t in told(timeline) if t[0] == "open"]) == count


def test_a_dip_is_forgiven_up_to_min_fraction() -> None:
    #             0123456789
    timeline   = "...##.##..........."  # fmt: skip
    assert told(timeline, min_length_s=0.4, min_fraction=0.8) == [("open", 7, 3, 7), ("close", 13, 3, 7)]
    assert told(timeline, min_length_s=0.4, min_fraction=0.81) == []


def test_flicker_never_opens() -> None:
    assert told("#." * 100, min_fraction=0.75) == []


def test_half_a_second_on_ten_frames_per_second_is_found_by_default_even_with_a_dip() -> None:
    for timeline in (".....#####" + "." * 40, ".....##.##" + "." * 40):
        changes = run(frames(timeline), AlertSettings())
        (_, (_, opened)), (_, (_, closed)) = changes
        assert opened.start_frame == closed.start_frame == 5
        assert closed.end_frame == 9


def test_between_the_levels_an_open_event_goes_on() -> None:
    #             0         1         2
    #             012345678901234567890123
    assert told("...####---------........") == [("open", 6, 3, 6), ("close", 21, 3, 15)]


def test_a_paused_event_needs_raise_at_to_resume() -> None:
    #             0         1         2
    #             01234567890123456789012345
    assert told("...####..#...............") == [("open", 6, 3, 6), ("close", 15, 3, 9)]
    assert told("...####..-...............") == [("open", 6, 3, 6), ("close", 12, 3, 6)]


def test_events_closer_than_merge_gap_are_one() -> None:
    #                  0         1         2
    #                  0123456789012345678901234567
    close_together = "####....####................"  # 0.5 s from frame 3 to 8
    further_apart    = "####.....####..............."  # 0.6 s from frame 3 to 9  # fmt: skip
    assert [t[0] for t in told(close_together)] == ["open", "close"]
    assert told(close_together)[-1][2:] == (0, 11)
    assert [t[0] for t in told(further_apart)] == ["open", "close", "open", "close"]


def test_within_the_cooldown_nothing_opens() -> None:
    #           0         1         2         3
    #           0123456789012345678901234567890123456789
    timeline = "####..........####......................"
    assert [t[:1] + t[2:] for t in told(timeline)] == [
        ("open", 0, 3),
        ("close", 0, 3),
        ("open", 14, 17),
        ("close", 14, 17),
    ]
    assert [t[0] for t in told(timeline, cooldown_s=2.0)] == ["open", "close"]


def test_what_is_still_raised_when_the_cooldown_ends_opens_then() -> None:
    #           0         1         2         3
    #           0123456789012345678901234567890123456789
    timeline = "####..........################.........."
    opened = told(timeline, cooldown_s=2.0)[2]  # 2.0 s after frame 3
    assert opened == ("open", 23, 20, 23)


def test_a_long_event_is_closed_by_force_and_opens_anew_after_the_cooldown() -> None:
    assert told("#" * 45, max_length_s=1.0, cooldown_s=1.0) == [
        ("open", 3, 0, 3),
        ("close", 10, 0, 10),
        ("open", 20, 17, 20),
        ("close", 27, 17, 27),
        ("open", 37, 34, 37),
        ("close", 44, 34, 44),
    ]
    without_cooldown = told("#" * 30, max_length_s=1.0)
    starts = [t[2] for t in without_cooldown if t[0] == "open"]
    assert starts == [0, 11, 22]  # no two events share a frame


def test_updates_come_from_live_cameras_only() -> None:
    timeline = "#" * 20 + "." * 10
    updates = [t for t in told(timeline, live=True, update_every_s=0.5) if t[0] == "update"]
    assert [t[1] for t in updates] == [8, 13, 18, 23]
    assert not [t for t in told(timeline, live=False, update_every_s=0.5) if t[0] == "update"]


def test_the_end_of_the_run_closes_what_is_open() -> None:
    assert told("......#####") == [("open", 9, 6, 9), ("close", -1, 6, 10)]


def test_frames_without_a_score_open_nothing_and_close_only_when_they_last() -> None:
    #             0         1         2
    #             012345678901234567890123
    assert told("##??##??##??##??........", min_fraction=0.75) == []
    assert told("####???####.............") == [("open", 3, 0, 3), ("close", 16, 0, 10)]
    assert told("####???????####.........") == [
        ("open", 3, 0, 3),
        ("close", 9, 0, 3),
        ("open", 14, 11, 14),
        ("close", 20, 11, 14),
    ]


def test_a_hole_in_time_longer_than_merge_gap_closes_at_the_last_frame_seen() -> None:
    scores = [*frames("####"), FrameScore(4, 9.0, 0.8), FrameScore(5, 9.1, 0.8)]
    changes = run(scores, AlertSettings(**PLAIN))  # type: ignore[arg-type]
    assert [(at, phase, e.end_frame) for at, (phase, e) in changes] == [(3, "open", 3), (4, "close", 3)]


def test_the_peak_and_each_models_peak_are_of_the_events_frames() -> None:
    levels = [0.1, 0.7, 0.9, 0.7, 0.8, 0.65, 0.1]
    scores = [FrameScore(i, i / 10, s, {"a": s, "b": 1 - s}) for i, s in enumerate(levels)]
    _, (_, event) = run(scores, AlertSettings(**PLAIN))[-1]  # type: ignore[arg-type]
    assert event.peak == 0.9
    assert event.models == {"a": 0.9, "b": pytest.approx(0.35)}
    assert (event.start_s, event.end_s) == (0.1, 0.5)


@pytest.mark.parametrize("fps", [5, 10, 12.5, 23.976, 25, 30, 60])
def test_seconds_not_frames_decide(fps: float) -> None:
    # 2 s quiet, 2 s raised, 4 s quiet
    scores = [FrameScore(i, i / fps, 0.8 if 2 <= i / fps < 4 else 0.1) for i in range(int(8 * fps))]
    (at, (_, opened)), (closed_at, (_, closed)) = run(scores, AlertSettings(**(PLAIN | {"min_length_s": 0.5})))  # type: ignore[arg-type]
    frame_s = 1 / fps
    assert 2 <= opened.start_s < 2 + frame_s
    assert 0.5 <= at / fps - opened.start_s + 1e-6 < 0.5 + frame_s + 1e-5
    assert 4 - frame_s - 1e-6 <= closed.end_s < 4
    assert 0.5 < closed_at / fps - closed.end_s < 0.5 + 2 * frame_s


def test_a_clock_that_steps_back_neither_closes_nor_reopens() -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.5, 0.6]
    scores = [FrameScore(i, t, 0.8) for i, t in enumerate(times)]
    assert [phase for _, (phase, _) in run(scores, AlertSettings(**PLAIN))] == ["open", "close"]  # type: ignore[arg-type]


def test_what_is_remembered_of_a_quiet_camera_is_bounded() -> None:
    state, settings = EventState(), AlertSettings(min_length_s=1.0)
    for i in range(5000):
        state, _ = advance(state, FrameScore(i, i / 10, 0.1), settings, live=True)
    assert len(state.recent) == 11
    for i in range(5000, 15000):  # many frames at one time
        state, _ = advance(state, FrameScore(i, 500.0, 0.1), settings, live=True)
    assert len(state.recent) <= 4096


def random_settings(rng: random.Random) -> AlertSettings:
    return AlertSettings(
        min_length_s=rng.choice([0.0, 0.2, 0.4]),
        min_fraction=rng.choice([0.5, 0.75, 1.0]),
        merge_gap_s=rng.choice([0.0, 0.3, 1.0]),
        cooldown_s=rng.choice([0.0, 0.5, 2.0]),
        max_length_s=rng.choice([1.0, 3.0, 300.0]),
        update_every_s=rng.choice([0.5, 10.0]),
    )


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_every_event_has_a_well_formed_life(seed: int) -> None:
    rng = random.Random(seed)
    settings, time_s, scores, level = random_settings(rng), 0.0, [], "."
    for i in range(1500):
        time_s += rng.choice([0.04, 0.1, 0.1, 0.1, 0.25, rng.choice([0.1, 3.0])])
        level = rng.choice(".-#^?") if rng.random() < 0.25 else level
        scores.append(FrameScore(i, time_s, SCORE[level]))
    open_event: Event | None = None
    last_end_s, opened, confirmed = -1e9, 0, 0
    for _, (phase, event) in run(scores, settings, live=True):
        span = scores[event.start_frame : event.end_frame + 1]
        known = [m.score for m in span if m.score is not None]
        assert event.peak == max(known)
        assert span[0].score >= settings.raise_at  # type: ignore[operator]
        assert span[-1].score >= settings.clear_at  # type: ignore[operator]
        if phase == "open":
            assert open_event is None
            assert event.end_s >= last_end_s + settings.cooldown_s - 1e-5
            assert span[0].time_s > last_end_s
            raised = [s for s in known if s >= settings.raise_at]
            assert len(raised) >= settings.min_fraction * len(span) - 1e-6
            opened += 1
        else:
            assert open_event is not None
            assert event.start_frame == open_event.start_frame
            assert event.end_frame >= open_event.end_frame
        if phase == "open":
            confirmed = event.end_frame
        carried = [m.time_s for m in scores[confirmed : event.end_frame + 1] if (m.score or 0) >= settings.clear_at]
        assert all(b - a <= settings.merge_gap_s + 1e-5 for a, b in pairwise(carried))
        open_event = None if phase == "close" else event
        last_end_s = event.end_s if phase == "close" else last_end_s
    assert open_event is None
    assert opened


def with_hole(timeline: str, hole_s: float, fps: float = 10.0) -> list[FrameScore]:
    """As `frames`; `|` is a hole of so many seconds."""
    before, after = timeline.split("|")
    first = frames(before + after, fps)
    return [FrameScore(f.frame, f.time_s + hole_s * (f.frame >= len(before)), f.score, f.models) for f in first]


@pytest.mark.parametrize(
    ("timeline", "hole_s", "opened"),
    [
        pytest.param("........#|#........", 3600.0, [], id="one raised frame on both sides"),
        pytest.param("......####|#.......", 3600.0, [(6, 9)], id="an event before"),
        pytest.param("......####|####....", 3600.0, [(6, 9), (10, 13)], id="one on each side"),
        pytest.param(".......###|##......", 900.0, [], id="each too short"),
        pytest.param(".......###|##......", 1.5, [], id="each too short, and a short hole"),
        pytest.param("####|####..........", 90.0, [(0, 3), (4, 7)], id="from the very start"),
        pytest.param("#|####.............", 900.0, [(1, 4)], id="after the first frame"),
    ],
)
@pytest.mark.parametrize("merge_gap_s", [0.5, 1e5])
def test_nothing_reaches_across_a_hole(
    timeline: str, hole_s: float, opened: list[tuple[int, int]], merge_gap_s: float
) -> None:
    changes = run(with_hole(timeline, hole_s), AlertSettings(**(PLAIN | {"merge_gap_s": merge_gap_s})))
    events = [event for _, (phase, event) in changes if phase == "close"]

    assert [(e.start_frame, e.end_frame) for e in events] == opened
    assert all(e.end_s - e.start_s < 1 for e in events)


@pytest.mark.parametrize("fps", [0.02, 0.2, 1.0, 4.0])
def test_a_time_lapse_has_no_holes(fps: float) -> None:
    settings = {"min_length_s": 0.3, "merge_gap_s": 1.5 / fps}
    assert [t[:1] + t[2:] for t in told("....####......", fps, **settings)][-1] == ("close", 4, 7)
