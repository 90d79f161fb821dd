"""What alerting keeps of a camera between two messages, to and from the arrays of a stage's state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from stages.alerting.accounting import Account, Ledger
from stages.alerting.events import Event, EventState, FrameScore
from stages.stage import State


@dataclass(frozen=True, slots=True)
class PeakThumb:
    """The thumbnail of the highest raised frame of an event that is open or may be beginning."""

    score: float = 0.0
    jpeg: bytes = b""


@dataclass(frozen=True, slots=True)
class AlertingState:
    """All that alerting knows of a camera after a message."""

    ledger: Ledger | None = None
    events: EventState = field(default_factory=EventState)
    peak: PeakThumb = field(default_factory=PeakThumb)
    hashes: Mapping[str, str] = field(default_factory=dict)
    """model -> hash, of the models seen in this run."""


def load_alerting(state: State) -> AlertingState:
    """What a state holds; {} is a fresh start. (Its names, `watch` and `evidence`, are those of older versions.)"""
    if not state:
        return AlertingState()
    saved = json.loads(state["memory"].tobytes())
    ledger, events = saved["ledger"], saved["watch"]
    return AlertingState(
        ledger=Ledger(**{**ledger, "account": Account(**ledger["account"])}) if ledger else None,
        events=EventState(
            **{
                **events,
                "event": Event(**events["event"]) if events["event"] else None,
                "recent": tuple(FrameScore(**frame) for frame in events["recent"]),
            }
        ),
        peak=PeakThumb(saved["evidence_score"], state["evidence_jpeg"].tobytes()),
        hashes=saved["hashes"],
    )


def save_alerting(known: AlertingState) -> State:
    """As a state: readable JSON, and the thumbnail as it is."""
    saved = {
        "ledger": known.ledger,
        "watch": known.events,
        "evidence_score": known.peak.score,
        "hashes": known.hashes,
    }
    return {
        "memory": np.frombuffer(json.dumps(saved, allow_nan=False, default=_by_field).encode(), np.uint8),
        "evidence_jpeg": np.frombuffer(known.peak.jpeg, np.uint8),
    }


def _by_field(value: Ledger | Account | EventState | Event | FrameScore) -> dict[str, object]:
    return {f.name: getattr(value, f.name) for f in fields(value)}
