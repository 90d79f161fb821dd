"""Stamps to times: a table of cases, and files whose clocks are wrong. Takes about 3 s."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from makers_video import write_video

from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import Source
from stages.decode.timestamps import Timeline
from stages.messages import End

EVEN = [i / 10 for i in range(12)]
TWICE = [i / 10 for i in range(24)]
DAY_S = 86_400.0
WRAP_S = 2**33 / 90_000


def times_of(stamps_s: list[float | None], wrap_s: float | None = None) -> tuple[list[float], list[int]]:
    timeline = Timeline(0.1, wrap_s)
    times = [time for stamp in stamps_s for time in timeline.add(stamp)] + timeline.end()
    return times, [frame for frame, _ in timeline.joints]


def wrong(stamps_s: list[float], wrongs: dict[int, float | None]) -> list[float | None]:
    return [wrongs.get(i, stamp) for i, stamp in enumerate(stamps_s)]


def plus(stamps_s: list[float], seconds: float) -> list[float]:
    return [stamp + seconds for stamp in stamps_s]


@pytest.mark.parametrize(
    ("stamps_s", "times_s", "joints"),
    [
        pytest.param([5.0, 5.1, 5.2], [0.0, 0.1, 0.2], [], id="counted from the first"),
        pytest.param([0.0, 0.07, 0.9, 0.91], [0.0, 0.07, 0.9, 0.91], [], id="variable rate"),
        pytest.param([0.0, 9.0, 18.0, 27.0], [0.0, 9.0, 18.0, 27.0], [], id="time lapse"),
        pytest.param([None, None, None], [0.0, 0.1, 0.2], [], id="none at all"),
        pytest.param([1.0, None, 1.2], [0.0, 0.1, 0.2], [], id="one missing"),
        pytest.param(wrong(EVEN, {4: None, 5: None}), EVEN, [], id="two missing"),
        pytest.param(wrong(EVEN, {11: None}), EVEN, [], id="the last missing"),
        pytest.param([None, 7.0, 7.3], [0.0, 0.1, 0.4], [], id="the first missing"),
        pytest.param([1.0, 1.1, 0.5, 1.3], [0.0, 0.1, 0.2, 0.3], [], id="one back in time"),
        pytest.param(wrong(EVEN, {5: 320.0}), EVEN, [], id="one far ahead"),
        pytest.param(wrong(EVEN, {5: 0.9}), EVEN, [], id="one a little ahead"),
        pytest.param(wrong(EVEN, {5: 320.0, 6: 320.1, 7: 320.2}), EVEN, [], id="three far ahead"),
        pytest.param(wrong(EVEN, {5: -320.0, 6: -7.0}), EVEN, [], id="two far back"),
        pytest.param(wrong(EVEN, {11: 320.0}), EVEN, [], id="the last far ahead"),
        pytest.param(wrong(EVEN, {0: 320.0}), EVEN, [1], id="the first far ahead"),
        pytest.param([0.0, *plus(EVEN, 1.7e9)], [*EVEN, 1.2], [1], id="first 0 then the time of day"),
        pytest.param([*EVEN, *plus(EVEN, 3600.0)], [*EVEN, *plus(EVEN, 3600.0)], [], id="a hole of an hour"),
        pytest.param([*plus(EVEN, 50.0), *EVEN], TWICE, [12], id="set back"),
        pytest.param([*plus(EVEN, 60 * DAY_S), *plus(EVEN, 0.0)], TWICE, [12], id="back for days"),
        pytest.param([*EVEN, *(5 * t for t in EVEN)], [*EVEN, *(1.2 + 5 * t for t in EVEN)], [12], id="slower restart"),
        pytest.param([*EVEN, *(t / 4 for t in EVEN)], [*EVEN, *(1.2 + t / 4 for t in EVEN)], [12], id="faster restart"),
        pytest.param([*EVEN, *EVEN, *EVEN], [i / 10 for i in range(36)], [12, 24], id="two restarts"),
        pytest.param([0.0, 0.0, 0.2], [0.0, 0.1, 0.2], [], id="twice the same"),
        pytest.param([0.0] * 6, [i / 10 for i in range(6)], [], id="a clock that stands"),
    ],
)
def test_times_are_true_where_stamps_are(stamps_s: list[float | None], times_s: list[float], joints: list[int]) -> None:
    assert times_of(stamps_s) == (pytest.approx(times_s), joints)


@pytest.mark.parametrize(
    ("stamps_s", "times_s", "joints"),
    [
        pytest.param([(WRAP_S - 0.5 + t) % WRAP_S for t in EVEN], EVEN, [], id="a wrap"),
        pytest.param([WRAP_S - 0.5 + t for t in EVEN], EVEN, [], id="a wrap that was unwrapped"),
        pytest.param([*plus(EVEN, 3600.0), *plus(EVEN, WRAP_S)], TWICE, [12], id="set back an hour"),
        pytest.param([*EVEN, *plus(EVEN, 9 * 3600.0)], [*EVEN, *plus(EVEN, 9 * 3600.0)], [], id="a hole of a night"),
        pytest.param(wrong(EVEN, {5: WRAP_S - 4}), EVEN, [], id="one wrong"),
    ],
)
def test_a_clock_that_wraps_is_unwrapped(stamps_s: list[float | None], times_s: list[float], joints: list[int]) -> None:
    assert times_of(stamps_s, WRAP_S) == (pytest.approx(times_s), joints)


def read(path: Path, fps: float | None = None) -> tuple[np.ndarray, str]:
    source = Source(kind="file", uri=str(path), redacted=str(path), camera="clip")
    messages = list(read_messages(source, DecodeSettings(height=48, fps=fps), 1000, lambda: 5.0))
    assert isinstance(messages[-1], End)
    return np.concatenate([m.times_s for m in messages]), messages[-1].status


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("fps", [None, 2.0])
@pytest.mark.parametrize("step_s", [0.04, 0.2])
def test_a_transport_stream_whose_clock_is_set_back_goes_on(tmp_path: Path, step_s: float, fps: float | None) -> None:
    late = write_video(tmp_path / "1.ts", 20, times_s=[3600 + i / 25 for i in range(20)])
    early = write_video(tmp_path / "2.ts", 20, times_s=[i * step_s for i in range(20)])
    times_s, status = read(joined(tmp_path / "a.ts", late, early), fps)

    assert times_s == pytest.approx([*np.arange(20) / 25, *(0.8 + np.arange(20) * step_s)], abs=0.001)
    assert status.startswith("clock set back by 3600.") or "damaged" in status


def remuxed(sound: Path, path: Path, wrongs: dict[int, float]) -> Path:
    """The same packets, some of them shown so many seconds later."""
    with av.open(str(sound)) as given, av.open(str(path), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for index, packet in enumerate(p for p in given.demux(given.streams.video[0]) if p.size):
            packet.pts += round(wrongs.get(index, 0.0) / packet.time_base)
            packet.stream = stream
            made.mux(packet)
    return path


@pytest.mark.parametrize("fps", [None, 2.0])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_one_wrong_stamp_in_a_file_moves_nothing(tmp_path: Path, name: str, fps: float | None) -> None:
    path = tmp_path / name
    remuxed(write_video(tmp_path / f"sound-{name}", 60), path, {30: 320.0})
    times_s, status = read(path, fps)

    assert times_s == pytest.approx(np.arange(60) / 25, abs=0.0011)
    assert status == "complete"
