"""An alert as it comes out of Redis, where anybody may have written it: checked like what comes from a user."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, get_args

from stages.alerting.alert import Severity
from stages.alerting.events import Phase
from stages.messages import CAMERA_NAME

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
