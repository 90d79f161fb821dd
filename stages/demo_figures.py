"""How the demo's people, bicycle and van look: joints in the world, drawn as limbs with shadows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from stages.demo_scene import box, drop, tone
from stages.demo_world import FOCAL, Colour, project

Limb = tuple[np.ndarray, float, Colour]
"""A line through world points (N, 3) in metres, its thickness in metres (0: fill the polygon), its colour."""

SKIN = ((224, 178, 148), (198, 146, 112), (142, 98, 72), (104, 72, 54))
HAIR = ((40, 32, 28), (92, 62, 38), (168, 132, 80), (120, 118, 116))
TOPS = ((168, 52, 48), (44, 74, 128), (226, 222, 212), (52, 56, 62), (196, 150, 52), (70, 112, 96), (124, 84, 132))
TROUSERS = ((46, 54, 78), (58, 54, 50), (112, 98, 78), (34, 36, 40), (90, 100, 116))


@dataclass(frozen=True, slots=True)
class Look:
    """One person's clothes and size."""

    height_m: float
    top: Colour
    trousers: Colour
    skin: Colour
    hair: Colour
    bag: Colour | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """One moment of a body. Angles in radians; x and z in metres."""

    x: float
    z: float
    heading: float
    """Direction of travel: 0 is +x, pi/2 is +z."""
    phase: float = 0.0
    """Of the stride; 2 pi is two steps."""
    vigour: float = 0.5
    """Swing of the legs: 0 stands, 0.5 walks, 0.9 runs."""
    lean: float = 0.0
    """Of the trunk, forwards."""
    tilt: float = 0.0
    """Of the whole body about the feet, forwards: pi/2 lies on the ground."""
    punch: float = 0.0
    """0: arms swing; 1: arms are up and thrash."""


def draw_look(rng: np.random.Generator) -> Look:
    """Dress somebody at random."""
    bag = TOPS[rng.integers(len(TOPS))] if rng.random() < 0.4 else None
    return Look(
        height_m=float(rng.normal(1.72, 0.07)),
        top=TOPS[rng.integers(len(TOPS))],
        trousers=TROUSERS[rng.integers(len(TROUSERS))],
        skin=SKIN[rng.integers(len(SKIN))],
        hair=HAIR[rng.integers(len(HAIR))],
        bag=bag,
    )


def person(look: Look, pose: Pose) -> list[Limb]:
    """The limbs of a walking, running, fighting or falling person, in drawing order."""
    swing = pose.vigour * np.sin(pose.phase)
    lift = 1.7 * pose.vigour * np.cos(pose.phase)
    legs = [_leg(swing, max(0.0, lift)), _leg(-swing, max(0.0, -lift))]
    hip_y = 0.04 - min(float(leg[:, 1].min()) for leg in legs)
    bend = 0.25 + max(0.0, pose.vigour - 0.55) * 4
    arms = [_arm(-0.9 * swing, bend), _arm(0.9 * swing, bend)]
    if pose.punch:
        arms = [_arm(1.3 + 0.7 * np.sin(3 * pose.phase), 0.9), _arm(1.3 - 0.9 * np.cos(2.3 * pose.phase), 0.7)]
    hip = np.array([0.0, hip_y, 0.0])
    up = np.array([np.sin(pose.lean), np.cos(pose.lean), 0.0])
    neck = hip + 0.56 * up
    trunk = np.stack([hip, neck, neck + 0.2 * up])
    sides = (np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, -1.0]))
    body = _Body(look, pose)
    pairs = [(legs[k] + hip + 0.09 * sides[k], arms[k] + neck - 0.04 * up + 0.2 * sides[k], sides[k]) for k in (0, 1)]
    # The side that is farther from the camera is drawn first.
    pairs.sort(key=lambda pair: -float(project(body.place(neck + 0.2 * pair[2])[None])[1][0]))
    return [
        *body.arm(pairs[0][1], 0.78),
        *body.leg(pairs[0][0], 0.8),
        *body.leg(pairs[1][0], 1.0),
        *body.trunk(trunk),
        *body.arm(pairs[1][1], 0.94),
    ]


def _leg(forward: float, knee: float) -> np.ndarray:
    """Hip, knee, ankle and toe (4, 3) as forward, up and sideways, from the hip."""
    a, b = forward, forward - knee
    shin = np.array([np.sin(a), -np.cos(a), 0]) * 0.44
    ankle = shin + np.array([np.sin(b), -np.cos(b), 0]) * 0.44
    toe = ankle + np.array([np.cos(b), np.sin(b), 0]) * 0.16
    return np.stack([np.zeros(3), shin, ankle, toe])


def _arm(forward: float, bend: float) -> np.ndarray:
    a, b = forward, forward + bend
    elbow = np.array([np.sin(a), -np.cos(a), 0.02]) * 0.29
    return np.stack([np.zeros(3), elbow, elbow + np.array([np.sin(b), -np.cos(b), 0]) * 0.27])


class _Body:
    """Puts body coordinates (forward, up, sideways) into the world, and clothes on them."""

    def __init__(self, look: Look, pose: Pose) -> None:
        self.look = look
        cos, sin = np.cos(pose.tilt), np.sin(pose.tilt)
        tilt = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        cos, sin = np.cos(pose.heading), np.sin(pose.heading)
        turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
        self._turn = (turn @ tilt).T * (look.height_m / 1.72)
        self._at = np.array([pose.x, 0.1 * np.sin(pose.tilt), pose.z])

    def place(self, points: np.ndarray) -> np.ndarray:
        return points @ self._turn + self._at

    def arm(self, points: np.ndarray, light: float) -> Iterator[Limb]:
        world = self.place(points)
        yield world, 0.09, tone(self.look.top, light)
        yield world[2:] , 0.09, tone(self.look.skin, light)

    def leg(self, points: np.ndarray, light: float) -> Iterator[Limb]:
        world = self.place(points)
        yield world[2:], 0.1, (38, 34, 32)
        yield world[1:3], 0.12, tone(self.look.trousers, light)
        yield world[:2], 0.16, tone(self.look.trousers, light)

    def trunk(self, points: np.ndarray) -> Iterator[Limb]:
        hip, neck, head = points
        wide = np.array([0, 0, 0.17])
        shape = np.stack([hip - wide * 0.75, hip + wide * 0.75, neck + wide, neck - wide])
        back = np.array([-0.15, 0, 0])
        if self.look.bag is not None:
            yield self.place(np.stack([hip * 0.6 + neck * 0.4, neck * 0.95 + hip * 0.05]) + back), 0.24, self.look.bag
        yield self.place(np.stack([hip, neck])), 0.2, self.look.top
        yield self.place(shape), 0.0, self.look.top
        yield self.place(np.stack([neck, head])), 0.1, self.look.skin
        yield self.place(np.stack([head, head + (0, 0.04, 0)])), 0.2, self.look.skin
        yield self.place(np.stack([head + (-0.03, 0.05, 0), head + (-0.01, 0.09, 0)])), 0.2, self.look.hair


def cyclist(look: Look, pose: Pose) -> list[Limb]:
    """A person on a bicycle; the pedals turn with the phase."""
    body = _Body(look, pose)
    crank, saddle = np.array([0.0, 0.3, 0.0]), np.array([-0.18, 0.95, 0.0])
    neck, hand = np.array([0.22, 1.4, 0.0]), np.array([0.48, 1.0, 0.0])
    wheel = np.stack([np.cos(np.linspace(0, 2 * np.pi, 20)), np.sin(np.linspace(0, 2 * np.pi, 20)), np.zeros(20)], 1)
    frame = np.stack([(-0.52, 0.34, 0), crank, (0.4, 0.85, 0), saddle - (0, 0.1, 0), (-0.52, 0.34, 0)])
    fork = np.stack([(0.54, 0.34, 0), (0.42, 0.9, 0), hand])
    limbs: list[Limb] = [
        (body.place(wheel * 0.34 + (-0.52, 0.34, 0)), 0.05, (30, 30, 32)),
        (body.place(wheel * 0.34 + (0.54, 0.34, 0)), 0.05, (30, 30, 32)),
        (body.place(frame), 0.05, (176, 44, 40)),
        (body.place(fork), 0.05, (60, 62, 66)),
    ]
    for side, light in ((1.0, 0.8), (-1.0, 1.0)):
        turn = pose.phase + (np.pi if side > 0 else 0.0)
        foot = crank + 0.17 * np.array([np.cos(turn), -np.sin(turn), 0])
        across = np.array([0, 0, 0.1 * side])
        limbs += body.leg(np.stack([saddle, _knee(saddle, foot), foot, foot + (0.14, 0, 0)]) + across, light)
        limbs += body.arm(np.stack([neck, (neck + hand) / 2 - (0.06, 0.05, 0), hand]) + 1.5 * across, light)
    return limbs + list(body.trunk(np.stack([saddle, neck, neck + (0.1, 0.2, 0)])))


def _knee(hip: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Where thigh and shin of 0.44 m meet, in front of the line from hip to foot."""
    along = foot - hip
    out = np.sqrt(max(0.0, 0.44**2 - float(along @ along) / 4))
    normal = np.array([-along[1], along[0], 0]) / np.linalg.norm(along)
    return hip + along / 2 + normal * out


def van(pose: Pose) -> list[Limb]:
    """A small delivery van."""
    at, turn = np.array([pose.x, 0.0, pose.z]), pose.heading
    forward = np.array([np.cos(turn), 0, np.sin(turn)])
    limbs: list[Limb] = []
    white, glass, tyre = (226, 226, 222), (58, 74, 88), (32, 32, 34)
    parts = [
        (at - 0.1 * forward + (0, 0.3, 0), (3.9, 0.75, 1.7), white),
        (at - 0.45 * forward + (0, 1.05, 0), (3.0, 0.85, 1.6), white),
        (at - 0.1 * forward + (0, 0.62, 0), (3.92, 0.16, 1.72), (42, 108, 160)),
    ]
    for base, size, colour in parts:
        limbs += [(face, 0.0, shade) for face, shade in box(base, size, colour, turn)]
    near = np.array([-np.sin(turn), 0, np.cos(turn)])
    near *= -np.sign(near @ (at * (1, 0, 1)))
    for start, end in ((0.25, 0.95), (-0.75, 0.05)):
        low, high = at + 0.81 * near + (0, 1.15, 0), at + 0.81 * near + (0, 1.65, 0)
        limbs.append((np.stack([low + start * forward, low + end * forward, high + end * forward, high + start * forward]), 0.0, glass))
    ring = np.linspace(0, 2 * np.pi, 16)[:, None]
    for along in (-1.3, 1.15):
        hub = at + along * forward + 0.86 * near + (0, 0.34, 0)
        limbs.append((hub + 0.34 * (np.cos(ring) * forward + np.sin(ring) * np.array([0, 1, 0])), 0.0, tyre))
        limbs.append((hub + 0.16 * (np.cos(ring) * forward + np.sin(ring) * np.array([0, 1, 0])), 0.0, (150, 150, 152)))
    return limbs


def draw(canvas: np.ndarray, limbs: list[Limb]) -> None:
    """Draw onto the canvas, uint8 (H, W, 3) RGB."""
    pixels, depth_m = project(np.concatenate([points for points, _, _ in limbs]))
    _lines(canvas, limbs, np.round(pixels * 16).astype(np.int32), FOCAL / float(depth_m.mean()))


def draw_shadow(mask: np.ndarray, limbs: list[Limb]) -> None:
    """Set the mask, uint8 (H, W), to 255 where the limbs' shadow falls."""
    pixels, depth_m = project(drop(np.concatenate([points for points, _, _ in limbs])))
    _lines(mask, [(p, t, (255, 255, 255)) for p, t, _ in limbs], np.round(pixels * 16).astype(np.int32), FOCAL / float(depth_m.mean()))


def _lines(picture: np.ndarray, limbs: list[Limb], pixels: np.ndarray, pixels_per_m: float) -> None:
    start = 0
    for points, thickness_m, colour in limbs:
        line = pixels[start : start + len(points)]
        start += len(points)
        if thickness_m == 0.0:
            cv2.fillConvexPoly(picture, line, colour, cv2.LINE_AA, 4)
        else:
            width = max(1, round(thickness_m * pixels_per_m))
            cv2.polylines(picture, [line], False, colour, width, cv2.LINE_AA, 4)
