"""Progress is a bar at a terminal and plain lines elsewhere, on stderr, for every command alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from makers_video import write_video

from pipeline.cli import progress
from pipeline.cli.progress import ProgressBar, frame_counter, size_of


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_a_plain_line_comes_now_and_then_with_what_is_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("training", 100) as bar:
        for done in range(0, 100, 2):
            bar.show(done, f"iteration {done}")
            clock.now_s += 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "training: iteration 20 (20%, about 40 s left)",
        "training: iteration 40 (40%, about 30 s left)",
        "training: iteration 60 (60%, about 20 s left)",
        "training: iteration 80 (80%, about 10 s left)",
    ]


def test_what_is_resumed_is_not_taken_for_fast(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("training", 100) as bar:
        bar.show(80, "resumed")
        clock.now_s += 10
        bar.show(90, "on")
    assert capsys.readouterr().err == "training: on (90%, about 10 s left)\n"


def test_the_end_is_told_where_it_is_asked_for(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for tell_end in (False, True):
        with ProgressBar("training", 4, tell_end=tell_end) as bar:
            bar.show(2, "half")
            bar.show(4, "done")
    assert capsys.readouterr().err == "training: done (100%)\n"


def test_quiet_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("scoring", 4, quiet=True, tell_end=True) as bar:
        bar.show(4, "done")
        bar.say("a line")
    assert capsys.readouterr().err == ""


def test_at_a_terminal_there_is_a_bar_and_lines_stand_above_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar("scoring", 4, tell_end=True) as bar:
        assert bar.is_bar
        bar.show(2, "1 of 2 files")
        bar.say("yard.mp4: an alert")
    said = capsys.readouterr().err
    assert "yard.mp4: an alert\n" in said
    assert "━" in said
    assert "scoring: " not in said, "no plain line beside the bar"


def test_frames_of_several_files_are_counted_by_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    files = [str(write_video(tmp_path / f"{name}.mp4", 10)) for name in "ab"]
    with frame_counter(files, "learning") as count:
        count(files[0], 10)
        count(files[1], 5)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("learning: ")
    assert "frames/s (50%" in first
    assert "frames/s (75%" in second


def test_a_file_that_is_not_there_has_a_size_too(tmp_path: Path) -> None:
    assert size_of(str(tmp_path / "none.mp4")) == 1
