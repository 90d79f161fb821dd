"""Who is where when in the demo footage: routes, gaits, and the anomalies planted among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from stages.demo.figures import Limb, Look, Pose, cyclist, draw_look, person, van
from stages.demo.world import CANVAS, lawn_distance, project

FPS = 25
KINDS = ("cyclist", "fall", "lawn", "vehicle", "scuffle", "runner")
"""What can be planted."""

USUAL = (
    ((-34, 18.3), (34, 18.3)),
    ((34, 16.2), (-34, 16.2)),
    ((4.7, 1), (4.7, 15.5), (34, 16.2)),
    ((34, 16.2), (3.4, 16.6), (3.4, 1)),
    ((-34, 18.3), (3.2, 17.8), (3.2, 1)),
    ((4.6, 1), (4.4, 17.0), (-1.6, 18.2), (-1.6, 26.9)),
    ((-2.4, 26.9), (-2.4, 17.2), (-34, 16.2)),
    ((34, 16.4), (-1.6, 17.0), (-1.6, 26.9)),
)
"""Corners (x, z) in metres of the ways that people take."""
STEP_M = 0.1
LENGTH_M = {"cyclist": 1.7, "vehicle": 3.9}
"""Of what is longer than a person; it shows before its middle does."""


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """One actor's way through the courtyard. Pure: a pose for any time."""

    look: Look
    way: np.ndarray
    """(N, 2): x and z in metres, every `STEP_M`."""
    start_s: float
    speed: float
    """Metres per second."""
    kind: str = ""
    """The anomaly that this is; empty for a usual walk."""
    pause_at_m: float = np.inf
    pause_s: float = 0.0
    """Where on the way it pauses and for how long: stands; falls or fights if that is its kind."""

    def paused_s(self, t_s: np.ndarray) -> np.ndarray:
        """Seconds since the pause began, within 0 and its length."""
        return np.clip(t_s - self.start_s - self.pause_at_m / self.speed, 0, self.pause_s)

    def at(self, t_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, z, and metres walked at the times (N,); NaN positions outside the walk."""
        gone_m = (t_s - self.start_s - self.paused_s(t_s)) * self.speed
        along = gone_m / STEP_M
        out = (along < 0) | (along > len(self.way) - 1)
        steps = np.arange(len(self.way))
        x, z = (np.where(out, np.nan, np.interp(along, steps, self.way[:, k])) for k in (0, 1))
        return x, z, gone_m

    def odd(self, t_s: np.ndarray) -> np.ndarray:
        """bool (N,): whether the anomaly happens at the times, in view."""
        x, z, _ = self.at(t_s)
        half_m = LENGTH_M.get(self.kind, 0.4) / 2
        corners = [in_view(x + side, z, high_m=high) for side in (-half_m, half_m) for high in (0.1, 0.9, 1.7)]
        present = np.any(corners, axis=0)
        paused = self.paused_s(t_s)
        if self.kind in ("fall", "scuffle"):
            return present & (paused > 0) & (paused < self.pause_s)
        if self.kind == "lawn":
            return present & (lawn_distance(x, z) > 0.2)
        return present & bool(self.kind)


def in_view(x: np.ndarray, z: np.ndarray, high_m: float = 0.9, margin_px: float = 0.0) -> np.ndarray:
    """bool (N,): whether what is `high_m` above there is in the picture, or within some canvas pixels of it."""
    pixels, _ = project(np.stack([x, np.full_like(x, high_m), z], axis=1))
    return np.all((pixels > -margin_px) & (pixels < np.array(CANVAS[::-1]) + margin_px), axis=1)


def limbs_at(walk: Walk, t_s: float) -> list[Limb]:
    """The actor's limbs at a time within its walk."""
    now = np.array([t_s])
    x, z, gone_m = (float(v[0]) for v in walk.at(now))
    along = int(np.clip(gone_m / STEP_M, 5, len(walk.way) - 6))
    dx, dz = walk.way[along + 5] - walk.way[along - 5]
    pose = Pose(x=x, z=z, heading=float(np.arctan2(dz, dx)), phase=gone_m * 4.2)
    if walk.kind == "vehicle":
        return van(pose)
    if walk.kind == "cyclist":
        return cyclist(walk.look, replace(pose, phase=gone_m * 1.6))
    return person(walk.look, _act(walk, pose, float(walk.paused_s(now)[0])))


def _act(walk: Walk, pose: Pose, paused_s: float) -> Pose:
    if walk.kind == "runner":
        return replace(pose, phase=pose.phase * 0.55, vigour=0.95, lean=0.22)
    pausing = 0 < paused_s < walk.pause_s
    if not pausing:
        return pose
    left_s = walk.pause_s - paused_s
    if walk.kind == "fall":
        down = min(1.0, (paused_s / 0.45) ** 2, left_s / 0.9)
        return replace(pose, phase=pose.phase + 7 * paused_s, vigour=0.5 - 0.2 * down, tilt=1.5 * down)
    if walk.kind == "scuffle":
        return _fight(walk, pose, paused_s, min(1.0, paused_s / 0.3, left_s / 0.3))
    return replace(pose, vigour=min(0.5, max(0.06, 0.5 - 2 * paused_s, 0.5 - 2 * left_s)))


def _fight(walk: Walk, pose: Pose, t_s: float, heat: float) -> Pose:
    """Shoves and blows: quick, never the same twice."""
    own = walk.look.height_m * 37
    reel = 0.32 * np.sin(9.1 * t_s + own) + 0.2 * np.sin(15.7 * t_s + 2 * own)
    side = 0.25 * np.sin(5.3 * t_s + 3 * own)
    cos, sin = np.cos(pose.heading), np.sin(pose.heading)
    return replace(
        pose,
        x=pose.x + heat * float(reel * cos - side * sin),
        z=pose.z + heat * float(reel * sin + side * cos),
        heading=pose.heading + heat * 0.7 * float(np.sin(3.1 * t_s + own)),
        phase=pose.phase + 11 * t_s,
        vigour=0.5,
        lean=heat * (0.3 + 0.3 * float(np.sin(7.3 * t_s + own))),
        punch=heat,
    )


def make_way(corners: tuple[tuple[float, float], ...], aside_m: float = 0.0) -> np.ndarray:
    """A smooth way (N, 2) through corners, moved to the left by some metres."""
    points = np.asarray(corners, np.float64)
    legs = [
        np.linspace(a, b, max(2, round(float(np.linalg.norm(b - a)) / STEP_M)), endpoint=False)
        for a, b in pairwise(points)
    ]
    line = np.concatenate(legs)
    wide = np.pad(line, ((15, 15), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(wide[:, k], np.ones(31) / 31, mode="valid") for k in (0, 1)], axis=1)
    along = np.gradient(smooth, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    return smooth + aside_m * along[:, ::-1] * (-1, 1)


def plant(kind: str, at_s: float, rng: np.random.Generator) -> list[Walk]:
    """Actors of one anomaly that begins (comes into view, leaves the path, falls, meets) at `at_s`."""
    look = draw_look(rng)
    if kind == "cyclist":
        walks = [Walk(look, make_way(((-34, 17.4), (34, 17.4))), 0.0, 6.2, kind)]
    elif kind == "vehicle":
        walks = [Walk(look, make_way(((34, 17.0), (-34, 17.0))), 0.0, 6.6, kind)]
    elif kind == "runner":
        walks = [Walk(look, make_way(((4.0, 1), (4.0, 16.4), (-34, 16.8))), 0.0, 4.9, kind)]
    elif kind == "lawn":
        walks = [Walk(look, make_way(((-34, 16.2), (-2.6, 16.0), (3.4, 8.6), (3.6, 1))), 0.0, 1.7, kind)]
    elif kind == "fall":
        way = make_way(((34, 16.4), (3.7, 16.6), (3.7, 1)))
        walks = [Walk(look, way, 0.0, 1.4, kind, pause_at_m=36.0, pause_s=2.8)]
    elif kind == "scuffle":
        there, back = make_way(((-34, 17.0), (34, 17.0))), make_way(((34, 17.2), (-34, 17.2)))
        meet_m = 34.0 + 1.0
        walks = [
            Walk(look, there, 0.0, 1.3, kind, pause_at_m=meet_m - 0.45, pause_s=4.0),
            Walk(draw_look(rng), back, 0.0, 1.3, kind, pause_at_m=68 - meet_m - 0.45, pause_s=4.0),
        ]
    else:
        raise ValueError(f"no anomaly is called {kind!r}; known are {', '.join(KINDS)}")
    t_s = np.arange(0, 60, 1 / FPS)
    return [replace(w, start_s=at_s - float(t_s[np.argmax(w.odd(t_s))])) for w in walks]


def crowd(first: list[Walk], length_s: float, rng: np.random.Generator) -> list[Walk]:
    """The actors in `first` and usual walkers among them, who keep out of everybody's way."""
    times_s = np.arange(-45, length_s, 0.2)
    walks = list(first)
    tracks = [_track(w, times_s) for w in walks]
    start_s = -45.0
    while start_s < length_s:
        start_s += rng.exponential(0.9)
        party = _party(start_s, rng)
        ways = [_track(w, times_s) for w in party]
        if all(_clear(a, b, _room_m(w)) for w, b in zip(walks, tracks, strict=True) for a in ways):
            walks += party
            tracks += ways
    return walks


def _party(start_s: float, rng: np.random.Generator) -> list[Walk]:
    """Somebody on a usual way, or two side by side."""
    corners, aside_m = USUAL[rng.integers(len(USUAL))], float(rng.uniform(-0.7, 0.7))
    way = make_way(corners, aside_m)
    walk = Walk(draw_look(rng), way, start_s, float(np.clip(rng.normal(1.35, 0.18), 0.9, 1.8)))
    if rng.random() < 0.2:
        length_m = len(way) * STEP_M
        walk = replace(walk, pause_at_m=float(rng.uniform(0.4, 0.6) * length_m), pause_s=float(rng.uniform(2, 8)))
    if rng.random() < 0.8:
        return [walk]
    return [walk, replace(walk, look=draw_look(rng), way=make_way(corners, aside_m - 0.8 * np.sign(aside_m)))]


def _room_m(walk: Walk) -> float:
    return 2.6 if walk.kind == "vehicle" else 0.75


def _track(walk: Walk, times_s: np.ndarray) -> np.ndarray:
    x, z, _ = walk.at(times_s)
    return np.stack([x, z], axis=1)


def _clear(a: np.ndarray, b: np.ndarray, apart_m: float) -> bool:
    near = np.linalg.norm(a - b, axis=1)
    return not bool(np.any(near < apart_m))
