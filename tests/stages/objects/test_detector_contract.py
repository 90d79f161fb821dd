"""What every registered detector promises. None comes with Oddwatch yet: one made here shows what is asked."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from plugged import plug_in

from stages.errors import ConfigError, WeightsError
from stages.objects.registry import DETECTORS, Boxes, Detector, DetectorKind, build_detector

MODULE = "bright_detector"


class Bright:
    """A box around what is bright."""

    name, id, classes = "bright", "bright@1", ("light",)

    def detect(self, pixels: np.ndarray) -> list[Boxes]:
        return [self._one(picture) for picture in pixels]

    @staticmethod
    def _one(picture: np.ndarray) -> Boxes:
        rows, columns = np.nonzero(picture.mean(axis=2) > 200)
        if not len(rows):
            return boxes([], [])
        height, width = picture.shape[:2]
        x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        return boxes([[x0 / width, y0 / height, x1 / width, y1 / height]], [0.9])


KIND = DetectorKind(name="bright", build=f"{MODULE}:build", analysis_height=240)


def build(name: str, device: str) -> Bright:
    return Bright()


def boxes(places: list, scores: list) -> Boxes:
    return Boxes(
        places=np.array(places, np.float32).reshape(-1, 4), scores=np.array(scores, np.float32),
        classes=np.zeros(len(scores), np.int32),
    )  # fmt: skip


@pytest.fixture(params=[*DETECTORS.names(), "bright"])
def detector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Detector:
    monkeypatch.setitem(sys.modules, MODULE, sys.modules[__name__])
    plug_in(monkeypatch, tmp_path, "bright", "oddwatch.detectors", bright=f"{MODULE}:KIND")
    try:
        return build_detector(request.param)
    except WeightsError:
        assert DETECTORS.get(request.param).weights
        pytest.skip("its weights are not installed")


def pictures(height: int, width: int) -> np.ndarray:
    """Dark ones with one bright place, but the last."""
    made = np.full((3, height, width, 3), 20, np.uint8)
    for t in range(2):
        made[t, height // 4 : height // 2, width // 4 + t : width // 2 + t] = 250
    return made


def same(a: Boxes, b: Boxes) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("places", "scores", "classes"))


@pytest.mark.parametrize(("height", "width"), [(96, 128), (240, 320), (120, 60)])
def test_each_picture_of_any_size_gets_its_boxes(detector: Detector, height: int, width: int) -> None:
    given = pictures(height, width)
    found = detector.detect(given)
    assert len(found) == 3
    assert all(isinstance(one, Boxes) and (one.classes < len(detector.classes)).all() for one in found)
    assert detector.detect(given[:0]) == []


def test_a_picture_s_boxes_do_not_depend_on_its_neighbours(detector: Detector) -> None:
    given = pictures(96, 128)
    together = detector.detect(given)
    for t in range(3):
        (alone,) = detector.detect(given[t : t + 1])
        assert same(alone, together[t])


def test_pictures_are_left_as_they_were(detector: Detector) -> None:
    given = pictures(96, 128)
    given.setflags(write=False)
    detector.detect(given)
    assert detector.id.partition("@")[0] == detector.name


@pytest.mark.parametrize(
    ("places", "scores", "says"),
    [
        ([[0.1, 0.1, 0.1, 0.5]], [0.5], "x0 < x1"),
        ([[0.1, 0.1, 20, 30]], [0.5], "parts of the picture"),
        ([[0, 0, 1, 1], [0, 0, 1, 1]], [0.5, 0.6], "fall"),
        ([[0, 0, 1, 1]], [0.0], r"lie in \(0, 1\]"),
    ],
)
def test_boxes_that_are_none_are_refused(places: list, scores: list, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        boxes(places, scores)


def test_one_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="unknown detector 'no'"):
        build_detector("no")
