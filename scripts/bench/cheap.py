"""A cheap extractor for the benchmark: what is left to measure is what moving messages costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.bench import footage
from stages.features.registry import ExtractorKind
from stages.messages import Features, Snippet
from stages.stage import State

KIND = ExtractorKind(name="means", build=f"{__name__}:build", analysis_height=54, rescales=True)
METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: oddwatch-bench\nVersion: 1\n",
    "entry_points.txt": f"[oddwatch.extractors]\n{KIND.name} = {__name__}:KIND\n",
}


class Means:
    """A snippet's mean colours, on a grid of 2 by 2."""

    name, id, dim, sparse, analysis_height = KIND.name, "means@bench", 12, False, KIND.analysis_height

    def process(self, batch: Sequence[tuple[Snippet, State]]) -> list[tuple[list[Features], State]]:
        """Features of each snippet."""
        return [([Features(**s.header(), extractor=self.id, values=means(s.pixels))], {}) for s, _ in batch]

    def finish(self, state: State) -> tuple[list[Features], State]:
        """Nothing is remembered."""
        return [], {}


def means(pixels: np.ndarray) -> np.ndarray:
    """float32 (12,): of uint8 (T, H, W, 3)."""
    _, h, w, _ = pixels.shape
    return np.concatenate(
        [pixels[:, y : y + h // 2, x : x + w // 2].mean((0, 1, 2)) for y in (0, h // 2) for x in (0, w // 2)]
    ).astype(np.float32)


def build(name: str, device: str, precision: str) -> Means:
    """The extractor."""
    return Means()


def checkpoint(work: Path) -> Path:
    """`novelty` on `means`, fitted on tiny pictures."""
    path = work / "cheap.safetensors"
    if not path.exists():
        fit = ["fit", "--normal", str(footage.tiny(work, 640)), "--out", str(path), "--features", KIND.name]
        environment = os.environ | {"PYTHONPATH": python_path(work)}
        subprocess.run([sys.executable, "-m", "pipeline.cli", *fit], env=environment, check=True, capture_output=True)
    return path


def python_path(work: Path) -> str:
    """A PYTHONPATH under which every process of `oddwatch` finds `means`, as if its package were installed."""
    folder = work / "plugin"
    made = folder / "oddwatch_bench-1.dist-info"
    made.mkdir(parents=True, exist_ok=True)
    for name, text in METADATA.items():
        (made / name).write_text(text)
    return os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
