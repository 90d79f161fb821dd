"""Feature networks on a CPU computed by OpenVINO, against torch: CPU time, start, memory. Random weights.

python scripts/bench/rows/openvino.py NETWORK compare REPEATS | start ENGINE    # what `measure` runs; prints JSON
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.bench.row import Row, cores, side_by_side

NETWORKS = ("i3d", "r3d_18", "efficientnet_lite0")
WAYS = (("torch", "fp32"), ("openvino", "fp32"), ("torch", "bf16"), ("openvino", "bf16"))
BATCHES = (1, 8)
FRAMES = 16


def measure(work: Path, quick: bool) -> list[Row]:
    """For each network: CPU time by threads and batch, seconds to be ready, memory."""
    rows = []
    for name in NETWORKS[-1:] if quick else NETWORKS:
        for threads in (1, 2) if cores() > 1 else (1,):
            found = _child(threads, name, "compare", 1 if quick else 3)
            rows += [_speed(name, threads, batch, found[str(batch)]) for batch in BATCHES]
        rows += _starts(name, 1 if quick else 3)
    return rows


def _speed(name: str, threads: int, batch: int, found: dict[str, list[float]]) -> Row:
    torch_ms, openvino_ms = found["torch fp32"], found["openvino fp32"]
    told = ", ".join(f"{how} {min(ms):.0f}" for how, ms in found.items())
    return Row(
        figure=f"{name}, {threads} thread{'s' * (threads > 1)}, batch {batch}: snippets per CPU second, OpenVINO",
        against="torch, fp32", values=[a / b for a, b in zip(torch_ms, openvino_ms, strict=True)],
        limit=f"CPU ms per snippet: {told}", detail={"cpu_ms": found},
    )  # fmt: skip


def _starts(name: str, repeats: int) -> list[Row]:
    """A process each: what is loaded once stays out of the next one's figure."""
    engines = ("torch", "openvino")
    found = side_by_side(repeats, *(lambda e=e: _child(1, name, "start", e) for e in engines))  # type: ignore[misc]
    ready, peak = ({e: [f[key] for f in runs] for e, runs in zip(engines, found, strict=True)} for key in ("s", "mb"))
    return [
        Row(
            figure=f"{name}: peak memory of a process with OpenVINO, 8 snippets at once", against="with torch",
            values=[a / b for a, b in zip(peak["openvino"], peak["torch"], strict=True)], detail={"mb": peak},
            limit=f"MiB: torch {min(peak['torch']):.0f}, openvino {min(peak['openvino']):.0f}",
        ),
        Row(
            figure=f"{name}: CPU time from loaded weights to the first features, OpenVINO", against="-", unit=" s",
            values=ready["openvino"], detail={"s": ready},
            limit=f"torch {min(ready['torch']):.1f} s; both with the first snippet",
        ),
    ]  # fmt: skip


def _child(threads: int, name: str, what: str, argument: object) -> Any:
    command = [sys.executable, "-m", "scripts.bench.rows.openvino", name, what, str(argument)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)


def _extractor(name: str) -> Callable[[str, str], Any]:
    """What builds the extractor, its weights random, for an engine and a precision."""
    import torch
    from torch import nn
    from torchvision.models.video import r3d_18

    from stages.features import efficientnet, i3d, torchvision_video
    from stages.features.clips import ClipExtractor
    from stages.features.nets.efficientnet_lite0 import EfficientNetLite0
    from stages.features.nets.i3d_net import I3D
    from stages.features.registry import check_engine

    torch.manual_seed(0)
    about, network = {
        "i3d": lambda: (i3d.BACKBONE, i3d.Penultimate(I3D())),
        "r3d_18": lambda: (torchvision_video.R3D_18.backbone(), r3d_18()),
        "efficientnet_lite0": lambda: (efficientnet.BACKBONE, efficientnet.FrameMean(EfficientNetLite0())),
    }[name]()
    if name == "r3d_18":
        network.fc = nn.Identity()
    for parameter in network.parameters():  # all zeros, or numbers too small to be normal ones, take another time
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
        elif name == "i3d":
            nn.init.zeros_(parameter)

    def build(engine: str, precision: str) -> ClipExtractor:
        extractor = ClipExtractor(about, network, "random", "cpu", precision)
        check_engine(engine, "cpu", precision)
        if engine == "torch":
            return extractor
        from stages.features.openvino import on_openvino

        return on_openvino(extractor)

    return build


def _clips(batch: int, side: int) -> Any:
    import numpy as np

    return np.random.RandomState(0).randint(0, 256, (batch, FRAMES, side, side, 3), dtype=np.uint8)


def _compare(name: str, repeats: int) -> dict[int, dict[str, list[float]]]:
    """Batch -> engine and precision -> CPU milliseconds per snippet."""
    build = _extractor(name)
    extractors = [build(*way) for way in WAYS]
    side = 112 if name == "r3d_18" else 224
    found = {}
    for batch in BATCHES:
        clips = _clips(batch, side)

        def spent_ms(extractor: Any, clips: Any = clips, batch: int = batch) -> float:
            begun_s = time.process_time()
            extractor.features(clips)
            return (time.process_time() - begun_s) * 1e3 / batch

        works = [lambda e=e: spent_ms(e) for e in extractors]  # type: ignore[misc]
        for work in works:
            work()
        times = side_by_side(repeats, *works)
        found[batch] = {" ".join(way): ms for way, ms in zip(WAYS, times, strict=True)}
    return found


def _start(name: str, engine: str) -> dict[str, float]:
    """CPU seconds until the first features are there, and the peak in MiB after eight snippets at once."""
    build = _extractor(name)
    side = 112 if name == "r3d_18" else 224
    begun_s = time.process_time()
    extractor = build(engine, "fp32")
    extractor.features(_clips(1, side))
    ready_s = time.process_time() - begun_s
    extractor.features(_clips(8, side))
    return {"s": ready_s, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    network, what, argument = sys.argv[1:]
    result = _compare(network, int(argument)) if what == "compare" else _start(network, argument)
    print(json.dumps(result))
