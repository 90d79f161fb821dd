"""Frame scores -> events, with hysteresis. A pure state machine over times: any frame rate and any split into snippets
give the same events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from stages.alerting.settings import AlertSettings
from stages.pace import Pace

Phase = Literal["open", "update", "close"]

EPSILON_S = 1e-6
"""0.7 - 0.4 is less than 0.3 in floating point; frames are never this close."""
LONG_HOLE_S = 10.0
"""No merge_gap_s, however long, joins what lies on both sides of a hole longer than this."""
MOST_RECENT = 4096
"""Bound of the frames remembered before an event; reached only by many frames at one time."""


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One decoded frame and its score."""

    frame: int
    time_s: float
    score: float | None
    """Fused, calibrated; None where nothing may be concluded: not scored, or in a warm-up."""
    models: Mapping[str, float] = field(default_factory=dict)
    """model -> calibrated score, of the models that have one."""


@dataclass(frozen=True, slots=True)
class Event:
    """Frames that belong together, so far."""

    start_frame: int
    start_s: float
    end_frame: int
    end_s: float
    peak: float
    models: Mapping[str, float]
    paused: bool = False
    """The score fell below clear_at; raise_at within merge_gap_s resumes it."""


@dataclass(frozen=True, slots=True)
class EventState:
    """All that is known of a run's events between two frames."""

    time_s: float = 0.0
    event: Event | None = None
    told_s: float = 0.0
    """When the event's last message was made."""
    quiet_until_s: float = 0.0
    recent: tuple[FrameScore, ...] = ()
    """The frames of the last min_length_s, and one before, since the last hole; empty while an event is open."""
    usual_s: float | None = None
    """The usual step from frame to frame: see stages.pace."""

    def is_idle(self, settings: AlertSettings) -> bool:
        """True if no event is open and none may be beginning."""
        return self.event is None and not any(_is_raised(m, settings) for m in self.recent)


PhaseChange = tuple[Phase, Event]


def advance(
    before: EventState, now: FrameScore, settings: AlertSettings, live: bool
) -> tuple[EventState, list[PhaseChange]]:
    """The next frame: what is known after it, and what became of an event by it.

        score     ___/~~~~~~\\__/~~~~\\_________________________/~~~~
        raise_at - -/- - - - \\-/- - - \\- - - - - - - - - - - -/- - -
        alert        |-open           |  merge_gap  |-close    |-open (not before cooldown_s after the end)
                  min_length      (last frame >= clear_at: the end)

    It opens on a raised frame that has min_fraction of the frames of the last min_length_s raised, and begins with the
    first of these. Frames without a score count as not raised; they neither pause an open event nor carry it on, and
    once they last longer than merge_gap_s it is closed. Nothing is carried across a hole in time: what follows begins
    anew, and an open event is closed by one longer than merge_gap_s or LONG_HOLE_S.
    """
    time_s = max(now.time_s, before.time_s)  # a camera's clock may step back
    now = replace(now, time_s=time_s)
    event, told_s, quiet_until_s, recent = before.event, before.told_s, before.quiet_until_s, before.recent
    changes: list[PhaseChange] = []

    step_s, pace = time_s - before.time_s, Pace(before.usual_s)
    hole = pace.is_hole(step_s)
    usual_s = pace.after(step_s).usual_s

    def close(ending: Event) -> None:
        nonlocal event, quiet_until_s
        changes.append(("close", ending))
        event, quiet_until_s = None, ending.end_s + settings.cooldown_s

    if event and (time_s - event.end_s > settings.merge_gap_s + EPSILON_S or (hole and step_s > LONG_HOLE_S)):
        close(event)
    if hole:
        recent = ()
    if event:
        event = _extended(event, now, settings)
        if time_s - event.start_s >= settings.max_length_s - EPSILON_S:
            close(event)
        elif live and time_s - told_s >= settings.update_every_s - EPSILON_S:
            changes.append(("update", event))
            told_s = time_s
    else:
        recent = _recent(recent, now, settings.min_length_s)
        if time_s >= quiet_until_s - EPSILON_S and (event := _opened(recent, settings)):
            changes.append(("open", event))
            told_s, recent = time_s, ()
    return EventState(time_s, event, told_s, quiet_until_s, recent, usual_s), changes


def finish(before: EventState, settings: AlertSettings) -> tuple[EventState, list[PhaseChange]]:
    """The run is over: its event is closed. Only the cool-down is still known afterwards."""
    if before.event is None:
        return EventState(quiet_until_s=before.quiet_until_s), []
    return EventState(quiet_until_s=before.event.end_s + settings.cooldown_s), [("close", before.event)]


def _is_raised(now: FrameScore, settings: AlertSettings) -> bool:
    return now.score is not None and now.score >= settings.raise_at


def _recent(recent: tuple[FrameScore, ...], now: FrameScore, min_length_s: float) -> tuple[FrameScore, ...]:
    recent = (*recent[-MOST_RECENT + 1 :], now)
    since_s = now.time_s - min_length_s + EPSILON_S
    old = 0
    while old + 1 < len(recent) and recent[old + 1].time_s <= since_s:
        old += 1
    return recent[old:]


def _opened(recent: tuple[FrameScore, ...], settings: AlertSettings) -> Event | None:
    if not _is_raised(recent[-1], settings):
        return None
    if recent[-1].time_s - recent[0].time_s < settings.min_length_s - EPSILON_S and len(recent) < MOST_RECENT:
        return None
    raised = [m for m in recent if _is_raised(m, settings)]
    if len(raised) < settings.min_fraction * len(recent) - EPSILON_S:
        return None
    first = raised[0]
    event = Event(first.frame, first.time_s, first.frame, first.time_s, 0.0, {})
    for now in recent[recent.index(first) :]:
        event = _extended(event, now, settings)
    return event


def _extended(event: Event, now: FrameScore, settings: AlertSettings) -> Event:
    if now.score is None:
        return event
    if now.score < (settings.raise_at if event.paused else settings.clear_at):
        return event if event.paused else replace(event, paused=True)
    models = {**event.models}
    for name, score in now.models.items():
        models[name] = max(score, models.get(name, score))
    return replace(
        event,
        end_frame=now.frame,
        end_s=now.time_s,
        peak=max(event.peak, now.score),
        models=models,
        paused=False,
    )
