"""Small inputs for the tests of alerting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.bus.codec import decode, decode_state, encode, encode_state
from stages.alerting.settings import AlertSettings
from stages.alerting.stage import AlertingOutput, AlertingStage, Joined
from stages.messages import REFERENCE_LEVELS, End, Fused, Gap, Prior, Scores
from stages.stage import State

NORMAL = REFERENCE_LEVELS.astype(np.float32)
"""Reference of a model whose normal scores are even in 0..1: 0.5 is its median, 1.0 its highest, 0.49 its spread."""
QUIET, BETWEEN, LOUD = 0.5, 1.06, 1.98
"""Raw scores with that reference that calibrate to 0.15, 0.55 (between clear_at and raise_at) and 0.83."""


def scores(
    raw: Sequence[float] | np.ndarray,
    *,
    seq: int = 0,
    first_frame: int = 0,
    fps: float = 10.0,
    model: str = "m",
    **more: object,
) -> Joined:
    """A joined item of one model that kept every frame."""
    return Joined(scores={model: model_scores(raw, seq=seq, first_frame=first_frame, fps=fps, model=model, **more)})


def model_scores(
    raw: Sequence[float] | np.ndarray,
    *,
    seq: int = 0,
    first_frame: int = 0,
    fps: float = 10.0,
    model: str = "m",
    **more: object,
) -> Scores:
    """One model's scores of every frame."""
    header = {
        "camera": "cam",
        "run_ms": 1000,
        "seq": seq,
        "first_frame": first_frame,
        "times_s": (first_frame + np.arange(len(raw))) / fps,
        "picked": np.arange(len(raw), dtype=np.int32),
        "model": model,
        "model_hash": f"hash of {model}",
        "reference": NORMAL,
    }
    return Scores(**(header | {"raw": np.asarray(raw, np.float32)} | more))


def gap(
    frames: int, *, seq: int, first_frame: int, fps: float = 10.0, cause: str = "corrupt", **more: object
) -> Joined:
    """A joined item of frames that were not scored."""
    times_s = (first_frame + np.arange(frames)) / fps
    header = {"camera": "cam", "run_ms": 1000, "seq": seq, "first_frame": first_frame, "times_s": times_s}
    return Joined(gap=Gap(**(header | {"cause": cause} | more)))


def end(frames: int, *, seq: int, status: str = "complete", **more: object) -> Joined:
    """A joined item that ends a run of so many decoded frames."""
    header = {"camera": "cam", "run_ms": 1000, "seq": seq, "first_frame": frames, "times_s": np.empty(0)}
    return Joined(end=End(**(header | {"status": status} | more)))


def prior(run_ms: int = 1000, frames: int = 0, down_s: float = 0.0) -> Prior:
    """What came before a run."""
    return Prior(run_ms=run_ms, frames=frames, down_s=down_s)


def play(items: Iterable[Joined], settings: AlertSettings | None = None) -> tuple[AlertingOutput, State]:
    """All that a fresh stage makes of the items, and its state; dies and is replaced after every item."""
    total, state = AlertingOutput(), State()
    for item in items:
        stage = AlertingStage(settings or AlertSettings(), "config")
        outcome, state = stage.process(item, state)
        state = replayed(state)
        total.messages.extend(outcome.messages)
        total.alerts.extend(outcome.alerts)
        total.closed.extend(outcome.closed)
    return total, state


def replayed(state: State) -> State:
    """The state as another worker finds it in Redis."""
    return decode_state(_wire(encode_state(state)))


def published(message: Fused | Gap | End) -> Fused | Gap | End:
    """The message as a subscriber gets it."""
    return decode(_wire(encode(message)))  # type: ignore[return-value]


def _wire(fields: dict[str, bytes | str]) -> dict[bytes, bytes]:
    return {k.encode(): v if isinstance(v, bytes) else v.encode() for k, v in fields.items()}


def wire_bytes(outcome: AlertingOutput) -> list[object]:
    """All bytes that leave the stage."""
    return [*(_wire(encode(m)) for m in outcome.messages), *((a.to_json(), a.thumb) for a in outcome.alerts)]
