"""Tiny valid messages and registry entries."""

from __future__ import annotations

import numpy as np

from pipeline.bus.codec import Bound
from pipeline.bus.streams import Bus
from pipeline.cameras.models import ModelSpec
from pipeline.cameras.registry import register
from pipeline.cameras.spec import CameraSpec
from pipeline.config.schema import DecodeConfig
from stages.alerting.settings import AlertSettings
from stages.messages import REFERENCE_LEVELS, End, Features, Fused, Gap, Message, Prior, Scores, Snippet

RUN = 1_700_000_000_000
FRAMES = 4
ROOMY = Bound(entries=1000, drop_oldest=True)


def header(seq: int = 0, *, camera: str = "cam", run_ms: int = RUN, frames: int = FRAMES, **more: object) -> dict:
    """What every message about frames `seq*frames ..` shares."""
    first = seq * frames
    times_s = (first + np.arange(frames)) / 10.0
    return {"camera": camera, "run_ms": run_ms, "seq": seq, "first_frame": first, "times_s": times_s} | more


def picked(seq: int = 0, **more: object) -> dict:
    """The header of a message that kept every frame."""
    h = header(seq, **more)
    return h | {"picked": np.arange(len(h["times_s"]), dtype=np.int32)}


def snippet(seq: int = 0, **more: object) -> Snippet:
    """Pixels that tell the seq: 4 frames of 2x3."""
    h = picked(seq, **more)
    return Snippet(**h, pixels=np.full((len(h["picked"]), 2, 3, 3), seq % 256, np.uint8))


def features(seq: int = 0, **more: object) -> Features:
    return Features(**picked(seq, **more), extractor="toy@1", values=np.array([seq, 1, 2], np.float32))


def scores(seq: int = 0, *, model: str = "novelty", level: float = 0.2, **more: object) -> Scores:
    h = picked(seq, **more)
    raw = np.full(len(h["picked"]), level, np.float32)
    reference = REFERENCE_LEVELS.astype(np.float32)
    return Scores(**h, model=model, model_hash="h", raw=raw, reference=reference)


def fused(seq: int = 0, **more: object) -> Fused:
    h = header(seq, **more)
    score = np.full(len(h["times_s"]), 0.5, np.float32)
    return Fused(**h, score=score, raw={"novelty": score * 2}, calibrated={"novelty": score})


def gap(seq: int = 0, *, cause: str = "corrupt", **more: object) -> Gap:
    return Gap(**header(seq, **more), cause=cause, detail="made")


def end(seq: int, *, frames: int | None = None, camera: str = "cam", run_ms: int = RUN, **more: object) -> End:
    first = seq * FRAMES if frames is None else frames
    return End(camera=camera, run_ms=run_ms, seq=seq, first_frame=first, times_s=np.empty(0), **more)


PRIOR = Prior(run_ms=RUN - 1000, frames=12, down_s=0.5)


def spec(
    camera: str = "cam", *, live: bool = False, models: tuple[str, ...] = ("novelty",), **more: object
) -> CameraSpec:
    """A camera whose models all read motion features."""
    values: dict = {
        "camera": camera,
        "live": live,
        "source": f"/{camera}.avi",
        "kind": "live" if live else "file",
        "run_ms": 0 if live else RUN,
        "height": 16,
        "decode": DecodeConfig(),
        "models": {name: ModelSpec(kind="novelty", features="motion") for name in models},
        "alerts": AlertSettings(),
        "stream_mb": 1.0,
        "max_deliveries": 3,
        "join_wait_s": 5.0,
        "config_hash": "0" * 8,
    }
    return CameraSpec(**(values | more))


def announce(bus: Bus, entry: CameraSpec) -> CameraSpec:
    """Register a camera with its streams, as `run` and `score` do."""
    entry.ensure_streams(bus)
    register(bus.client, bus.keys, entry)
    return entry


def publish(bus: Bus, stream: str, *messages: Message, bound: Bound = ROOMY) -> None:
    """Write messages as the holder of a lease of one's own."""
    lease = (f"{stream}:test-lease", "me")
    bus.client.set(lease[0], lease[1])
    for message in messages:
        bus.commit(lease, outputs=[(stream, message, bound)])
    bus.client.delete(lease[0])
