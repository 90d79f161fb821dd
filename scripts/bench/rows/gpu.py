"""Feature networks on a GPU, against that GPU's matrix products and against plain eager fp32 one by one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.bench.row import Row
from stages.errors import WeightsError
from stages.features.registry import Extractor, analysis_height, build_extractor
from stages.messages import Snippet

NETWORKS = ("r3d_18", "i3d")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
LOOK_S = 2.0
FPS, FRAMES = 25, 16
OF_PEAK, OF_EAGER = 0.25, 10.0


def measure(work: Path, quick: bool) -> list[Row]:
    """Three rows a network: share of the matrix-product rate, times eager fp32 at batch 1, and cameras carried."""
    if not torch.cuda.is_available():
        return [
            Row(
                figure=f"{name}: snippets/s as arithmetic", against="the GPU's measured matrix-product rate",
                target=OF_PEAK, skipped="no GPU here",
            )
            for name in NETWORKS
        ]  # fmt: skip
    return [row for name in NETWORKS for row in _network(name, "cuda", 1 if quick else 3)]


def _network(name: str, device: str, repeats: int) -> list[Row]:
    try:
        stages = {p: build_extractor(name, device, p) for p in ("fp32", *PRECISIONS)}
    except WeightsError as error:
        return [Row(figure=f"{name} on the GPU", against="-", target=OF_PEAK, skipped=str(error))]
    flops = _flops(stages["fp32"])
    peaks, best, eager = [], [], []
    speeds: dict[str, float] = {}
    for _ in range(repeats):
        peaks.append({p: matrix_rate(dtype, device) for p, dtype in PRECISIONS.items()})
        eager.append(_snippets_per_s(stages["fp32"], 1))
        speeds = {f"{p} batch {b}": _snippets_per_s(stages[p], b) for p in PRECISIONS for b in BATCHES}
        best.append(max(speeds.items(), key=lambda item: item[1]))
    rates = [speed for _, speed in best]
    shares = [speed * flops / peak[how.split()[0]] for (how, speed), peak in zip(best, peaks, strict=True)]
    detail = {
        "best": best, "snippets_per_s": speeds, "flop_per_snippet": flops, "peak_flop_per_s": peaks,
        "eager_fp32_batch_1": eager,
    }  # fmt: skip
    how = best[-1][0]
    return [
        Row(
            figure=f"{name}, {how}: snippets/s as arithmetic", against="the GPU's measured matrix-product rate",
            values=shares, target=OF_PEAK, detail=detail, limit="pixels to the GPU and the network's smaller layers",
        ),
        Row(
            figure=f"{name}, {how}: snippets/s", against="plain eager fp32, batch 1",
            values=[a / b for a, b in zip(rates, eager, strict=True)], target=OF_EAGER,
        ),
        Row(
            figure=f"{name}: cameras of {FPS} fps that its features carry", against="-",
            values=[rate * FRAMES / FPS for rate in rates],
        ),
    ]  # fmt: skip


def matrix_rate(dtype: torch.dtype, device: str, size: int = 8192) -> float:
    """Floating-point operations per second of a product of two square matrices."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _seconds(lambda: a @ b, device)


def _snippets_per_s(stage: Extractor, size: int) -> float:
    """Through the stage, pixels in the computer's memory to features there."""
    batch = [(_snippet(stage.name, i), {}) for i in range(size)]
    return size / _seconds(lambda: stage.process(batch), "cuda")


def _flops(stage: Extractor) -> float:
    with FlopCounterMode(display=False) as counter:
        stage.process([(_snippet(stage.name, 0), {})])
    return float(counter.get_total_flops())


def _seconds(work: Callable[[], object], device: str) -> float:
    """The median time of a call, the device waited for."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(3):
        work()
    wait()
    took: list[float] = []
    until_s = time.perf_counter() + LOOK_S
    while len(took) < 5 or time.perf_counter() < until_s:
        begun_s = time.perf_counter()
        work()
        wait()
        took.append(time.perf_counter() - begun_s)
    return statistics.median(took)


def _snippet(name: str, index: int) -> Snippet:
    height = analysis_height(name)
    pixels = np.random.default_rng(index).integers(0, 256, (FRAMES, height, height * 16 // 9, 3), np.uint8)
    return Snippet(
        camera=f"cam{index}", run_ms=1, seq=0, first_frame=0, times_s=np.arange(FRAMES) / FPS,
        picked=np.arange(FRAMES, dtype=np.int32), pixels=pixels,
    )  # fmt: skip
