"""What travels between stages. Every message is frozen and valid if it exists.

A message belongs to one camera, one *run* (an uninterrupted opening, named by the unix ms it was
opened at) and one *seq* (from 0 within the run). `<run_ms>-<seq>` is its id in every stream of the camera.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

SCHEMA = 1
CAMERA_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
CAUSES = ("behind", "corrupt", "disconnected", "failed")
"""Why frames were not scored: downstream was slow; damaged pictures; no connection; a stage gave up on them."""

REFERENCE_LEVELS = np.array(
    [0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0]
)
"""Levels of the quantiles of normal scores that every `Scores` carries, so that alerting can calibrate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What came before a live run: the run that ended and how long nothing was seen."""

    run_ms: int
    frames: int
    """Frames decoded in the run that ended."""
    down_s: float
    """Seconds from its last frame to the opening of this run."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Span:
    """The decoded frames `first_frame .. first_frame + len(times_s)` of one run."""

    camera: str
    run_ms: int
    seq: int
    first_frame: int
    times_s: np.ndarray
    """float64 (N,): seconds of each decoded frame; files: PTS from the first frame, cameras: arrival from `run_ms`."""
    made_ms: int = 0
    """Unix ms at which the last frame was decoded; for latency only."""
    prior: Prior | None = None
    live: bool = False

    def __post_init__(self) -> None:
        if not CAMERA_NAME.match(self.camera):
            raise ValueError(f"camera must match [A-Za-z0-9_.-]{{1,64}}, got {self.camera!r}")
        if self.run_ms < 0 or self.seq < 0 or self.first_frame < 0:
            raise ValueError(f"{self.run_ms=}, {self.seq=} and {self.first_frame=} must not be negative")
        if self.times_s.dtype != np.float64 or self.times_s.ndim != 1:
            raise ValueError(f"times_s must be float64 (N,), got {self.times_s.dtype} {self.times_s.shape}")

    @property
    def id(self) -> str:
        """The stream id of this message in every stream of its camera."""
        return f"{self.run_ms}-{self.seq}"

    @property
    def next_frame(self) -> int:
        """The first frame index after this span."""
        return self.first_frame + len(self.times_s)

    def header(self) -> dict:
        """The fields that every message about the same frames shares, as keyword arguments."""
        return {name: getattr(self, name) for name in SPAN_FIELDS}


SPAN_FIELDS = ("camera", "run_ms", "seq", "first_frame", "times_s", "made_ms", "prior", "live")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picked(Span):
    """A span of which some frames were kept for analysis (all of them unless `fps` sub-samples)."""

    picked: np.ndarray
    """int32 (T,), rising: offsets into `times_s` of the frames that were kept."""
    thumb: bytes = field(default=b"", repr=False)
    """JPEG of one kept frame, for evidence; empty if there is none."""

    def __post_init__(self) -> None:
        Span.__post_init__(self)
        if self.picked.dtype != np.int32 or self.picked.ndim != 1 or not len(self.picked):
            raise ValueError(f"picked must be int32 (T>0,), got {self.picked.dtype} {self.picked.shape}")
        if self.picked[0] < 0 or self.picked[-1] >= len(self.times_s) or np.any(np.diff(self.picked) <= 0):
            raise ValueError(f"picked must rise within 0..{len(self.times_s) - 1}, got {self.picked}")

    def header(self) -> dict:
        return Span.header(self) | {"picked": self.picked, "thumb": self.thumb}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snippet(Picked):
    """Consecutive kept frames. decode -> features, future-frame."""

    pixels: np.ndarray
    """uint8 (T, H, W, 3) RGB at analysis size."""

    def __post_init__(self) -> None:
        Picked.__post_init__(self)
        p = self.pixels
        if p.dtype != np.uint8 or p.ndim != 4 or p.shape[3] != 3 or p.shape[0] != len(self.picked):
            raise ValueError(f"pixels must be uint8 (T={len(self.picked)}, H, W, 3), got {p.dtype} {p.shape}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features(Picked):
    """What an extractor saw in a snippet. features -> temporal models.

    Dense: `values` (D,) describes the snippet, `cells` is None.
    Sparse: `values` (N, D) describes N active cells, `cells` int16 (N, 3) is each one's [kept frame, row, column]
    on a grid of `grid` = (rows, columns).
    """

    extractor: str
    """Name of the extractor and its version hash, `motion@1a2b3c4d`."""
    values: np.ndarray
    cells: np.ndarray | None = None
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        Picked.__post_init__(self)
        if self.values.dtype != np.float32:
            raise ValueError(f"values must be float32, got {self.values.dtype}")
        if self.cells is not None:
            if self.cells.dtype != np.int16 or self.cells.shape != (len(self.values), 3) or self.grid is None:
                raise ValueError(f"cells must be int16 ({len(self.values)}, 3) with a grid, got {self.cells.shape}")
        elif self.values.ndim != 1:
            raise ValueError(f"values without cells must be (D,), got {self.values.shape}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores(Picked):
    """One temporal model's raw score of each kept frame. temporal -> alerting."""

    model: str
    """The model's name in the configuration: its stream and its CSV column."""
    model_hash: str
    raw: np.ndarray
    """float32 (T,): higher is odder, as the model emits it."""
    reference: np.ndarray
    """float32 (len(REFERENCE_LEVELS),), not falling: quantiles of the model's scores on normal footage."""
    provisional: bool = False
    """True in a warm-up: shown, never alerted on."""
    lookahead_frames: int = 0
    """Later frames that the score depends on, beyond its own snippet."""

    def __post_init__(self) -> None:
        Picked.__post_init__(self)
        if self.raw.dtype != np.float32 or self.raw.shape != self.picked.shape:
            raise ValueError(f"raw must be float32 {self.picked.shape}, got {self.raw.dtype} {self.raw.shape}")
        if self.reference.dtype != np.float32 or self.reference.shape != REFERENCE_LEVELS.shape:
            raise ValueError(f"reference must be float32 {REFERENCE_LEVELS.shape}, got {self.reference.shape}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fused(Span):
    """The camera's final scores, one per decoded frame. alerting -> anyone."""

    score: np.ndarray
    """float32 (N,) in [0, 1]: fused and calibrated."""
    raw: dict[str, np.ndarray]
    """model -> float32 (N,), NaN where that model did not score."""
    calibrated: dict[str, np.ndarray]
    """model -> float32 (N,) in [0, 1], NaN where that model did not score."""
    provisional: bool = False

    def __post_init__(self) -> None:
        Span.__post_init__(self)
        for name, values in {"score": self.score, **self.raw, **self.calibrated}.items():
            if values.dtype != np.float32 or values.shape != self.times_s.shape:
                raise ValueError(f"{name} must be float32 {self.times_s.shape}, got {values.dtype} {values.shape}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gap(Span):
    """Decoded frames that will not be scored, and why. Any stage -> onwards."""

    cause: str
    detail: str = ""

    def __post_init__(self) -> None:
        Span.__post_init__(self)
        if self.cause not in CAUSES:
            raise ValueError(f"cause must be one of {CAUSES}, got {self.cause!r}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class End(Span):
    """The run is over. `first_frame` is the number of frames it decoded; `times_s` is empty."""

    status: str = "complete"
    """`complete`, or one line about what is wrong with the source (`truncated: ...`)."""


Message = Snippet | Features | Scores | Fused | Gap | End
