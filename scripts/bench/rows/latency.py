"""From a snippet's last frame decoded to its fused score read from Redis, against the model's own time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import redis

from pipeline.bus.codec import decode
from scripts.bench import footage
from scripts.bench.live import watched
from scripts.bench.row import Row
from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import expand
from stages.features.registry import build_extractor
from stages.files.checkpoint import load_checkpoint
from stages.messages import Fused, Snippet
from stages.stage import StageProcessor
from stages.temporal.registry import build_model

STREAM = "oddwatch:{cam0}:scores"
FIRST = 5
"""Snippets that are not counted: caches are cold."""
MOST_S = 120.0


def measure(work: Path, quick: bool) -> list[Row]:
    """A camera that sends frames at half the rate at which features and model could take them.

    The model alone gets its snippets at the same pace, before and after each run: a processor that is idle half of the
    time is a faster (or, waking up, a slower) one than a processor that never rests.
    """
    checkpoint = footage.checkpoint(work)
    video = footage.camera(work, 2000)
    every_s = 2 * float(np.mean(model_times_s(checkpoint, video, 10 if quick else 40, 0.0)))
    over_p50, over_p99, detail = [], [], []
    for _ in range(1 if quick else 5):
        alone = [model_times_s(checkpoint, video, 8 if quick else 25, every_s)]
        settings = f"models: {{novelty: {{checkpoint: '{checkpoint}'}}}}"
        with watched(work, video, 16 / every_s, 1, settings) as (_, client):
            ms = latencies_ms(client, 8 if quick else 60)
        alone.append(model_times_s(checkpoint, video, 8 if quick else 25, every_s))
        p50, p99 = np.percentile(ms, (50, 99))
        model_p50, model_p99 = np.percentile(1000 * np.concatenate(alone), (50, 99))
        over_p50.append(float(p50 - model_p50))
        over_p99.append(float(p99 - model_p99))
        detail.append(
            {"fps": 16 / every_s, "ms": [float(p50), float(p99)], "model_ms": [float(model_p50), float(model_p99)],
             "snippets": len(ms)}
        )  # fmt: skip
    figure = "last frame decoded to fused score read, half load, {}, beyond the model's"
    against = "features and model alone at the same pace, {:.0f} / {:.0f} ms".format(*detail[0]["model_ms"])
    return [
        Row(
            figure=figure.format(name), against=against, values=values, unit=" ms", target=target, at_least=False,
            detail={"runs": detail}, limit="three hand-offs (snippet, features, raw scores), about 6 ms together; the "
            "rest is work beside which the decoder and the camera need the processor",
        )
        for name, values, target in (("p50", over_p50, 10), ("p99", over_p99, 40))
    ]  # fmt: skip


def model_times_s(checkpoint: Path, video: Path, count: int, every_s: float) -> np.ndarray:
    """Seconds that features and model take for each of `count` snippets, in one process, one every `every_s`."""
    features = StageProcessor(build_extractor("motion"))
    model = StageProcessor(build_model("novelty", "novelty", load_checkpoint(checkpoint)))
    feature_state, model_state, took_s = {}, {}, []
    due_s = time.perf_counter()
    for message in read_messages(expand([str(video)])[0], DecodeSettings(), 0, time.time):
        if not isinstance(message, Snippet) or len(took_s) == count + FIRST:
            break
        due_s = max(due_s + every_s, time.perf_counter())
        time.sleep(max(0.0, due_s - time.perf_counter()))
        begun_s = time.perf_counter()
        described = features.run([({"snippets": message}, feature_state)])[0]
        feature_state = described.state
        model_state = model.run([({"features:motion": described.messages[0]}, model_state)])[0].state
        took_s.append(time.perf_counter() - begun_s)
    return np.array(took_s[FIRST:])


def latencies_ms(client: redis.Redis, count: int) -> np.ndarray:
    """How long ago the last frame of each snippet was decoded when its fused scores were read, in ms."""
    found: list[float] = []
    last = "0"
    until_s = time.monotonic() + MOST_S
    while len(found) < count + FIRST and time.monotonic() < until_s:
        for _, entries in client.xread({STREAM: last}, block=1000) or []:  # type: ignore[union-attr]
            now_ms = 1000 * time.time()
            for entry, fields in entries:
                last, message = entry, decode(fields)
                if isinstance(message, Fused):
                    found.append(now_ms - message.made_ms)
    if len(found) <= FIRST:
        raise RuntimeError(f"the live camera was not scored within {MOST_S:g} s")
    return np.array(found[FIRST:])
