"""What alerting remembers of a camera between two messages, as a stage state."""

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
    """The picture of the oddest raised frame of an event that is open or may be beginning."""

    score: float = 0.0
    jpeg: bytes = b""


@dataclass(frozen=True, slots=True)
class AlertingState:
    """All that outlives a call."""

    ledger: Ledger | None = None
    watch: EventState = field(default_factory=EventState)
    evidence: PeakThumb = field(default_factory=PeakThumb)
    hashes: Mapping[str, str] = field(default_factory=dict)
    """model -> hash, of the models seen in this run."""


def load_alerting(state: State) -> AlertingState:
    """The memory in a state; {} is a fresh one."""
    if not state:
        return AlertingState()
    told = json.loads(state["memory"].tobytes())
    ledger, watch = told["ledger"], told["watch"]
    return AlertingState(
        ledger=Ledger(**{**ledger, "account": Account(**ledger["account"])}) if ledger else None,
        watch=EventState(
            **{
                **watch,
                "event": Event(**watch["event"]) if watch["event"] else None,
                "recent": tuple(FrameScore(**m) for m in watch["recent"]),
            }
        ),
        evidence=PeakThumb(told["evidence_score"], state["evidence_jpeg"].tobytes()),
        hashes=told["hashes"],
    )


def save_alerting(memory: AlertingState) -> State:
    """The memory as a state: readable JSON, and the picture as it is."""
    told = {
        "ledger": memory.ledger,
        "watch": memory.watch,
        "evidence_score": memory.evidence.score,
        "hashes": memory.hashes,
    }
    return {
        "memory": np.frombuffer(json.dumps(told, allow_nan=False, default=_by_field).encode(), np.uint8),
        "evidence_jpeg": np.frombuffer(memory.evidence.jpeg, np.uint8),
    }


def _by_field(value: Ledger | Account | EventState | Event | FrameScore) -> dict[str, object]:
    return {f.name: getattr(value, f.name) for f in fields(value)}
