"""The world of the demo footage: where its camera looks and where its paths lie.

World: metres, x along the building, y up, z away from the camera's wall. Pictures are drawn at twice the film's size.
"""

from __future__ import annotations

import numpy as np

WIDTH, HEIGHT = 432, 240
"""Of the film, in pixels."""
CANVAS = (2 * HEIGHT, 2 * WIDTH)
"""Rows and columns of the picture before it is halved; the halving smooths edges."""

EYE = np.array([0.0, 5.8, 0.0])
FOCAL = 700.0
PITCH, YAW = np.radians(18.0), np.radians(12.0)
WALL_Z = 27.0
SUN = np.array([0.62, 0.0, -0.30])
"""Where the shadow of a point one metre up falls, relative to its foot."""
SHADE = 0.62

PATHS = np.array([(0.0, 17.2, 60.0, 2.3), (4.0, 5.0, 1.6, 12.0), (-2.0, 23.0, 1.3, 5.0)])
"""Paved rectangles: centre x, centre z, half width, half depth. The rest of the ground is lawn."""

_FORWARD = np.array([np.sin(YAW) * np.cos(PITCH), -np.sin(PITCH), np.cos(YAW) * np.cos(PITCH)])
_RIGHT = np.array([np.cos(YAW), 0.0, -np.sin(YAW)])
AXES = np.stack([_RIGHT, np.cross(_FORWARD, _RIGHT), _FORWARD])
"""Rows: the camera's right, up and forward."""

Colour = tuple[int, int, int]


def project(points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Canvas pixels (N, 2) as x, y and depths in metres (N,) of world points (N, 3)."""
    seen = (points_m - EYE) @ AXES.T
    depth_m = np.maximum(seen[:, 2], 0.5)
    pixels = seen[:, :2] * (FOCAL / depth_m)[:, None] * (1, -1) + (CANVAS[1] / 2, CANVAS[0] / 2)
    return pixels, depth_m


def lawn_distance(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Metres from the nearest paving, negative on it."""
    away = [np.maximum(abs(x - cx) - hx, abs(z - cz) - hz) for cx, cz, hx, hz in PATHS]
    return np.min(away, axis=0)
