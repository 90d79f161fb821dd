"""The message that people get: one phase (open, update, close) of an event; and how one out of Redis is checked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from stages.alerting.accounting import Account
from stages.alerting.events import Phase, PhaseChange
from stages.messages import CAMERA_NAME, SCHEMA

Severity = Literal["low", "medium", "high", "critical"]

SEVERITIES: tuple[tuple[float, Severity], ...] = ((0.9, "critical"), (0.8, "high"), (0.7, "medium"))
"""From this peak on. One model: 4, 1.5 and 0.7 spreads of normal beyond the highest normal score. Lower is `low`."""


def severity_of(peak: float) -> Severity:
    """How bad a peak score in [0, 1] is."""
    return next((name for level, name in SEVERITIES if peak >= level), "low")


def wall_clock(run_ms: int, after_s: float) -> str:
    """ISO 8601 UTC with milliseconds of a moment in a run."""
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=run_ms + round(after_s * 1000))
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One entry of the alert stream. Its JSON has exactly these fields, but for `thumb`."""

    id: str
    """`<camera>-<run_ms>-<start_frame>`: the same in every phase and on every replay."""
    phase: Phase
    camera: str
    run_ms: int
    start_frame: int
    end_frame: int
    """Inclusive; so far, until `close`."""
    started_at: str | None
    """ISO 8601 UTC; None for files, whose wall clock is not known."""
    ended_at: str | None
    """None while open, and for files."""
    start_s: float
    end_s: float
    """Seconds since the run's first frame; `end_s` so far, until `close`."""
    peak: float
    """Highest fused score in [0, 1]."""
    severity: Severity
    models: dict[str, float]
    """Highest calibrated score of each model in the event."""
    snapshot: str | None = None
    """Where the picture of the peak is kept."""
    clip: str | None = None
    config_hash: str
    model_hashes: dict[str, str]
    schema: int = SCHEMA
    thumb: bytes = field(default=b"", repr=False, compare=False)
    """JPEG from the snippet with the peak, to be stored where `snapshot` will say; not in the JSON."""

    def __post_init__(self) -> None:
        if self.phase not in get_args(Phase) or self.severity not in get_args(Severity):
            raise ValueError(f"alert {self.id}: unknown {self.phase=} or {self.severity=}")
        if self.end_frame < self.start_frame:
            raise ValueError(f"alert {self.id} ends at frame {self.end_frame}, before it starts")

    def to_json(self, snapshot: str | None = None) -> str:
        """One line of JSON, with the place of the picture if it is given."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "thumb"}
        return json.dumps(values | {"snapshot": snapshot or self.snapshot}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Alert:
        """The alert in `to_json`'s text, without its thumb. Raises ValueError if it is none, or of another schema."""
        try:
            values = json.loads(text)
            if values["schema"] != SCHEMA:
                raise ValueError(f"alert of schema {values['schema']}, expected {SCHEMA}")
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an alert: {type(error).__name__} {error}") from error


def make_alert(
    change: PhaseChange, account: Account, *, config_hash: str, model_hashes: Mapping[str, str], thumb: bytes
) -> Alert:
    """The alert for a change of an event in the account's run; `model_hashes` of all models, `thumb` of its peak."""
    phase, event = change
    started_at = wall_clock(account.run_ms, event.start_s) if account.live else None
    ended_at = wall_clock(account.run_ms, event.end_s) if account.live and phase == "close" else None
    return Alert(
        id=f"{account.camera}-{account.run_ms}-{event.start_frame}",
        phase=phase,
        camera=account.camera,
        run_ms=account.run_ms,
        start_frame=event.start_frame,
        end_frame=event.end_frame,
        started_at=started_at,
        ended_at=ended_at,
        start_s=round(event.start_s, 3),
        end_s=round(event.end_s, 3),
        peak=round(event.peak, 6),
        severity=severity_of(event.peak),
        models={name: round(score, 6) for name, score in sorted(event.models.items())},
        config_hash=config_hash,
        model_hashes={name: model_hashes[name] for name in sorted(event.models)},
        thumb=thumb,
    )


def alert_line(alert: dict) -> str:
    """An alert, as its JSON, for a person: when, where, what, how odd. What other versions do not say is a `?`."""
    start_s, end_s = alert.get("start_s", 0.0), alert.get("end_s", 0.0)
    when = (alert.get("started_at") or "").replace("T", " ").rstrip("Z") or f"at {_clock(start_s)}"
    length = f"{end_s - start_s:.1f} s" if alert["phase"] == "close" else "..."
    severity, peak = alert.get("severity", "?"), alert.get("peak", 0.0)
    return f"{alert['phase']:<6} {alert.get('camera', '?')}  {when}  {length:>7}  {severity} (peak {peak:.2f})"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


MOST_BYTES = 256 * 1024
"""Many times what an alert takes."""
ALERT_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
"""It names files: nothing that a path could climb out of its folder by."""
_TIME = re.compile(r"[0-9T:.Z+ -]{10,40}\Z")
_WORD = re.compile(r"[ -~]{0,200}\Z")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _time(value: object) -> bool:
    return value is None or (isinstance(value, str) and _TIME.match(value) is not None)


def _scores(value: object) -> bool:
    return isinstance(value, dict) and all(_WORD.match(name) and _number(score) for name, score in value.items())


def _words(value: object) -> bool:
    return isinstance(value, dict) and all(_WORD.match(name) and _word(word) for name, word in value.items())


def _word(value: object) -> bool:
    return isinstance(value, str) and _WORD.match(value) is not None


def _place(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= 1000 and value.isprintable())


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


CHECKS: dict[str, Callable[[Any], bool]] = {
    "id": lambda value: isinstance(value, str) and ALERT_ID.match(value) is not None,
    "phase": lambda value: isinstance(value, str) and value in get_args(Phase),
    "camera": lambda value: isinstance(value, str) and CAMERA_NAME.match(value) is not None,
    "severity": lambda value: isinstance(value, str) and value in get_args(Severity),
    "run_ms": _count, "start_frame": _count, "end_frame": _count, "schema": _count, "revision": _count,
    "start_s": _number, "end_s": _number, "peak": _number,
    "started_at": _time, "ended_at": _time,
    "models": _scores, "model_hashes": _words, "config_hash": _word,
    "snapshot": _place, "clip": _place,
}  # fmt: skip
"""What each field may be, where it is there; those of later versions are passed on as they are."""


def received_alert(text: bytes | None) -> dict[str, Any]:
    """The alert in an entry's `alert` field. Raises ValueError with the reason if it is none.

    It has an id that can name a file, a phase, and a place for its picture (None: there is none). What else is there is
    of the right type, but older and later versions may say less or more.
    """
    if text is None:
        raise ValueError("it has no field 'alert'")
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has {len(text)} bytes")
    try:
        alert = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError("its field 'alert' is not JSON") from None
    if not isinstance(alert, dict):
        raise ValueError("its field 'alert' is not an object of JSON")
    alert.setdefault("snapshot", None)
    for name in ("id", "phase"):
        if name not in alert:
            raise ValueError(f"it has no {name!r}")
    for name, value in alert.items():
        if name in CHECKS and not CHECKS[name](value):
            raise ValueError(f"its {name!r} is not what an alert has there")
    return alert


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
