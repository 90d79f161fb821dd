"""Cutting a run into snippets and gaps, placing frames in time, shutting out damage. Takes under a second."""

from collections.abc import Sequence
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stages.decode.frames import GATE_FRAMES, DamageGate
from stages.decode.snippets import DecodedFrame, DecodeOutput, Run, SnippetBuilder
from stages.messages import End, Gap, Prior, Snippet

RUN = Run(camera="door", run_ms=1000)


def pixels(index: int) -> np.ndarray:
    return np.full((4, 6, 3), index % 256, np.uint8)


def cut(
    times_s: Sequence[float], faults: Sequence[int] = (), *, n: int = 4, fps: float | None = None, skip: int = 0
) -> list[DecodeOutput]:
    builder = SnippetBuilder(RUN, lambda: 12.5, snippet_frames=n, fps=fps, skip_until_seq=skip)
    out: list[DecodeOutput] = []
    for i, t in enumerate(times_s):
        out += builder.add(DecodedFrame(time_s=t, pixels=lambda i=i: pixels(i), fault="smeared" if i in faults else ""))
        assert builder.frames == i + 1
    return out + list(builder.end())


def shape(messages: list[DecodeOutput]) -> list[tuple[str, int, int]]:
    return [(type(m).__name__, m.first_frame, len(m.times_s)) for m in messages]


def test_frames_are_cut_in_order_and_the_last_snippet_is_short() -> None:
    assert shape(cut(np.arange(9) / 25)) == [("Snippet", 0, 4), ("Snippet", 4, 4), ("Snippet", 8, 1), ("End", 9, 0)]


def test_a_run_of_no_frames_is_an_end() -> None:
    assert shape(cut([])) == [("End", 0, 0)]


def test_a_snippet_holds_its_frames_and_a_picture_of_the_middle() -> None:
    _, second, _ = cut(np.arange(8) / 10)

    assert isinstance(second, Snippet)
    assert second.id == "1000-1"
    assert second.made_ms == 12_500
    assert second.times_s.tolist() == pytest.approx([0.4, 0.5, 0.6, 0.7])
    assert second.picked.tolist() == [0, 1, 2, 3]
    assert second.pixels[:, 0, 0, 0].tolist() == [4, 5, 6, 7]
    thumb = cv2.imdecode(np.frombuffer(second.thumb, np.uint8), cv2.IMREAD_COLOR)
    assert thumb.shape == (4, 6, 3)
    assert abs(int(thumb[0, 0, 0]) - 6) <= 1


def test_the_picture_keeps_its_colours() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 0] = 255
    builder = SnippetBuilder(RUN, lambda: 0.0)
    list(builder.add(DecodedFrame(time_s=0.0, pixels=lambda: red)))
    snippet, _ = builder.end()

    assert isinstance(snippet, Snippet)
    blue, green, red_level = cv2.imdecode(np.frombuffer(snippet.thumb, np.uint8), cv2.IMREAD_COLOR)[8, 8]
    assert red_level > 240
    assert max(blue, green) < 15


def test_damage_closes_the_snippet_and_is_a_gap() -> None:
    messages = cut(np.arange(10) / 25, faults=(1, 2))

    assert shape(messages)[:3] == [("Snippet", 0, 1), ("Gap", 1, 2), ("Snippet", 3, 4)]
    gap = messages[1]
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.detail, gap.seq) == ("corrupt", "smeared", 1)


def test_a_long_gap_comes_in_pieces() -> None:
    assert shape(cut(np.arange(6) / 25, faults=range(6))) == [("Gap", 0, 4), ("Gap", 4, 2), ("End", 6, 0)]


@pytest.mark.parametrize("fps", [None, 5.0, 12.0, 100.0])
@pytest.mark.parametrize("seed", range(5))
def test_every_frame_is_in_exactly_one_span(fps: float | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times_s = np.cumsum(rng.exponential(0.04, 200))
    faults = np.flatnonzero(rng.random(200) < 0.05)
    messages = cut(times_s, faults.tolist(), fps=fps)

    assert [m.seq for m in messages] == list(range(len(messages)))
    assert [m.first_frame for m in messages[1:]] == [m.next_frame for m in messages[:-1]]
    assert np.concatenate([m.times_s for m in messages]) == pytest.approx(times_s)
    assert messages[-1].first_frame == 200
    for message in messages:
        span = range(message.first_frame, message.next_frame)
        if isinstance(message, Gap):
            assert set(span) <= set(faults)
        elif isinstance(message, Snippet):
            assert not set(span) & set(faults)
            assert message.picked[0] == 0
            assert message.pixels[:, 0, 0, 0].tolist() == [(message.first_frame + p) % 256 for p in message.picked]


@pytest.mark.parametrize(
    ("source_fps", "fps", "kept"),
    [
        pytest.param(30, 10, [0, 2, 5, 8, 11, 14, 17, 20, 23, 26, 29], id="a third"),
        pytest.param(25, 25, list(range(30)), id="all"),
        pytest.param(10, 25, list(range(30)), id="slower than asked for"),
    ],
)
def test_sub_sampling_keeps_the_frames_nearest_to_its_grid(source_fps: int, fps: float, kept: list[int]) -> None:
    # Milliseconds, as Matroska rounds them.
    times_s = np.round(np.arange(30) / source_fps, 3)
    snippets = [m for m in cut(times_s, fps=fps) if isinstance(m, Snippet)]

    assert [m.first_frame + p for m in snippets for p in m.picked] == kept


def test_skipped_frames_lie_in_the_snippet_before_them() -> None:
    messages = cut(np.arange(22) / 10, fps=2.0, n=2)

    assert shape(messages) == [("Snippet", 0, 8), ("Snippet", 8, 10), ("Snippet", 18, 4), ("End", 22, 0)]


@pytest.mark.parametrize("fps", [None, 8.0])
def test_skipping_leaves_the_rest_as_it_is_and_converts_nothing_before(fps: float | None) -> None:
    times_s, faults = np.arange(40) / 25, (6, 7, 20)
    whole = cut(times_s, faults, fps=fps)
    for skip in range(len(whole) + 1):
        rest = cut(times_s, faults, fps=fps, skip=skip)
        assert [(m.seq, *s) for m, s in zip(rest, shape(rest), strict=True)] == [
            (m.seq, *s) for m, s in zip(whole, shape(whole), strict=True)
        ][skip:]

    def refuse() -> np.ndarray:
        raise AssertionError("converted")

    builder = SnippetBuilder(RUN, lambda: 0.0, snippet_frames=4, skip_until_seq=2)
    assert [m for i in range(8) for m in builder.add(DecodedFrame(time_s=i / 10, pixels=refuse))] == []


def test_messages_say_what_run_they_are_of() -> None:
    prior = Prior(run_ms=900, frames=7, down_s=3.0)
    builder = SnippetBuilder(Run(camera="door", run_ms=1000, live=True, prior=prior), lambda: 0.0)
    list(builder.add(DecodedFrame(time_s=0.0, pixels=lambda: pixels(0))))
    snippet, end = builder.end("disconnected: gone")

    assert (snippet.live, snippet.prior, end.prior, end.live) == (True, prior, prior, True)
    assert isinstance(end, End)
    assert end.status == "disconnected: gone"


def frame(key: bool = False, corrupt: bool = False) -> SimpleNamespace:
    return SimpleNamespace(key_frame=key, is_corrupt=corrupt)


def test_damage_lasts_until_a_sound_keyframe() -> None:
    gate = DamageGate()
    frames = [
        frame(key=True),
        frame(),
        frame(corrupt=True),
        frame(),
        frame(key=True, corrupt=True),
        frame(),
        frame(key=True),
        frame(),
    ]

    assert [bool(gate.fault(f)) for f in frames] == [False, False, True, True, True, True, False, False]


def test_what_was_lost_before_a_picture_counts_as_damage() -> None:
    gate = DamageGate()
    gate.shut()

    assert gate.fault(frame())
    assert not gate.fault(frame(key=True))
    assert gate.fault(frame(), damaged=True)


def test_a_camera_without_keyframes_is_not_shut_out_for_ever() -> None:
    gate = DamageGate()
    gate.shut()

    assert sum(bool(gate.fault(frame())) for _ in range(2 * GATE_FRAMES)) == GATE_FRAMES - 1
