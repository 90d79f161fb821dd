"""Picture files as cameras, phones and microscopes write them: padded, cut off, with several pages."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from makers_video import picture

from stages.decode.read import DecodeSettings, open_recording
from stages.decode.source import expand
from stages.errors import UsageError


def jpeg(index: int = 0, *options: int) -> bytes:
    return cv2.imencode(".jpg", picture(index, 64, 48), options)[1].tobytes()


def shown(path: Path) -> tuple[int, int, str]:
    """Sound pictures, faulty ones, and the status."""
    (source,) = expand([str(path)])
    reader = open_recording(source, DecodeSettings(height=48))
    faults = [bool(p.fault) for p in reader.pictures()]
    return faults.count(False), faults.count(True), reader.status


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(b"\0" * 5000, id="padding"),
        pytest.param(b"text " * 2000, id="text"),
        pytest.param(jpeg(7) + b"\0" * 9000, id="a second picture"),
    ],
)
def test_a_jpeg_is_whole_whatever_lies_behind_its_end(tmp_path: Path, behind: bytes) -> None:
    for n in range(4):
        (tmp_path / f"{n}.jpg").write_bytes(jpeg(n) + behind)
    assert shown(tmp_path) == (4, 0, "complete")


@pytest.mark.parametrize(
    ("options", "behind"),
    [
        pytest.param((), b"", id="cut"),
        pytest.param((cv2.IMWRITE_JPEG_PROGRESSIVE, 1), b"\0" * 9000, id="cut and padded, progressive"),
        pytest.param((cv2.IMWRITE_JPEG_RST_INTERVAL, 1), b"\0" * 9000, id="with restarts"),
    ],
)
def test_half_a_jpeg_is_none_even_where_something_lies_behind_it(
    tmp_path: Path, options: tuple[int, ...], behind: bytes
) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg(0, *options))
    data = jpeg(1, *options)
    (tmp_path / "1.jpg").write_bytes(data[: len(data) * 3 // 4] + behind)
    assert shown(tmp_path)[:2] == (1, 1)


@pytest.mark.parametrize("pages", [1, 16, 33])
def test_every_page_of_a_tiff_is_a_picture(tmp_path: Path, pages: int) -> None:
    cv2.imwritemulti(str(tmp_path / "stack.tif"), [picture(n, 64, 48) for n in range(pages)])
    assert shown(tmp_path) == (pages, 0, "complete")
    assert shown(tmp_path / "stack.tif") == (pages, 0, "complete")


@pytest.mark.skipif(not hasattr(cv2, "Animation"), reason="this OpenCV writes no animations")
def test_so_is_every_picture_of_an_animated_webp(tmp_path: Path) -> None:
    film = cv2.Animation()
    film.frames = [np.dstack([picture(n, 64, 48), np.full((48, 64), 255, np.uint8)]) for n in range(5)]
    film.durations = np.full(5, 100)
    cv2.imwriteanimation(str(tmp_path / "a.webp"), film)
    assert shown(tmp_path / "a.webp") == (5, 0, "complete")


@pytest.mark.parametrize("name", ["img%03d.jpg", "img%d.jpg", "img*.jpg"])
def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path: Path, name: str) -> None:
    for n in range(3):
        (tmp_path / f"img{n:03d}.jpg").write_bytes(jpeg(n))
        (tmp_path / f"img{n}.jpg").write_bytes(jpeg(n))
    (tmp_path / name).write_bytes(jpeg(9))
    assert shown(tmp_path / name) == (1, 0, "complete")


@pytest.mark.parametrize("empty", ["", "  ", "file://"])
def test_an_empty_path_is_not_the_current_folder(empty: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        expand([empty])
