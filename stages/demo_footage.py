"""The demo's sample footage: a simulated courtyard camera, one normal film and one with planted anomalies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KINDS = ("cyclist", "fall", "lawn", "vehicle", "scuffle", "runner")
"""What can be planted, in the order in which it happens."""


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

    `on_frame(done, total)` is called after every frame of either film.
    """
    raise NotImplementedError
