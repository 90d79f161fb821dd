"""Published annotations and a folder of videos become a manifest. 20 s, for commands."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from e2e import film, oddwatch
from places import shared
from scipy.io import savemat

from stages.errors import ConfigError, UsageError
from stages.evaluation.annotated import (
    AnnotatedVideos,
    FoundVideo,
    from_avenue,
    from_shanghaitech,
    from_ucf_crime,
    from_ucsd,
    from_xd_violence,
    videos_in,
)
from stages.evaluation.ground_truth import PYTHON
from stages.features.feature_files import read_features
from stages.files.manifest import read_manifest


def count_frames(videos: dict[str, FoundVideo]) -> dict[str, int]:
    return {name: video.frames() for name, video in videos.items()}


def feature_files(folder: Path, **rows: int) -> Path:
    folder.mkdir(exist_ok=True)
    for name, count in rows.items():
        np.save(folder / f"{name}.npy", np.ones((count, 2, 4), np.float32))
    return folder


def pictures(folder: Path, count: int, odd: range = range(0)) -> None:
    """A folder of pictures, or of masks."""
    folder.mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:03}.bmp"), np.full((16, 16), 255 * (i in odd), np.uint8))


def intervals(labelled: AnnotatedVideos) -> dict:
    return dict(labelled.truth)


def test_rows_of_feature_files_are_sixteen_frames_and_ends_are_clipped_to_them(tmp_path: Path) -> None:
    folder = feature_files(tmp_path / "f", Abuse028_x264_i3d=4, Normal1_x264_i3d=2)
    text = "Abuse028_x264.mp4 Abuse 3 999 -1 -1\nNormal1_x264.mp4 Normal -1 -1 -1 -1\nGone_x264.mp4 Arson 1 2 -1 -1\n"
    (tmp_path / "a.txt").write_text(text)
    found = from_ucf_crime(tmp_path / "a.txt", videos_in(folder), count_frames)
    assert intervals(found) == {"Abuse028_x264.mp4": ((2, 63),), "Normal1_x264.mp4": ()}
    assert found.missing == ["Gone_x264.mp4"]
    entries = found.entries(tmp_path / "m.jsonl", "test")
    assert [(e.video, e.label, e.split) for e in entries] == [
        ("f/Abuse028_x264_i3d.npy", 1, "test"),
        ("f/Normal1_x264_i3d.npy", 0, "test"),
    ]
    (tmp_path / "a.txt").write_text("Abuse028_x264.mp4 Abuse 3 10 -1 -1\n")
    other = from_ucf_crime(tmp_path / "a.txt", videos_in(folder), count_frames, PYTHON)
    assert intervals(other) == {"Abuse028_x264.mp4": ((3, 9),)}


def test_xd_violence_names_hold_dots_and_hashes_and_crops_are_one_video(tmp_path: Path) -> None:
    odd, calm = "Bad.Film.2014__#00-01_00-02_label_B2-0-0", "v=ab__#1_label_A"
    folder = feature_files(tmp_path / "f")
    for name in (odd, calm):
        for crop in range(5):
            np.save(folder / f"{name}__{crop}.npy", np.ones((3, 4), np.float32))
    (tmp_path / "annotations.txt").write_text(f"{odd} 2 20\n")
    found = from_xd_violence(tmp_path / "annotations.txt", videos_in(folder), count_frames)
    assert intervals(found) == {odd: ((2, 19),), calm: ()}
    assert [read_features(e.path).shape for e in found.entries(tmp_path / "m.jsonl", None)] == [(3, 5, 4)] * 2


def test_shanghaitech_masks_must_have_the_frames_of_the_video(tmp_path: Path) -> None:
    pictures(tmp_path / "frames/01_0014", 5)
    pictures(tmp_path / "frames/01_0015", 5)
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks/01_0014.npy", np.array([0, 1, 1, 0, 1]))
    found = from_shanghaitech(tmp_path / "masks", videos_in(tmp_path / "frames"), count_frames)
    assert intervals(found) == {"01_0014": ((1, 2), (4, 4))}
    np.save(tmp_path / "masks/01_0014.npy", np.zeros(4))
    with pytest.raises(ConfigError, match="the mask has 4 frames, the video 5"):
        from_shanghaitech(tmp_path / "masks", videos_in(tmp_path / "frames"), count_frames)


def test_ucsd_is_read_from_each_of_its_formats(tmp_path: Path) -> None:
    for name in ("Test001", "Test002"):
        pictures(tmp_path / "Test" / name, 6)
    pictures(tmp_path / "gt/Test001_gt", 6, odd=range(2, 4))
    pictures(tmp_path / "gt/Test002_gt", 6)
    masks = {"01": np.zeros((6, 4, 4), bool), "02": np.zeros((6, 4, 4), bool)}
    masks["01"][2:4, 1, 1] = True
    np.savez(tmp_path / "masks.npz", **masks)
    (tmp_path / "gt.m").write_text("TestVideoFile{end+1}.gt_frame = [3:4];\nTestVideoFile{end+1}.gt_frame = [];\n")
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.array([[3], [4]]), np.empty((2, 0))
    savemat(tmp_path / "ped.mat", {"gt": cells})
    for annotation in ("gt", "masks.npz", "gt.m", "ped.mat"):
        found = from_ucsd(tmp_path / annotation, videos_in(tmp_path / "Test"), count_frames)
        assert intervals(found) == {"Test001": ((2, 3),), "Test002": ()}, annotation


def test_ucsd_as_published_has_masks_beside_the_videos(tmp_path: Path) -> None:
    pictures(tmp_path / "Test/Test001", 6)
    pictures(tmp_path / "Test/Test001_gt", 6, odd=range(2, 4))
    found = from_ucsd(tmp_path / "Test", videos_in(tmp_path / "Test"), count_frames)
    assert intervals(found) == {"Test001": ((2, 3),)}
    assert [e.video for e in found.entries(tmp_path / "m.jsonl", "test")] == ["Test/Test001"]
    pictures(tmp_path / "Train/Train001", 6)
    with pytest.raises(UsageError, match="two videos of one number"):
        from_ucsd(tmp_path / "Test", videos_in(tmp_path), count_frames)


def test_avenue_is_read_from_pixel_labels(tmp_path: Path) -> None:
    pictures(tmp_path / "videos/01", 4)
    (tmp_path / "gt").mkdir()
    cells = np.empty((1, 4), object)
    for i in range(4):
        cells[0, i] = np.full((2, 3), i == 1, np.uint8)
    savemat(tmp_path / "gt/1_label.mat", {"volLabel": cells})
    assert intervals(from_avenue(tmp_path / "gt", videos_in(tmp_path / "videos"), count_frames)) == {"01": ((1, 1),)}


def test_two_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    for part in ("a", "b"):
        pictures(tmp_path / part / "01", 2)
    with pytest.raises(UsageError, match="two videos of one name"):
        videos_in(tmp_path)


def test_the_command_writes_a_manifest_that_evaluate_reads(tmp_path: Path) -> None:
    film(tmp_path / "videos/01.mp4", 30)
    film(tmp_path / "videos/02.mp4", 20)
    (tmp_path / "gt.m").write_text("TestVideoFile{end+1}.gt_frame = [3:99];\nTestVideoFile{end+1}.gt_frame = [];\n")
    out = tmp_path / "m.jsonl"
    done = oddwatch("manifest", "ucsd", tmp_path / "gt.m", "--videos", tmp_path / "videos", "--out", out)
    assert done.code == 0, done.err
    assert "2 videos, 1 with anomalies" in done.out
    assert [(e.video, e.truth) for e in read_manifest(out, "test")] == [
        ("videos/01.mp4", ((2, 29),)),
        ("videos/02.mp4", ()),
    ]


@pytest.mark.parametrize(
    ("annotation", "videos", "said"),
    [
        pytest.param("none.txt", "videos", "none.txt: cannot read the annotation", id="no annotation"),
        pytest.param("a.txt", "nowhere", "nowhere: no such folder", id="no folder"),
        pytest.param("a.txt", "videos", "holds none of the annotated videos", id="other videos"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, annotation: str, videos: str, said: str) -> None:
    feature_files(tmp_path / "videos", other=2)
    (tmp_path / "a.txt").write_text("Abuse028_x264.mp4 Abuse 3 9 -1 -1\n")
    done = oddwatch(
        "manifest", "ucf-crime", tmp_path / annotation, "--videos", tmp_path / videos, "--out", tmp_path / "m.jsonl"
    )
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err


def test_the_masks_of_ped2_give_its_manifest(tmp_path: Path) -> None:
    folder = shared("data/ucsd_ped2")
    found = from_ucsd(folder / "masks.npz", videos_in(folder / "testing"), count_frames)
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    wanted = {f"testing/{Path(r['video']).name}": r["anomalies"] for r in lines if r["split"] == "test"}
    entries = found.entries(folder / "manifest.jsonl", "test")
    assert {e.video: [list(pair) for pair in e.truth or ()] for e in entries} == wanted
