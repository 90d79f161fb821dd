"""`oddwatch fit` on footage of which some is bad."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e import film, oddwatch
from makers_video import scribble, write_audio, write_video


@pytest.mark.parametrize("bad", ["empty", "text", "sound only"])
def test_a_bad_clip_is_named_and_the_rest_is_learned_from(tmp_path: Path, bad: str) -> None:
    good, worse = film(tmp_path / "good.mp4", 100), tmp_path / "bad.mkv"
    if bad == "sound only":
        write_audio(worse)
    else:
        worse.write_text("" if bad == "empty" else "not a video\n" * 100)
    done = oddwatch("fit", "--normal", worse, good, "--out", tmp_path / "x.safetensors")
    assert done.code == 1
    assert done.err.count("bad.mkv: ") == 1
    assert "Traceback" not in done.err
    assert "fitted on 100 frames of 1 clip " in done.out
    assert (tmp_path / "x.safetensors").exists()


def test_a_damaged_clip_is_named_and_what_can_be_read_is_used(tmp_path: Path) -> None:
    good = film(tmp_path / "good.mp4", 60)
    damaged = scribble(write_video(tmp_path / "hurt.mkv", 120, codec="mpeg4"), 0.6, 300)
    done = oddwatch("fit", "--normal", good, "--normal", damaged, "--out", tmp_path / "x.safetensors")
    assert done.code == 0, done.err
    assert "hurt.mkv: damaged: " in done.err
    assert "of 2 clips" in done.out


def test_no_footage_at_all_is_wrong_usage(tmp_path: Path) -> None:
    done = oddwatch("fit", "--out", tmp_path / "x.safetensors")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--normal" in done.err
