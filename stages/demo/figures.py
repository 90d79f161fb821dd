"""How the demo's people, bicycle and van look: joints in the world, drawn as limbs with shadows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from stages.demo.scene import box, drop, tone
from stages.demo.world import AXES, FOCAL, Colour, project

Limb = tuple[np.ndarray, float, Colour]
"""A line through points (N, 3) in metres, its thickness in metres (0: fill the polygon), its colour."""

SKIN = ((224, 178, 148), (198, 146, 112), (142, 98, 72), (104, 72, 54))
HAIR = ((40, 32, 28), (92, 62, 38), (168, 132, 80), (120, 118, 116))
TOPS = (
    (168, 52, 48), (44, 74, 128), (226, 222, 212), (52, 56, 62), (196, 150, 52),
    (70, 112, 96), (124, 84, 132), (112, 150, 186), (96, 78, 60), (206, 122, 104),
)  # fmt: skip
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
    bend = 0.25 + max(0.0, pose.vigour - 0.55) * 4
    arms = [_arm(-0.9 * swing, bend), _arm(0.9 * swing, bend)]
    if pose.punch:
        arms = [_arm(1.3 + 0.7 * np.sin(3 * pose.phase), 0.9), _arm(1.3 - 0.9 * np.cos(2.3 * pose.phase), 0.7)]
    hip = np.array([0.0, 0.04 - min(float(leg[:, 1].min()) for leg in legs), 0.0])
    up = np.array([np.sin(pose.lean), np.cos(pose.lean), 0.0])
    neck = hip + 0.56 * up
    aside = np.array([0.0, 0.0, 1.0])
    legs = [legs[0] + hip + 0.09 * aside, legs[1] + hip - 0.09 * aside]
    arms = [arms[0] + neck - 0.04 * up + 0.2 * aside, arms[1] + neck - 0.04 * up - 0.2 * aside]
    # What is farther from the camera is drawn first.
    left_is_far = -np.sin(pose.heading) * AXES[2, 0] + np.cos(pose.heading) * AXES[2, 2] > 0
    far, near = (0, 1) if left_is_far else (1, 0)
    body = [
        *_dressed_arm(look, arms[far], 0.78),
        *_dressed_leg(look, legs[far], 0.8),
        *_dressed_leg(look, legs[near], 1.0),
        *_dressed_trunk(look, hip, neck, neck + 0.2 * up),
        *_dressed_arm(look, arms[near], 0.94),
    ]
    return _placed(body, look, pose)


def _leg(forward: float, knee: float) -> np.ndarray:
    """Hip, knee, ankle and toe (4, 3) as forward, up and sideways, from the hip."""
    a, b = forward, forward - knee
    x, y = 0.44 * np.sin(a), -0.44 * np.cos(a)
    ankle_x, ankle_y = x + 0.44 * np.sin(b), y - 0.44 * np.cos(b)
    toe = (ankle_x + 0.16 * np.cos(b), ankle_y + 0.16 * np.sin(b), 0.0)
    return np.array([(0.0, 0.0, 0.0), (x, y, 0.0), (ankle_x, ankle_y, 0.0), toe])


def _arm(forward: float, bend: float) -> np.ndarray:
    """Shoulder, elbow and hand (3, 3), from the shoulder."""
    a, b = forward, forward + bend
    x, y = 0.29 * np.sin(a), -0.29 * np.cos(a)
    return np.array([(0.0, 0.0, 0.0), (x, y, 0.0), (x + 0.27 * np.sin(b), y - 0.27 * np.cos(b), 0.0)])


def _dressed_arm(look: Look, points: np.ndarray, light: float) -> Iterator[Limb]:
    yield points, 0.09, tone(look.top, light)
    yield points[2:], 0.09, tone(look.skin, light)


def _dressed_leg(look: Look, points: np.ndarray, light: float) -> Iterator[Limb]:
    yield points[2:], 0.1, (38, 34, 32)
    yield points[1:3], 0.12, tone(look.trousers, light)
    yield points[:2], 0.16, tone(look.trousers, light)


def _dressed_trunk(look: Look, hip: np.ndarray, neck: np.ndarray, head: np.ndarray) -> Iterator[Limb]:
    wide = np.array([0, 0, 0.17])
    if look.bag is not None:
        back = np.array([-0.15, 0, 0])
        yield np.array([hip * 0.6 + neck * 0.4 + back, neck * 0.95 + hip * 0.05 + back]), 0.24, look.bag
    yield np.array([hip, neck]), 0.2, look.top
    yield np.array([hip - wide * 0.75, hip + wide * 0.75, neck + wide, neck - wide]), 0.0, look.top
    yield np.array([neck, head]), 0.1, look.skin
    crown = head + np.array([(0, 0, 0), (0, 0.04, 0), (-0.03, 0.05, 0), (-0.01, 0.09, 0)])
    yield crown[:2], 0.2, look.skin
    yield crown[2:], 0.2, look.hair


def _placed(limbs: list[Limb], look: Look, pose: Pose) -> list[Limb]:
    """From body coordinates (forward, up, sideways) into the world."""
    cos, sin = np.cos(pose.tilt), np.sin(pose.tilt)
    tilt = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    cos, sin = np.cos(pose.heading), np.sin(pose.heading)
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    points = np.concatenate([p for p, _, _ in limbs]) @ (turn @ tilt).T * (look.height_m / 1.72)
    points += (pose.x, 0.1 * np.sin(pose.tilt), pose.z)
    ends = np.cumsum([len(p) for p, _, _ in limbs])
    return [(points[end - len(p) : end], t, colour) for end, (p, t, colour) in zip(ends, limbs, strict=True)]


def cyclist(look: Look, pose: Pose) -> list[Limb]:
    """A person on a bicycle; the pedals turn with the phase."""
    crank, saddle = np.array([0.0, 0.3, 0.0]), np.array([-0.18, 0.95, 0.0])
    neck, hand = np.array([0.22, 1.4, 0.0]), np.array([0.48, 1.0, 0.0])
    aside, angle = np.array([0.0, 0.0, 1.0]), np.linspace(0, 2 * np.pi, 20)
    wheel = 0.34 * np.stack([np.cos(angle), np.sin(angle), np.zeros(20)], axis=1)
    back, front = np.array([-0.52, 0.34, 0.0]), np.array([0.54, 0.34, 0.0])
    limbs: list[Limb] = [
        (wheel + back, 0.05, (30, 30, 32)),
        (wheel + front, 0.05, (30, 30, 32)),
        (np.array([back, crank, (0.4, 0.85, 0), (-0.18, 0.85, 0), back]), 0.05, (176, 44, 40)),
        (np.array([front, (0.42, 0.9, 0), hand]), 0.05, (60, 62, 66)),
    ]
    for side, light in ((1.0, 0.8), (-1.0, 1.0)):
        turn = pose.phase + (np.pi if side > 0 else 0.0)
        foot = crank + 0.17 * np.array([np.cos(turn), -np.sin(turn), 0])
        leg = np.array([saddle, _knee(saddle, foot), foot, foot + np.array([0.14, 0, 0])])
        arm = np.array([neck, (neck + hand) / 2 - np.array([0.06, 0.05, 0]), hand])
        limbs += _dressed_leg(look, leg + 0.1 * side * aside, light)
        limbs += _dressed_arm(look, arm + 0.15 * side * aside, light)
    limbs += _dressed_trunk(look, saddle, neck, neck + np.array([0.1, 0.2, 0]))
    return _placed(limbs, look, pose)


def _knee(hip: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Where thigh and shin of 0.44 m meet, in front of the line from hip to foot."""
    along = foot - hip
    out = np.sqrt(max(0.0, 0.44**2 - float(along @ along) / 4))
    normal = np.array([-along[1], along[0], 0]) / np.linalg.norm(along)
    return hip + along / 2 + normal * out


def van(pose: Pose) -> list[Limb]:
    """A small delivery van."""
    at, turn = np.array([pose.x, 0.0, pose.z]), pose.heading
    forward, up = np.array([np.cos(turn), 0, np.sin(turn)]), np.array([0.0, 1.0, 0.0])
    near = np.array([-np.sin(turn), 0, np.cos(turn)])
    near *= -np.sign(near @ at)
    white, blue, glass, tyre, hub = (226, 226, 222), (42, 108, 160), (58, 74, 88), (32, 32, 34), (150, 150, 152)
    limbs: list[Limb] = []
    for along, high, size, colour in (
        (-0.1, 0.3, (3.9, 0.75, 1.7), white),
        (-0.45, 1.05, (3.0, 0.85, 1.6), white),
        (-0.1, 0.62, (3.92, 0.16, 1.72), blue),
    ):
        base = at + along * forward + high * up
        limbs += [(face, 0.0, shade) for face, shade in box(base, size, colour, turn)]
    for start, end in ((0.25, 0.95), (-0.75, 0.05)):
        corners = [(start, 1.15), (end, 1.15), (end, 1.65), (start, 1.65)]
        limbs.append((at + np.array([0.81 * near + a * forward + h * up for a, h in corners]), 0.0, glass))
    angle = np.linspace(0, 2 * np.pi, 16)[:, None]
    for along in (-1.3, 1.15):
        for radius, colour in ((0.34, tyre), (0.16, hub)):
            ring = radius * (np.cos(angle) * forward + np.sin(angle) * up)
            limbs.append((at + along * forward + 0.86 * near + 0.34 * up + ring, 0.0, colour))
    return limbs


def depth_of(limbs: list[Limb]) -> float:
    """Metres from the camera, for drawing far things first."""
    return float(project(limbs[0][0])[1].mean())


def draw(canvas: np.ndarray, limbs: list[Limb]) -> None:
    """Draw onto the canvas, uint8 (H, W, 3) RGB."""
    _lines(canvas, np.concatenate([p for p, _, _ in limbs]), limbs)


def draw_shadow(mask: np.ndarray, limbs: list[Limb]) -> None:
    """Set the mask, uint8 (H, W), to 255 where the limbs' shadow falls."""
    _lines(mask, drop(np.concatenate([p for p, _, _ in limbs])), [(p, t, (255, 255, 255)) for p, t, _ in limbs])


def _lines(picture: np.ndarray, points_m: np.ndarray, limbs: list[Limb]) -> None:
    """Draw the limbs where `points_m` (all their points in turn) say."""
    pixels, depth_m = project(points_m)
    fine = np.round(pixels * 16).astype(np.int32)
    pixels_per_m = FOCAL / float(depth_m.mean())
    start = 0
    for points, thickness_m, colour in limbs:
        line = fine[start : start + len(points)]
        start += len(points)
        if thickness_m == 0.0:
            cv2.fillConvexPoly(picture, line, colour, cv2.LINE_AA, 4)
        else:
            width = max(1, round(thickness_m * pixels_per_m))
            cv2.polylines(picture, [line], False, colour, width, cv2.LINE_AA, 4)
