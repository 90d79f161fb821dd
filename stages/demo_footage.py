"""The demo's sample footage: a simulated courtyard camera, one normal film and one with planted anomalies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.errors import OddwatchError
from stages.demo_figures import draw, draw_shadow
from stages.demo_scene import Scene, make_scene
from stages.demo_walks import FPS, KINDS, Walk, crowd, limbs_at, plant
from stages.demo_world import HEIGHT, WIDTH, project

LEAD_S, SLOT_S = 9.0, 12.0
"""Normal seconds before the first anomaly; seconds from one to the next."""
CLOCK_START_S = 10 * 3600 + 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One anomaly of the test film: 0-based inclusive frames."""

    kind: str
    first_frame: int
    last_frame: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFootage:
    """Where the footage lies and what is in it."""

    normal: tuple[Path, ...]
    test: Path
    manifest: Path
    planted: tuple[Planted, ...]


def make_demo(
    out: Path,
    seed: int = 0,
    *,
    normal_s: float = 75.0,
    kinds: tuple[str, ...] = KINDS,
    on_frame: Callable[[int, int], None] | None = None,
) -> DemoFootage:
    """Write `normal.mp4`, `test.mp4` and `manifest.jsonl` into `out`; the same seed gives the same bytes.

    `on_frame(done, total)` is called after every frame of either film. Raises ValueError for an unknown
    kind, OddwatchError naming the path when it cannot be written.
    """
    rng = np.random.default_rng(seed)
    scene = make_scene(rng)
    test_s = LEAD_S + SLOT_S * len(kinds)
    starts_s = [LEAD_S + SLOT_S * k + float(rng.uniform(-1, 1)) for k in range(len(kinds))]
    odd = [w for kind, at_s in zip(kinds, starts_s, strict=True) for w in plant(kind, at_s, rng)]
    usual_walks, test_walks = crowd([], normal_s, rng), crowd(odd, test_s, rng)
    frames = round(normal_s * FPS), round(test_s * FPS)
    planted = tuple(_interval(kind, odd, at_s, frames[1]) for kind, at_s in zip(kinds, starts_s, strict=True))
    footage = DemoFootage(
        normal=(out / "normal.mp4",), test=out / "test.mp4", manifest=out / "manifest.jsonl", planted=planted
    )
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if on_frame is not None:
            on_frame(done, sum(frames))

    try:
        out.mkdir(parents=True, exist_ok=True)
        encode(footage.normal[0], film(scene, usual_walks, frames[0], rng, CLOCK_START_S), count)
        encode(footage.test, film(scene, test_walks, frames[1], rng, CLOCK_START_S + 600), count)
        footage.manifest.write_text(_manifest(footage))
    except OSError as error:
        raise OddwatchError(f"{out}: cannot write the demo footage ({error.strerror}); choose another --out") from error
    return footage
