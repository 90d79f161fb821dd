"""`oddwatch train future_frame` on tiny encoded videos: from a manifest to a model that scores. Under a minute."""

import json
from pathlib import Path

import numpy as np
import pytest
from e2e import needs_redis_server, oddwatch
from makers_video import write_video
from typer.testing import CliRunner

from pipeline.cli.train.command import app
from stages.decode.read import DecodeSettings
from stages.decode.source import expand
from stages.errors import OddwatchError
from stages.files.checkpoint import load_checkpoint
from stages.temporal.future_frame.format import FrameFormat
from stages.training.future_frame.footage import read_clips

SHORT = ("--iterations", "2", "--threads", "1", "--batch", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two normal videos, one with something odd in it, one of the test split; and their manifest."""
    folder = tmp_path_factory.mktemp("normal")
    for n in range(4):
        write_video(folder / f"{n}.mp4", 24, (96, 64), first=10 * n)
    listed = [
        {"video": "0.mp4", "split": "train", "label": 0},
        {"video": "1.mp4", "split": "train"},
        {"video": "2.mp4", "split": "train", "anomalies": [[3, 9]]},
        {"video": "3.mp4", "split": "test", "label": 0},
    ]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, listed)))
    (folder / "odd.jsonl").write_text(json.dumps({"video": "2.mp4", "label": 1}))
    (folder / "features.jsonl").write_text(json.dumps({"video": "a.npy", "label": 0}))
    np.save(folder / "a.npy", np.zeros((4, 8), np.float32))
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> str:
    """What the command said."""
    done = oddwatch(
        "train", "future_frame", "--manifest", folder / "manifest.jsonl", "--out", folder / "ff.safetensors", *SHORT
    )
    assert done.code == 0, done.err
    return done.out + done.err


def test_normal_footage_of_the_training_split_is_learned_and_nothing_else(folder: Path, made: str) -> None:
    meta = load_checkpoint(folder / "ff.safetensors", "future_frame").meta
    assert "left out for their anomalies: 1 of 3 videos" in made
    assert meta["training"]["clips"] == [2, 2]  # the end of each is held out
    assert meta["training"]["steps"] == 2
    assert meta["score"]["by"] == "place"
    assert meta["preprocessing"]["decode"] == {"height": 240, "snippet_frames": 16, "fps": None}
    assert (folder / "ff.curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "ff.safetensors.resume").exists()


@pytest.mark.slow
def test_the_same_command_gives_the_same_file(folder: Path, made: str) -> None:
    again = folder / "again.safetensors"
    oddwatch("train", "future_frame", "--manifest", folder / "manifest.jsonl", "--out", again, *SHORT)
    assert again.read_bytes() == (folder / "ff.safetensors").read_bytes()


@needs_redis_server
def test_it_scores_every_frame(folder: Path, made: str) -> None:
    out = folder / "scores"
    done = oddwatch("score", folder / "3.mp4", "--model", folder / "ff.safetensors", "--out", out)
    assert done.code == 0, done.err
    lines = (out / "3.scores.csv").read_text().splitlines()
    assert lines[0] == "frame,time_s,score,future_frame"
    assert len(lines) == 25
    assert all(np.isfinite(float(line.split(",")[2])) for line in lines[1:])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--manifest", "odd.jsonl"], "no normal video among 1: all hold anomalies", id="nothing normal"),
        pytest.param(["--manifest", "features.jsonl"], "lists feature files", id="features"),
        pytest.param(["--split", "test"], "the test split is for 'oddwatch evaluate' alone", id="test split"),
        pytest.param(["--arch", "gan"], "--arch: 'gan' is not known", id="arch"),
        pytest.param(["--size", "huge"], "choose one of small, medium, paper", id="size"),
        pytest.param(["--score", "ear"], "place, square or picture", id="score"),
        pytest.param(["--adversarial", "-1"], "no negative weight", id="weight"),
        pytest.param(["--learning-rate", "nan"], "positive rates", id="rate"),
        pytest.param(["--minutes", "1"], "--minutes: give a positive number, and not --iterations", id="budget"),
        pytest.param(["--manifest", "none.jsonl"], "cannot read the manifest", id="no manifest"),
    ],
)
def test_a_mistake_is_one_clear_line(folder: Path, options: list[str], said: str) -> None:
    given = ["--manifest", "manifest.jsonl", *options]
    given = [str(folder / v) if v.endswith(".jsonl") else v for v in given]
    told = CliRunner().invoke(app, ["future_frame", *given, "--out", str(folder / "no.safetensors"), *SHORT])
    assert isinstance(told.exception, OddwatchError)
    assert said in str(told.exception)
    assert "\n" not in str(told.exception)
    assert told.exception.exit_code == 2
    assert not (folder / "no.safetensors").exists()


def test_clips_are_what_live_snippets_hold(folder: Path) -> None:
    form = FrameFormat(height=16, width=24, order="gray")
    [source] = expand([str(folder / "0.mp4")])
    seen: list[int] = []
    [clip] = read_clips(source, "g", DecodeSettings(snippet_frames=7), form, seen.append)
    assert clip.frames.shape == (24, 1, 16, 24)
    assert clip.times_s.tolist() == pytest.approx([n / 25 for n in range(24)])
    assert seen == [7, 14, 21, 24]
    [kept] = read_clips(source, "g", DecodeSettings(fps=5), form)
    assert 4 <= len(kept) <= 6
    at = np.searchsorted(clip.times_s, kept.times_s - 1e-6)
    np.testing.assert_array_equal(kept.frames, clip.frames[at])
