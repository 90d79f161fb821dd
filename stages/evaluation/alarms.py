"""What alerting would raise for scores that are already there: at another threshold, for one model of several."""

from __future__ import annotations

import numpy as np

from stages.alerting.events import EventState, FrameScore, PhaseChange, advance, finish
from stages.alerting.settings import AlertSettings
from stages.files.manifest import Interval


def alarms(times_s: np.ndarray, score: np.ndarray, settings: AlertSettings) -> list[Interval]:
    """The [first, last] frames of each alert on calibrated scores (N,); NaN: nothing may be concluded there.

    By the rules of live alerts: minimum length, clear level, gap merging, cool-down.
    """
    state, changes = EventState(), list[PhaseChange]()
    for frame, (time_s, value) in enumerate(zip(times_s.tolist(), score.tolist(), strict=True)):
        known = value if value == value else None
        state, new = advance(state, FrameScore(frame, time_s, known), settings, False)
        changes += new
    changes += finish(state, settings)[1]
    return [(event.start_frame, event.end_frame) for phase, event in changes if phase == "close"]


def at_threshold(settings: AlertSettings, threshold: float) -> AlertSettings:
    """The same settings with another raise_at; clear_at keeps its share of it, so that both move together."""
    share = settings.clear_at / settings.raise_at
    return settings.model_copy(update={"raise_at": threshold, "clear_at": threshold * share})
