"""The benchmark's parts: its verdicts, its footage, the camera it plays. Takes about 3 s."""

import os
from pathlib import Path

import pytest
from makers_video import write_video

from scripts.bench.footage import excerpt
from scripts.bench.live import as_transport_stream
from scripts.bench.row import Row, as_markdown, cpu_by_role, side_by_side
from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import Source


def frames_and_status(path: Path) -> tuple[int, str]:
    source = Source(kind="file", uri=str(path), redacted=str(path), camera="clip")
    *_, end = read_messages(source, DecodeSettings(height=48), 1, lambda: 0.0)
    return end.first_frame, end.status  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "target", "at_least", "reached"),
    [
        pytest.param([0.5, 0.95, 0.97], 0.9, True, True, id="the median counts"),
        pytest.param([0.5, 0.8, 0.97], 0.9, True, False, id="too low"),
        pytest.param([30, 20, 24], 25, False, True, id="less is better"),
        pytest.param([26], 25, False, False, id="too high"),
        pytest.param([3], None, True, True, id="only told"),
    ],
)
def test_a_row_is_judged_by_its_median(
    values: list[float], target: float | None, at_least: bool, reached: bool
) -> None:
    row = Row(figure="a", against="b", values=values, target=target, at_least=at_least, limit="the disk")

    assert row.reached is reached
    assert ("not reached: the disk" in as_markdown([row])) is (not reached)


def test_a_row_that_was_not_measured_says_why() -> None:
    row = Row(figure="a", against="b", target=0.9, skipped="no GPU here")

    assert as_markdown([row]).splitlines()[-1] == "| a | b |  | ≥ 0.9 | skipped: no GPU here |"
    assert "median" not in row.as_json()


def test_both_sides_take_turns_and_change_who_is_first() -> None:
    order: list[str] = []

    def work(name: str) -> float:
        order.append(name)
        return len(order)

    assert side_by_side(2, lambda: work("a"), lambda: work("b")) == [[1, 4], [2, 3]]
    assert order == ["a", "b", "b", "a"]


@pytest.mark.parametrize("frames", [5, 40, 130])
def test_an_excerpt_has_the_frames_asked_for(tmp_path: Path, frames: int) -> None:
    source = write_video(tmp_path / "a.mp4", 40)

    assert frames_and_status(excerpt(source, tmp_path / "b.mp4", frames)) == (frames, "complete")


def test_a_camera_is_sent_picture_by_picture(tmp_path: Path) -> None:
    pictures = as_transport_stream(write_video(tmp_path / "a.mp4", 30))
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(pictures))

    assert len(pictures) == 30
    assert frames_and_status(path) == (30, "complete")


def test_the_processor_time_of_this_process_is_seen() -> None:
    role, seconds = cpu_by_role(os.getpid())[os.getpid()]

    assert role == "command"
    assert seconds > 0
