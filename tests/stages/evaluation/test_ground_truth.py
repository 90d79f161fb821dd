"""Published annotations become intervals counted from 0 with both ends inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from places import shared
from scipy.io import savemat

from stages.errors import ConfigError
from stages.evaluation.ground_truth import (
    MATLAB,
    PYTHON,
    RTFM,
    Convention,
    avenue_pixels,
    from_mask,
    gt_mat,
    shanghaitech,
    ucfcrime,
    ucsd,
    xd_violence,
)


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        pytest.param(MATLAB, (164, 239), id="Sultani"),
        pytest.param(RTFM, (165, 240), id="RTFM"),
        pytest.param(PYTHON, (165, 239), id="ekosman"),
    ],
)
def test_ucfcrime_intervals_follow_the_convention(convention: Convention, expected: tuple[int, int]) -> None:
    assert ucfcrime("a.mp4  Abuse  165  240  -1  -1", {"a.mp4": 1000}, convention) == {"a.mp4": (expected,)}


def test_ucfcrime_ends_behind_the_video_are_clipped() -> None:
    text = "a.mp4 Arson 1 4 8 1267\nn.mp4 Normal -1 -1 -1 -1\n"
    assert ucfcrime(text, {"a.mp4": 10, "n.mp4": 5}) == {"a.mp4": ((0, 3), (7, 9)), "n.mp4": ()}


def test_an_interval_behind_the_end_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"a\.mp4: frames 20 to 30 do not lie in its 10 frames"):
        ucfcrime("a.mp4 Arson 20 30 -1 -1", {"a.mp4": 10})


def test_a_damaged_annotation_names_its_line() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        xd_violence("a 1 5\nb 1", {"a": 9, "b": 9})
    with pytest.raises(ConfigError, match="line 1"):
        ucfcrime("a.mp4 Arson x 5 -1 -1", {"a.mp4": 9})


def test_the_official_ucfcrime_annotation_has_the_published_counts() -> None:
    text = shared("data/ucfcrime_c3d/Temporal_Anomaly_Annotation.txt").read_text()
    truth = ucfcrime(text, dict.fromkeys((line.split()[0] for line in text.splitlines() if line.strip()), 10**6))
    intervals = [len(found) for found in truth.values()]
    assert (len(truth), sum(n > 0 for n in intervals), intervals.count(2)) == (290, 140, 16)


def test_xd_violence_videos_without_a_line_are_normal() -> None:
    assert xd_violence("v_label_B1 2 5 8 9\n", {"v_label_B1": 20, "n_label_A": 20}) == {
        "v_label_B1": ((2, 4), (8, 8)),
        "n_label_A": (),
    }


def test_ucsd_ranges_count_from_one() -> None:
    text = "TestVideoFile = {};\n%TestVideoFile{end+1}.gt_frame = [1:2];\n"
    text += "TestVideoFile{end+1}.gt_frame = [61:180];\nTestVideoFile{end+1}.gt_frame = [5:90, 140:200];\n"
    assert ucsd(text, {"Test001": 180, "Test002": 180}) == {"Test001": ((60, 179),), "Test002": ((4, 89), (139, 179))}


def test_ucsd_pixel_masks_give_the_intervals_of_the_manifest() -> None:
    mask = np.zeros((6, 4, 5), bool)
    mask[2, 1, 1] = mask[3, 0, 0] = mask[5, 3, 4] = True
    assert from_mask(mask, "Test001", 6) == ((2, 3), (5, 5))


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="the mask has 5 frames, the video 6"):
        from_mask(np.zeros(5), "01_0014", 6)


def test_shanghaitech_masks_are_read_and_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "01_0014.npy", np.array([0, 1, 1, 0]))
    np.save(tmp_path / "bad.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert shanghaitech(tmp_path, {"01_0014": 4}) == {"01_0014": ((1, 2),)}
    with pytest.raises(ConfigError, match=r"bad\.npy"):
        shanghaitech(tmp_path, {"bad": 1})


def test_avenue_pixel_labels_and_gt_cells(tmp_path: Path) -> None:
    masks = np.empty((1, 4), dtype=object)
    for i in range(4):
        masks[0, i] = np.full((2, 3), i in (1, 2), np.uint8)
    savemat(tmp_path / "1_label.mat", {"volLabel": masks})
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = np.array([[2, 8], [4, 9]]), np.array([[1], [3]])
    savemat(tmp_path / "avenue.mat", {"gt": cells})
    assert avenue_pixels(tmp_path / "1_label.mat", 4) == ((1, 2),)
    assert gt_mat(tmp_path / "avenue.mat", {"02": 5, "01": 20}) == {"01": ((1, 3), (7, 8)), "02": ((0, 2),)}


def test_a_matlab_file_without_the_label_is_named(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"other": np.zeros(3)})
    (tmp_path / "y.mat").write_bytes(b"not matlab at all")
    with pytest.raises(ConfigError, match=r"x\.mat: has no 'gt'"):
        gt_mat(tmp_path / "x.mat", {})
    with pytest.raises(ConfigError, match=r"y\.mat: cannot read"):
        gt_mat(tmp_path / "y.mat", {})
