"""The motion extractor, on small made pictures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from stages.features.motion import Motion
from stages.features.registry import build_extractor
from stages.messages import Snippet

RIGHT = 4
"""Flow points from a frame back to its predecessor, so what moves right points left: half a turn, bin 4 of 8."""


@pytest.fixture(scope="module")
def motion() -> Motion:
    extractor = build_extractor("motion")
    assert isinstance(extractor, Motion)
    return extractor


def scene(frames: int, step: float = 2.0, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """uint8 (T, H, W, 3): a textured block moving right by `step` pixels a frame over a textured background."""
    draw = np.random.default_rng(3)
    height, width = size
    ground = np.kron(draw.integers(60, 120, (height // 4 + 1, width // 4 + 1)), np.ones((4, 4)))[:height, :width]
    block = np.kron(draw.integers(120, 250, (height // 16, height // 16)), np.ones((4, 4)))
    pictures = np.repeat(ground[None], frames, axis=0)
    for t in range(frames):
        left, top = 10 + round(t * step), height // 3
        pictures[t, top : top + len(block), left : left + len(block)] = block
    return np.repeat(pictures[..., None], 3, axis=3).astype(np.uint8)


def snippet(pixels: np.ndarray, first: int = 0) -> Snippet:
    count = len(pixels)
    return Snippet(
        camera="yard",
        run_ms=1,
        seq=first,
        first_frame=first,
        times_s=(first + np.arange(count)) / 10,
        picked=np.arange(count, dtype=np.int32),
        pixels=pixels,
    )


def run(motion: Motion, pixels: np.ndarray, cuts: list[int]):
    """(frame, row, column) and values of all active cells, with the pictures cut into snippets at `cuts`."""
    state, cells, values = {}, [], []
    edges = [0, *cuts, len(pixels)]
    for a, b in pairwise(edges):
        [([features], state)] = motion.process([(snippet(pixels[a:b], a), state)])
        cells.append(features.cells + np.array([a, 0, 0]))
        values.append(features.values)
    return np.concatenate(cells), np.concatenate(values)


def test_a_still_scene_has_no_active_cells(motion):
    cells, values = run(motion, np.repeat(scene(1), 5, axis=0), [])
    assert len(cells) == 0
    assert values.shape == (0, motion.dim)


def test_what_moves_is_found_where_it_is_with_its_speed_and_direction(motion):
    cells, values = run(motion, scene(4, step=3.0), [])
    inside = values[values[:, 10] > 0.95]
    assert len(inside) > 10
    assert np.median(inside[:, 8]) == pytest.approx(3, abs=0.3)
    assert (inside[:, :8].argmax(axis=1) == RIGHT).mean() > 0.9
    assert cells[:, 1].min() * 8 >= 80 - 40
    assert cells[:, 1].max() * 8 <= 80 + 60 + 40


def test_the_first_frame_takes_the_cells_of_the_second(motion):
    cells, values = run(motion, scene(3), [])
    assert np.array_equal(cells[cells[:, 0] == 0, 1:], cells[cells[:, 0] == 1, 1:])
    assert np.array_equal(values[cells[:, 0] == 0], values[cells[:, 0] == 1])


def test_a_run_of_one_frame_has_no_cells(motion):
    cells, _ = run(motion, scene(1), [])
    assert len(cells) == 0


@pytest.mark.parametrize("cuts", [[2], [5, 6, 7], [3, 9]], ids=str)
def test_how_frames_are_cut_into_snippets_changes_nothing(motion, cuts):
    pixels = scene(12)
    whole, parts = run(motion, pixels, []), run(motion, pixels, cuts)
    assert np.array_equal(whole[0], parts[0])
    assert np.array_equal(whole[1], parts[1])


def test_the_number_of_threads_changes_nothing():
    pixels = scene(6)
    alone, four = run(Motion(workers=1), pixels, []), run(Motion(workers=4), pixels, [])
    assert np.array_equal(alone[1], four[1])


def test_after_finish_the_previous_picture_is_forgotten(motion):
    pixels = scene(6, step=6)
    [(_, state)] = motion.process([(snippet(pixels[:3]), {})])
    assert motion.finish(state) == ([], {})


def test_the_given_state_is_left_alone_and_neighbours_do_not_matter(motion):
    pixels = scene(8)
    [(_, state)] = motion.process([(snippet(pixels[:4]), {})])
    before = state["gray"].copy()
    [([alone], _)] = motion.process([(snippet(pixels[4:], 4), state)])
    [([beside], _), _] = motion.process([(snippet(pixels[4:], 4), state), (snippet(pixels[::-1]), {})])
    assert np.array_equal(state["gray"], before)
    assert np.array_equal(alone.values, beside.values)


def test_a_picture_of_another_size_does_not_follow_the_previous_one(motion):
    [(_, state)] = motion.process([(snippet(scene(2)), {})])
    [([features], _)] = motion.process([(snippet(scene(2, size=(240, 400)), 2), state)])
    assert features.grid == (29, 49)


def test_a_shaking_camera_is_not_motion_everywhere(motion):
    still = scene(1, size=(260, 340))[0]
    shaken = np.stack([still[d : d + 240, 2 * d : 2 * d + 320] for d in (0, 3, 1, 4)])
    cells, _ = run(motion, shaken, [])
    assert len(cells) < 0.1 * 4 * 29 * 39


@pytest.mark.parametrize(
    ("height", "width", "grid"),
    [
        pytest.param(16, 16, (29, 29), id="tiny"),
        pytest.param(97, 131, (29, 39), id="odd"),
        pytest.param(320, 180, (29, 15), id="portrait"),
        pytest.param(2160, 3840, (29, 52), id="4k"),
        pytest.param(16, 640, (29, 119), id="a strip"),
        pytest.param(640, 16, (29, 5), id="a pole"),
        pytest.param(1, 1, (29, 29), id="one pixel"),
    ],
)
def test_pictures_of_any_size_are_brought_to_one_height(motion, height, width, grid):
    pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    [([features], state)] = motion.process([(snippet(pixels), {})])
    assert features.grid == grid
    assert state["gray"].shape[0] == 240
    assert np.isfinite(features.values).all()


def test_the_same_thing_filmed_larger_moves_as_fast(motion):
    small, large = scene(4, step=2.0), np.repeat(np.repeat(scene(4, step=2.0), 2, axis=1), 2, axis=2)
    speeds = [np.median(values[values[:, 10] > 0.9, 8]) for _, values in (run(motion, p, []) for p in (small, large))]
    assert speeds[1] == pytest.approx(speeds[0], rel=0.1)


@pytest.mark.parametrize("cut", [8, 4])
def test_there_is_no_motion_across_a_hole(motion: Motion, cut: int) -> None:
    """A camera that is off for an hour, then sees the block elsewhere."""
    pixels = np.concatenate([scene(4), scene(8, step=9.0)[4:]])
    times_s = np.arange(8) / 10 + 3600.0 * (np.arange(8) >= 4)
    state: dict = {}
    cells = []
    for a, b in ((0, cut), (cut, 8)):
        if b > a:
            part = replace(snippet(pixels[a:b], a), times_s=times_s[a:b])
            [([found], state)] = motion.process([(part, state)])
            cells += [found.cells[found.cells[:, 0] == t - a, 1:] for t in range(a, b)]
    [([alone], _)] = motion.process([(snippet(pixels[4:]), {})])

    for t in range(4):
        assert np.array_equal(cells[4 + t], alone.cells[alone.cells[:, 0] == t, 1:])
