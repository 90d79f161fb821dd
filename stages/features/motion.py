"""`motion`: optical-flow statistics on a grid of cells. No weights, CPU only.

Recipe (METHODS.md, A0b): gray pictures of height 240, dense inverse-search flow (Kroeger et al., ECCV 2016) from
a frame to its predecessor, and for each 16-pixel cell that moves: how much, how fast, and in which directions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from stages.features.kinds import MOTION
from stages.messages import Features, Snippet
from stages.pace import holes, pace_of, saved_pace
from stages.stage import State

HEIGHT = MOTION.analysis_height
"""Pixels: every picture is brought to this height, larger or smaller, with its aspect kept."""
WIDTHS = (48, 960)
"""Pixels: a picture narrower or wider than this at HEIGHT (aspect beyond 1:5 or 4:1) is stretched to fit."""
STRIDE = 8
"""Pixels between cells; a cell is two strides wide and high."""
BINS = 8
"""Directions told apart."""
DIM = BINS + 3
MOVING = 0.15
"""Pixels per frame above which a pixel moves; and the fraction of a cell that must move for it to be active."""
SHIFT = 0.05
"""Pixels per frame: a smaller median flow is noise, a larger one is the camera shaking, and is taken out."""
RECIPE = f"2 dis-medium {HEIGHT} {WIDTHS} {STRIDE} {BINS} {MOVING} {SHIFT}"


def build(name: str = MOTION.name, device: str = "cpu", precision: str = "fp32") -> Motion:
    """The extractor. It always runs on the CPU, in the numbers of OpenCV."""
    # The results of DIS depend on OpenCV's own threads; frames are spread over ours instead.
    cv2.setNumThreads(1)
    return Motion(workers=min(4, os.cpu_count() or 1))


class Motion:
    """Snippets to the flow statistics of their moving cells; remembers the previous picture."""

    name = MOTION.name
    id = f"{MOTION.name}@{hashlib.sha256(RECIPE.encode()).hexdigest()[:8]}"
    dim = DIM
    sparse = MOTION.sparse
    analysis_height = HEIGHT

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, "motion")

    def process(self, batch: Sequence[tuple[Snippet, State]]) -> list[tuple[list[Features], State]]:
        """Features of each snippet. A frame without a predecessor, at a run's start or after a hole in time, takes
        the cells of the next."""
        return [self._describe(snippet, state) for snippet, state in batch]

    def finish(self, state: State) -> tuple[list[Features], State]:
        """Forget the previous picture: the next frame does not follow it."""
        return [], {}

    def _describe(self, snippet: Snippet, state: State) -> tuple[list[Features], State]:
        grays = list(self._pool.map(gray, snippet.pixels))
        times_s = snippet.times_s[snippet.picked]
        before = state.get("gray")
        follows = before is not None and before.shape == grays[0].shape
        chain = [before, *grays] if follows else grays
        last_s = float(state["last_s"]) if follows and "last_s" in state else None
        anew, pace = holes(times_s, last_s, pace_of(state))
        alone = set(np.flatnonzero(anew).tolist()) | (set() if follows else {0})
        pairs = [t for t in range(len(grays)) if t not in alone]
        ahead = 1 if follows else 0
        moved = self._pool.map(describe, [chain[t + ahead - 1] for t in pairs], [chain[t + ahead] for t in pairs])
        found = dict(zip(pairs, moved, strict=True))
        nothing = (np.zeros((0, DIM), np.float32), np.zeros((0, 2), int))
        moves = [found.get(t, found.get(t + 1, nothing)) for t in range(len(grays))]
        cells = [np.insert(at, 0, t, axis=1).astype(np.int16) for t, (_, at) in enumerate(moves)]
        features = Features(
            **snippet.header(),
            extractor=self.id,
            values=np.concatenate([v for v, _ in moves] or [np.zeros((0, DIM), np.float32)]),
            cells=np.concatenate(cells or [np.zeros((0, 3), np.int16)]),
            grid=grid_of(grays[0]),
        )
        return [features], {"gray": grays[-1], "last_s": times_s[-1:].reshape(())} | saved_pace(pace)


def gray(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) RGB of any size -> uint8 (240, W'), brought to size by area or, if smaller, linearly."""
    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = image.shape
    size = (int(np.clip(round(width * HEIGHT / height), *WIDTHS)), HEIGHT)
    if size == (width, height):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if height > HEIGHT else cv2.INTER_LINEAR)


def grid_of(image: np.ndarray) -> tuple[int, int]:
    """(rows, columns) of cells on a picture."""
    height, width = image.shape
    return height // STRIDE - 1, width // STRIDE - 1


def flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """float32 (120, W/2, 2): pixels per frame (of the 240-pixel picture) from `after` back to `before`."""
    # A fresh one each time: it keeps buffers, so it cannot be shared between threads, and costs half a millisecond.
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    full = dis.calc(after, before, None)
    half = cv2.resize(full, (full.shape[1] // 2, full.shape[0] // 2), interpolation=cv2.INTER_AREA)
    shift = np.median(half.reshape(-1, 2), axis=0)
    return half - shift if np.hypot(*shift) > SHIFT else half


def describe(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells that moved between two gray pictures: values float32 (N, 11) and int (N, 2) [row, column].

    Values: mean flow magnitude in each of 8 directions, mean magnitude, root mean square, fraction moving.
    """
    moved = flow(before, after)
    speed, angle = cv2.cartToPolar(moved[..., 0], moved[..., 1])
    # Shared between the two nearest directions, so that a slight turn does not change everything.
    direction = angle * np.float32(BINS / (2 * np.pi))
    lower = direction.astype(np.intp)
    upper_share = speed * (direction - lower)
    planes = np.zeros((*speed.shape, DIM), np.float32)
    np.put_along_axis(planes, (lower % BINS)[..., None], (speed - upper_share)[..., None], axis=2)
    np.put_along_axis(planes, ((lower + 1) % BINS)[..., None], upper_share[..., None], axis=2)
    planes[..., BINS] = speed
    planes[..., BINS + 1] = speed * speed
    planes[..., BINS + 2] = speed > MOVING
    values = cell_means(planes)
    values[..., BINS + 1] = np.sqrt(values[..., BINS + 1])
    active = values[..., BINS + 2] > MOVING
    return values[active], np.argwhere(active)


def cell_means(planes: np.ndarray) -> np.ndarray:
    """(h, w, C) at half size -> (rows, columns, C): means over overlapping cells."""
    step = STRIDE // 2
    rows, columns = planes.shape[0] // step, planes.shape[1] // step
    cut = planes[: rows * step, : columns * step].reshape(rows, step, columns * step, -1)
    blocks = cut.sum(axis=1).reshape(rows, columns, step, -1).sum(axis=2)
    pairs = blocks[1:] + blocks[:-1]
    return (pairs[:, 1:] + pairs[:, :-1]) / np.float32(4 * step * step)
