"""`oddwatch score`: every frame of every file has its row, whatever the file is called."""

import json
import re
import shutil
from pathlib import Path

import av
import cv2
import pytest
from e2e import Ended, film, fitted, oddwatch, rows, score_files_in, summary
from makers_video import picture, write_video
from places import shared

from stages.text import counted

FRAMES = {
    "plain.mp4": 40,
    "hevc.mkv": 33,
    "mpeg4.avi": 17,
    "mjpeg.mov": 16,
    "short.mp4": 5,
    "one.mp4": 1,
    "stills": 12,
    "deep/down/plain.mp4": 20,
    "deep/copy.mp4": 40,
    "deep/again/plain.mp4": 40,
    "Überweg 人 'x' $(id) {0} [red]b[/red]*.mp4": 18,
    "-rf.mp4": 3,
    "two\nlines.mp4": 4,
    "a:b.mp4": 6,
}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module") / "footage"
    folder.mkdir()
    others: dict[str, dict] = {
        "hevc.mkv": {"codec": "libx265"},
        "mpeg4.avi": {"codec": "mpeg4"},
        "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    }
    for name, frames in FRAMES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "stills":
            path.mkdir()
            for n in range(frames):
                cv2.imwrite(str(path / f"img{n}.png"), picture(n, 64, 48))
        elif frames != 40:
            write_video(path, frames, **others.get(name, {}))
    write_video(folder / "plain.mp4", 40)
    shutil.copy(folder / "plain.mp4", folder / "deep/copy.mp4")
    shutil.copy(folder / "plain.mp4", folder / "deep/again/plain.mp4")
    (folder / "notes.txt").write_text("not a video")
    return folder


@pytest.fixture(scope="module")
def scored(footage: Path) -> tuple[Path, Ended]:
    out = footage.parent / "scores"
    return out, oddwatch("score", footage, "--out", out)


def test_every_decoded_frame_has_its_row(footage: Path, scored: tuple[Path, Ended]) -> None:
    out, done = scored
    assert done.code == 0, done.err
    found = {str(Path(f["file"]).relative_to(footage)): len(rows(out / f["csv"])) for f in summary(out)["files"]}
    assert found == FRAMES
    assert len(score_files_in(out)) == len(FRAMES), "two files share one CSV"


def test_decoded_is_scored_plus_gaps_for_each_file_and_in_all(scored: tuple[Path, Ended]) -> None:
    total = summary(scored[0])
    for part in [total, *total["files"]]:
        assert part["decoded"] == part["scored"] + sum(part["gaps"].values()) > 0
    assert total["decoded"] == sum(FRAMES.values())
    assert all(f["status"] == "complete" for f in total["files"])


def test_frames_count_up_times_rise_and_scores_lie_between_0_and_1(scored: tuple[Path, Ended]) -> None:
    for path in scored[0].glob("*.csv"):
        table = rows(path)
        assert list(table[0]) == ["frame", "time_s", "score", "novelty"]
        assert [int(r["frame"]) for r in table] == list(range(len(table)))
        times = [float(r["time_s"]) for r in table]
        assert times[0] == 0 or path.name == "img.scores.csv"
        assert times == sorted(set(times))
        assert all(0 <= float(r["score"]) <= 1 for r in table)
        assert all(r["novelty"] for r in table)


def test_the_report_needs_nothing_from_anywhere(scored: tuple[Path, Ended]) -> None:
    page = (scored[0] / "report.html").read_text()
    assert "plain.mp4" in page
    assert "[red]b[/red]" in page
    assert not re.search(r"""(src|href|url|@import)\s*[=(]?\s*["']?(https?:)?//""", page)


def test_progress_is_one_plain_line_for_each_file(scored: tuple[Path, Ended]) -> None:
    _, done = scored
    assert f"[{len(FRAMES)}/{len(FRAMES)}]" in done.err
    assert "\x1b" not in done.err
    assert "Traceback" not in done.err
    assert f"{sum(FRAMES.values())} frames decoded = {sum(FRAMES.values())} scored + 0 in gaps" in done.out


def test_globs_and_repeats_mean_each_file_once(footage: Path, tmp_path: Path) -> None:
    done = oddwatch(
        "score", f"{footage}/**/s*.mp4", footage / "short.mp4", footage / "./one.mp4", "--out", tmp_path, "--json"
    )
    assert done.code == 0, done.err
    printed = json.loads(done.out)
    assert printed == summary(tmp_path)
    assert sorted(Path(f["file"]).name for f in printed["files"]) == ["one.mp4", "short.mp4"]
    assert done.err == ""


def test_alerts_have_the_documented_fields_and_a_picture(tmp_path: Path) -> None:
    film(tmp_path / "race.mp4", 200, odd=range(100, 150), seed=6)
    out = tmp_path / "out"
    done = oddwatch("score", tmp_path / "race.mp4", "--model", fitted(), "--out", out)
    assert done.code == 0, done.err
    messages = [json.loads(line) for line in (out / "alerts.jsonl").read_text().splitlines()]
    assert {m["phase"] for m in messages} >= {"open", "close"}
    for m in messages:
        assert m.keys() >= {
            "id", "phase", "camera", "run_ms", "start_frame", "end_frame", "started_at", "ended_at", "start_s", "end_s",
            "peak", "severity", "models", "snapshot", "clip", "config_hash", "model_hashes", "schema",
        }  # fmt: skip
        assert m["severity"] in ("low", "medium", "high", "critical")
    close = next(m for m in messages if m["phase"] == "close")
    assert close["start_frame"] < 150
    assert close["end_frame"] > 100
    assert close["snapshot"]
    assert cv2.imread(str(out / close["snapshot"])) is not None
    opened = [m for m in messages if m["phase"] == "open"]
    assert summary(out)["files"][0]["alerts"] == len(opened)
    assert counted(len(opened), "alert") in done.out
    assert "close" in done.err  # told of as it came


def test_what_an_earlier_score_left_is_not_footage(tmp_path: Path) -> None:
    film(tmp_path / "race.mp4", 60)
    (tmp_path / "out/snapshots").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "out/snapshots/a.jpg"), picture(0, 64, 48))
    done = oddwatch("score", tmp_path, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert [Path(f["file"]).name for f in summary(tmp_path / "out")["files"]] == ["race.mp4"]


def test_a_long_path_to_temporary_files_is_no_obstacle(tmp_path: Path) -> None:
    (far := tmp_path / ("far" * 20) / ("away" * 10)).mkdir(parents=True)
    video = write_video(tmp_path / "v.mp4", 3)
    done = oddwatch("score", video, "--out", tmp_path / "out", TMPDIR=str(far))
    assert done.code == 0, done.err


def test_the_street_of_opencv_gives_795_rows(tmp_path: Path) -> None:
    done = oddwatch("score", shared("data/videos/vtest.avi"), "--out", tmp_path)
    assert done.code == 0, done.err
    assert len(rows(tmp_path / "vtest.scores.csv")) == 795


@pytest.mark.slow
def test_each_ped2_clip_gives_as_many_rows_as_it_has_frames(tmp_path: Path) -> None:
    folder = shared("data/ucsd_ped2/testing")
    done = oddwatch("score", folder, "--out", tmp_path)
    assert done.code == 0, done.err
    for clip in folder.iterdir():
        with av.open(str(clip)) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert len(rows(tmp_path / f"{clip.stem}.scores.csv")) == frames
