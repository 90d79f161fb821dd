"""The demo's courtyard when nobody is there: painted ground and wall, furniture, and what hides people behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from stages.demo.surfaces import surfaces, vignette
from stages.demo.world import CANVAS, EYE, FOCAL, SHADE, SUN, Colour, project

TREE = np.array([-3.4, 0.0, 12.6])
CROWN = np.array([-3.5, 3.9, 12.6])
LAMP = np.array([6.6, 0.0, 14.2])
Face = tuple[np.ndarray, Colour]
"""A flat polygon, metres (N, 3), and its colour."""


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """Something that people can pass behind."""

    top: int
    left: int
    pixels: np.ndarray
    """uint8 (h, w, 3) RGB."""
    mask: np.ndarray
    """uint8 (h, w), not zero where it covers."""
    depth_m: float
    sways: bool = False

    def paste(self, canvas: np.ndarray, down: int = 0, right: int = 0) -> None:
        """Draw onto the canvas (H, W, 3), moved by some pixels."""
        row, column = self.top + down, self.left + right
        row_from, column_from = max(row, 0), max(column, 0)
        row_to = min(row + self.mask.shape[0], canvas.shape[0])
        column_to = min(column + self.mask.shape[1], canvas.shape[1])
        inside = np.s_[row_from - row : row_to - row, column_from - column : column_to - column]
        cv2.copyTo(self.pixels[inside], self.mask[inside], canvas[row_from:row_to, column_from:column_to])


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The empty courtyard, uint8 (2H, 2W, 3) RGB, and its sprites from far to near."""

    lit: np.ndarray
    """With the shadows of what stands there."""
    shaded: np.ndarray
    """As it looks where a walker's shadow falls."""
    sprites: tuple[Sprite, ...]


def make_scene(rng: np.random.Generator) -> Scene:
    """Paint the courtyard."""
    sunny, ground = surfaces(rng)
    leaves = _leaves(rng)
    shadow = np.zeros(CANVAS, np.uint8)
    for face, _ in (*_furniture(), *_trunk(), *_lamp_post()):
        _fill(shadow, [(drop(face), (255, 255, 255))])
    for centre, radius_m, _ in leaves:
        _blob(shadow, drop(centre[None])[0], radius_m, (255, 255, 255), flat=0.5)
    soft = cv2.GaussianBlur(shadow, (0, 0), 1.5)[..., None] / 255.0 * ground[..., None]
    lit = sunny * (1 - (1 - SHADE) * soft) * vignette()
    shaded = np.minimum(lit, sunny * np.where(ground, SHADE, 1.0)[..., None] * vignette())
    pictures = [np.clip(p, 0, 255).astype(np.uint8) for p in (lit, shaded)]
    for picture in pictures:
        _fill(picture, _furniture())
    lamp, trunk = _cutout(_lamp_post(), LAMP), _cutout(_trunk(), TREE)
    sprites = sorted((lamp, trunk, _crown(leaves)), key=lambda s: -s.depth_m)
    return Scene(lit=pictures[0], shaded=pictures[1], sprites=tuple(sprites))


def drop(points_m: np.ndarray) -> np.ndarray:
    """Where the shadows of world points (N, 3) fall on the ground."""
    return points_m * (1, 0, 1) + points_m[:, 1:2] * SUN


def box(centre: ArrayLike, size: Sequence[float], colour: Colour, turn: float = 0.0) -> Iterator[Face]:
    """The visible faces of a box standing at `centre` (of its base), turned by radians about the vertical."""
    half = np.array([size[0] / 2, size[1], size[2] / 2])
    spin = np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]])
    for axis, sign in ((0, -1), (0, 1), (2, -1), (2, 1), (1, 1)):
        a, b = (k for k in range(3) if k != axis)
        corners = np.zeros((4, 3))
        corners[:, axis] = sign
        corners[:, a], corners[:, b] = (-1, 1, 1, -1), (-1, -1, 1, 1)
        corners[:, 1] = np.maximum(corners[:, 1], 0)
        normal = spin[:, axis] * sign
        world = (corners * half) @ spin.T + np.asarray(centre)
        if normal @ (EYE - world[0]) > 0:
            light = 1.12 if axis == 1 else 0.92 - 0.18 * float(normal @ (0.7, 0, 0.5))
            yield world, tone(colour, light)


def tone(colour: Colour, light: float) -> Colour:
    """The colour in more (> 1) or less light."""
    return tuple(int(min(255, c * light)) for c in colour)  # type: ignore[return-value]


def _fill(canvas: np.ndarray, faces: Sequence[Face]) -> None:
    for points, colour in faces:
        pixels, _ = project(points)
        cv2.fillConvexPoly(canvas, np.round(pixels * 16).astype(np.int32), colour, cv2.LINE_AA, 4)


def _blob(canvas: np.ndarray, centre: np.ndarray, radius_m: float, colour: Colour, flat: float = 1.0) -> None:
    pixels, depth_m = project(centre[None])
    radius = FOCAL * radius_m / depth_m[0]
    at = (int(pixels[0, 0]), int(pixels[0, 1]))
    cv2.ellipse(canvas, at, (int(radius), int(radius * flat)), 0, 0, 360, colour, -1, cv2.LINE_AA)


def _furniture() -> list[Face]:
    """Benches, a bin and hedges: behind every walker, so painted into the background."""
    hedge, wood, iron, stone = (62, 92, 52), (150, 104, 62), (64, 66, 70), (176, 170, 160)
    faces: list[Face] = []
    for x in (-16.5, -9.5, 5.5, 13.0, 20.5):
        faces += box((x, 0, 26.2), (5.6, 0.9, 1.0), hedge)
    for x in (-7.5, 10.6):
        faces += box((x, 0, 20.6), (2.0, 0.42, 0.1), stone)
        faces += box((x, 0.42, 20.4), (2.2, 0.08, 0.55), wood)
        faces += box((x, 0.55, 20.7), (2.2, 0.4, 0.08), wood)
    faces += box((12.6, 0, 20.4), (0.5, 0.95, 0.5), iron)
    return faces


def _trunk() -> list[Face]:
    return [*box(TREE, (0.36, 2.9, 0.36), (104, 82, 62), turn=0.5)]


def _lamp_post() -> list[Face]:
    iron = (58, 62, 66)
    head = LAMP + np.array([0, 4.1, 0])
    return [
        *box(LAMP, (0.34, 0.4, 0.34), iron),
        *box(LAMP, (0.14, 4.2, 0.14), iron),
        *box(head, (0.5, 0.42, 0.5), (232, 226, 196)),
        *box(head + np.array([0, 0.42, 0]), (0.7, 0.1, 0.7), iron),
    ]


def _cutout(faces: Sequence[Face], at: np.ndarray) -> Sprite:
    canvas, mask = np.zeros((*CANVAS, 3), np.uint8), np.zeros(CANVAS, np.uint8)
    _fill(canvas, faces)
    for points, _ in faces:
        pixels, _ = project(points)
        cv2.fillConvexPoly(mask, np.round(pixels * 16).astype(np.int32), 255, cv2.LINE_8, 4)
    return _cropped(canvas, mask, at)


def _cropped(canvas: np.ndarray, mask: np.ndarray, at: np.ndarray, sways: bool = False) -> Sprite:
    left, top, width, height = cv2.boundingRect(mask)
    inside = np.s_[top : top + height, left : left + width]
    _, depth_m = project(at[None])
    return Sprite(top, left, canvas[inside].copy(), mask[inside].copy(), float(depth_m[0]), sways)


Leaf = tuple[np.ndarray, float, Colour]
"""Centre in metres, radius in metres, colour."""


def _leaves(rng: np.random.Generator) -> list[Leaf]:
    """Tufts of the crown from back to front, lighter towards the sun and the sky."""
    around = rng.normal(size=(420, 3))
    around *= (rng.uniform(0.25, 1, 420) ** 0.5 / np.linalg.norm(around, axis=1))[:, None]
    around = around[np.argsort(-around[:, 2])]
    light = 0.86 + 0.26 * around[:, 1] - 0.12 * around[:, 0] + 0.1 * rng.normal(size=420)
    radius = rng.uniform(0.12, 0.3, 420)
    return [
        (CROWN + p * (1.75, 1.35, 1.5), float(r), tone((86, 124, 62), float(b)))
        for p, r, b in zip(around, radius, light, strict=True)
    ]


def _crown(leaves: Sequence[Leaf]) -> Sprite:
    canvas, mask = np.zeros((*CANVAS, 3), np.uint8), np.zeros(CANVAS, np.uint8)
    for centre, radius_m, colour in leaves:
        _blob(canvas, centre, radius_m, colour)
        _blob(mask, centre, radius_m, (255, 255, 255))
    return _cropped(canvas, np.where(mask > 127, 255, 0).astype(np.uint8), TREE, sways=True)
