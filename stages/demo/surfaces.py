"""Paint for the demo's courtyard: lawn, paving and the wall of the building, in perspective."""

from __future__ import annotations

import cv2
import numpy as np

from stages.demo.world import AXES, CANVAS, EYE, FOCAL, WALL_Z, lawn_distance


def surfaces(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ground and wall without shadows, float64 (2H, 2W, 3) RGB, and bool (2H, 2W): where there is ground."""
    rows, columns = np.mgrid[0 : CANVAS[0], 0 : CANVAS[1]] + 0.5
    right, up = (columns - CANVAS[1] / 2) / FOCAL, (CANVAS[0] / 2 - rows) / FOCAL
    ray = AXES[2] + right[..., None] * AXES[0] + up[..., None] * AXES[1]
    to_ground = np.where(ray[..., 1] < -1e-3, -EYE[1] / np.minimum(ray[..., 1], -1e-3), np.inf)
    to_wall = WALL_Z / ray[..., 2]
    ground = to_ground < to_wall
    x, y, z = np.moveaxis(ray * np.where(ground, to_ground, to_wall)[..., None] + EYE, -1, 0)
    noise = _Noise(rng)
    return np.where(ground[..., None], _ground(x, z, noise), _wall(x, y, noise)), ground


class _Noise:
    """Smooth random textures that tile the world: values around 0, about -1 to 1."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.tile = rng.normal(size=(512, 512)).astype(np.float32)

    def at(self, x: np.ndarray, y: np.ndarray, grain_m: float) -> np.ndarray:
        """Texture whose blobs are about `grain_m` wide."""
        u, v = (x / grain_m).astype(np.float32) % 511, (y / grain_m).astype(np.float32) % 511
        return cv2.remap(self.tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)

    def cell(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """One value for each integer cell."""
        return self.tile[i.astype(int) % 512, j.astype(int) % 512]


def _ground(x: np.ndarray, z: np.ndarray, noise: _Noise) -> np.ndarray:
    away = lawn_distance(x, z)
    slab = 0.75
    i, j = np.floor(x / slab), np.floor(z / slab)
    edge = np.maximum(np.abs(x / slab - i - 0.5), np.abs(z / slab - j - 0.5))
    paved = 172 + 6 * noise.cell(i, j) + 3 * noise.at(x, z, 0.08) + 5 * noise.at(x, z, 1.3) - 26 * (edge > 0.465)
    paving = paved[..., None] * np.array([1.0, 0.965, 0.90])
    stripes = np.where(np.floor((x + 0.35 * z) / 1.5) % 2 > 0, 5.0, -5.0)
    grass = stripes + 9 * noise.at(x, z, 0.06) + 7 * noise.at(x, z, 0.35) + 7 * noise.at(x, z, 2.1)
    lawn = np.array([98.0, 134.0, 72.0]) + grass[..., None] * np.array([0.9, 1.0, 0.6])
    kerb = np.array([196.0, 192.0, 182.0]) + 4 * noise.at(x, z, 0.1)[..., None]
    return np.where((away < 0)[..., None], paving, np.where((away < 0.16)[..., None], kerb, lawn))


def _wall(x: np.ndarray, y: np.ndarray, noise: _Noise) -> np.ndarray:
    course = np.floor(y / 0.22)
    brick = np.floor(x / 0.5 + 0.5 * (course % 2))
    joint = (y / 0.22 - course < 0.12) | (x / 0.5 + 0.5 * (course % 2) - brick < 0.05)
    tone = 7 * noise.cell(brick, course) + 3 * noise.at(x, y, 0.1) + 5 * noise.at(x, y, 2.3)
    wall = np.array([166.0, 118.0, 96.0]) + np.where(joint, 16, tone)[..., None]
    wall = np.where((y < 0.55)[..., None], np.array([138.0, 132.0, 124.0]) + tone[..., None] * 0.5, wall)
    wall = np.where((abs(y - 3.75) < 0.14)[..., None], np.array([206.0, 198.0, 184.0]), wall)
    bay = np.floor(x / 3.2 + 0.12)
    across = (x / 3.2 + 0.12 - bay - 0.5) * 3.2
    for low, high in ((1.2, 3.0), (4.5, 6.3)):
        middle, half = (low + high) / 2, (high - low) / 2
        frame = (abs(across) < 0.85) & (abs(y - middle) < half + 0.1)
        glass = (abs(abs(across) - 0.38) < 0.33) & (abs(y - middle) < half - 0.06) & (abs(y - middle - 0.3) > 0.04)
        sky = (
            92 + 26 * (y - low) / (high - low) + 9 * noise.cell(bay, course * 0 + low) + 10 * ((across + y) % 1.7 < 0.5)
        )
        wall = np.where(frame[..., None], np.array([222.0, 218.0, 208.0]), wall)
        wall = np.where(glass[..., None], sky[..., None] * np.array([0.78, 0.92, 1.06]), wall)
    frame = (abs(x + 2.0) < 1.35) & (y < 2.95)
    door = (abs(x + 2.0) < 1.1) & (y < 2.7)
    hall = 34 + 20 * y[..., None] * np.array([1.0, 0.9, 0.7])
    return np.where(door[..., None], hall, np.where(frame[..., None], np.array([204.0, 196.0, 182.0]), wall))


def vignette() -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : CANVAS[0] * 1j, -1 : 1 : CANVAS[1] * 1j]
    return (1.04 - 0.16 * (0.6 * x**2 + 0.4 * y**2))[..., None]
