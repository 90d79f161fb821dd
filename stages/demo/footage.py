"""The demo's sample footage: a simulated courtyard camera, one normal film and one with planted anomalies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from stages.demo.figures import depth_of, draw, draw_shadow
from stages.demo.scene import Scene, make_scene
from stages.demo.walks import FPS, KINDS, Walk, crowd, in_view, limbs_at, plant
from stages.demo.world import HEIGHT, WIDTH
from stages.errors import OddwatchError

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
    starts_s = [LEAD_S + SLOT_S * k + float(rng.uniform(-1, 1)) for k in range(len(kinds))]
    odd = [plant(kind, at_s, rng) for kind, at_s in zip(kinds, starts_s, strict=True)]
    frames = round(normal_s * FPS), round((LEAD_S + SLOT_S * len(kinds)) * FPS)
    usual = crowd([], frames[0] / FPS, rng)
    test = crowd([walk for walks in odd for walk in walks], frames[1] / FPS, rng)
    footage = DemoFootage(
        normal=(out / "normal.mp4",),
        test=out / "test.mp4",
        manifest=out / "manifest.jsonl",
        planted=tuple(_interval(walks, frames[1]) for walks in odd),
    )
    films = ((footage.normal[0], usual, frames[0], 0), (footage.test, test, frames[1], 600))
    done = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, walks, length, later_s in films:
            with _Writer(path) as writer:
                for picture in film(scene, walks, length, rng, CLOCK_START_S + later_s):
                    writer.add(picture)
                    done += 1
                    if on_frame is not None:
                        on_frame(done, sum(frames))
        footage.manifest.write_text(_manifest(footage))
    except OSError as error:
        raise OddwatchError(f"{out}: cannot write the demo footage ({error.strerror}); choose another --out") from error
    return footage


def film(
    scene: Scene, walks: Sequence[Walk], frames: int, rng: np.random.Generator, clock_s: float
) -> Iterator[np.ndarray]:
    """The camera's pictures, uint8 (HEIGHT, WIDTH, 3) RGB: weather, sensor noise and clock included."""
    noise = np.round(rng.normal(0, 2.2, (2 * HEIGHT, 2 * WIDTH, 3))).astype(np.int16)
    drift = rng.uniform(0, 2 * np.pi, 3)
    times_s = np.arange(frames) / FPS
    # The margin keeps who is partly in the picture, and whose shadow is.
    seen = [in_view(*walk.at(times_s)[:2], margin_px=160) for walk in walks]
    for frame, t_s in enumerate(times_s.tolist()):
        canvas = _courtyard(scene, [w for w, there in zip(walks, seen, strict=True) if there[frame]], t_s)
        picture = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        light = 1 + 0.05 * np.sin(t_s / 11 + drift[0]) + 0.025 * np.sin(t_s / 3.7 + drift[1])
        picture = cv2.convertScaleAbs(picture, alpha=0.96 * light)
        down, right = rng.integers(HEIGHT), rng.integers(WIDTH)
        picture = cv2.add(picture, noise[down : down + HEIGHT, right : right + WIDTH], dtype=cv2.CV_8U)
        _stamp(picture, clock_s + t_s)
        yield picture


def _courtyard(scene: Scene, walks: Sequence[Walk], t_s: float) -> np.ndarray:
    """The canvas, uint8 (2H, 2W, 3) RGB, with everybody on it, far ones first."""
    present = [limbs_at(walk, t_s) for walk in walks]
    canvas = scene.lit.copy()
    shadow = np.zeros(canvas.shape[:2], np.uint8)
    for limbs in present:
        draw_shadow(shadow, limbs)
    cv2.copyTo(scene.shaded, shadow, canvas)
    wind = float(np.sin(1.3 * t_s) + 0.6 * np.sin(2.9 * t_s + 1))
    things = [(depth_of(limbs), partial(draw, canvas, limbs)) for limbs in present]
    things += [(s.depth_m, partial(s.paste, canvas, 0, round(1.3 * wind) if s.sways else 0)) for s in scene.sprites]
    for _, paint in sorted(things, key=lambda thing: -thing[0]):
        paint()
    return canvas


def _stamp(picture: np.ndarray, clock_s: float) -> None:
    hours, minutes, seconds = int(clock_s) // 3600, int(clock_s) // 60 % 60, int(clock_s) % 60
    text = f"CAM 01 COURTYARD  2025-05-14 {hours:02}:{minutes:02}:{seconds:02}"
    picture[:16] = picture[:16] // 3
    cv2.putText(picture, text, (6, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (240, 240, 240), 1, cv2.LINE_AA)


def _interval(walks: Sequence[Walk], frames: int) -> Planted:
    t_s = np.arange(frames) / FPS
    odd = np.flatnonzero(np.any([walk.odd(t_s) for walk in walks], axis=0))
    return Planted(kind=walks[0].kind, first_frame=int(odd[0]), last_frame=int(odd[-1]))


def _manifest(footage: DemoFootage) -> str:
    lines: list[dict] = [{"video": path.name, "split": "train", "label": 0, "anomalies": []} for path in footage.normal]
    lines.append(
        {
            "video": footage.test.name,
            "split": "test",
            "label": int(bool(footage.planted)),
            "anomalies": [[p.first_frame, p.last_frame] for p in footage.planted],
            "_kinds": [p.kind for p in footage.planted],
        }
    )
    return "".join(json.dumps(line) + "\n" for line in lines)


class _Writer:
    """An H.264 file, made anew."""

    def __init__(self, path: Path) -> None:
        self._file = av.open(str(path), "w")
        # More threads would give other bytes on other machines.
        options = {"preset": "superfast", "crf": "22", "threads": "1"}
        self._stream = self._file.add_stream("libx264", rate=FPS, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"

    def __enter__(self) -> _Writer:
        return self

    def add(self, picture: np.ndarray) -> None:
        """Append a frame, uint8 (HEIGHT, WIDTH, 3) RGB."""
        self._file.mux(self._stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))

    def __exit__(self, *_: object) -> None:
        self._file.mux(self._stream.encode())
        self._file.close()
