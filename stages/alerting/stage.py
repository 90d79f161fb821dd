"""The alerting stage: one camera's scores of all models, joined by id, in; final scores and alerts out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np

from stages.alerting.accounting import Account, Ledger, lost_at_end, lost_before
from stages.alerting.alert import Alert, make_alert
from stages.alerting.events import EPSILON_S, Event, EventState, FrameScore, PhaseChange, advance, finish
from stages.alerting.fusion import fuse_models
from stages.alerting.settings import AlertSettings
from stages.messages import End, Fused, Gap, Prior, Scores, Span
from stages.stage import State


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """What there is of one id: scores by model (those that have none are absent), or a gap, or the run's end."""

    scores: Mapping[str, Scores] = field(default_factory=dict)
    gap: Gap | None = None
    end: End | None = None

    def __post_init__(self) -> None:
        if bool(self.scores) + (self.gap is not None) + (self.end is not None) != 1:
            raise ValueError("an id has either scores, or a gap, or an end")
        for name, scores in self.scores.items():
            if scores.model != name:
                raise ValueError(f"scores of model {scores.model!r} are joined as {name!r}")
            if _frames_of(scores) != _frames_of(self.span):
                raise ValueError(f"{name!r} scored {_frames_of(scores)}, another model {_frames_of(self.span)}")

    @property
    def span(self) -> Span:
        """The frames that this is about."""
        return self.gap or self.end or next(iter(self.scores.values()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlertingOutput:
    """What is to be published, in this order, together with the new state."""

    messages: list[Fused | Gap | End] = field(default_factory=list)
    """For `oddwatch:{cam}:scores`; their ids rise strictly."""
    alerts: list[Alert] = field(default_factory=list)
    closed: list[Account] = field(default_factory=list)
    """Accounts of runs that are over by this item."""


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


class AlertingStage:
    """Accounts, calibrates, fuses, finds events. Pure: the same items and state give the same bytes."""

    def __init__(self, settings: AlertSettings, config_hash: str) -> None:
        self._settings = settings
        self._config_hash = config_hash

    def process(self, item: Joined, state: State) -> tuple[AlertingOutput, State]:
        """What follows from the next id of a camera, and the new state ({} is a fresh start).

        Ids must rise; one that does not is a repeat and does nothing. A later run closes the one before it.
        Raises ValueError for an item that contradicts those before it: another camera, frames that come again, or
        anything after its run's end.
        """
        before = _loaded(state)
        if before.ledger and not _is_next(item.span, before.ledger):
            return AlertingOutput(), state
        transition = Transition(self._settings, self._config_hash, before)
        transition.open_run(item.span)
        transition.catch_up(item.span)
        if item.gap:
            transition.skip(item.gap)
        elif item.end:
            transition.end(item.end)
        else:
            transition.score(item.scores)
        output = AlertingOutput(messages=transition.messages, alerts=transition.alerts, closed=transition.closed)
        return output, _saved(transition.after())


class Transition:
    """One message's way through alerting: what was known before it -> messages, alerts, accounts, what is known after.

    Lives for one call.
    """

    def __init__(self, settings: AlertSettings, config_hash: str, before: AlertingState) -> None:
        self.messages: list[Fused | Gap | End] = []
        self.alerts: list[Alert] = []
        self.closed: list[Account] = []
        self._settings, self._config_hash = settings, config_hash
        self._is_first = before.ledger is None
        self._ledger = before.ledger or Ledger(account=Account(camera="", run_ms=-1, live=False))
        self._events, self._peak, self._hashes = before.events, before.peak, dict(before.hashes)

    def after(self) -> AlertingState:
        """What is known now."""
        return AlertingState(self._ledger, self._events, self._peak, self._hashes)

    def open_run(self, span: Span) -> None:
        """Make sure that the ledger is of the span's run; what came before it is closed."""
        old_ms = self._ledger.account.run_ms
        if old_ms == span.run_ms:
            return
        if not self._is_first:
            self._leave_run(span, span.prior)
        # A camera that reconnects every few seconds must not escape its cool-down. (Files have no common clock.)
        quiet_s = self._events.quiet_until_s - (span.run_ms - old_ms) / 1000
        self._events = EventState(quiet_until_s=max(quiet_s, 0.0)) if span.live else EventState()
        account = Account(camera=span.camera, run_ms=span.run_ms, live=span.live)
        if span.prior and span.prior.down_s > 0:
            lost = {"disconnected": 0}, {"disconnected": 1}
            account = replace(account, down_s=span.prior.down_s, gaps=lost[0], gap_counts=lost[1])
        self._ledger, self._peak, self._hashes = Ledger(account=account), PeakThumb(), {}

    def _leave_run(self, span: Span, prior: Prior | None) -> None:
        if not self._ledger.account.status:
            known = prior is not None and prior.run_ms == self._ledger.account.run_ms
            self._close_run(prior.frames if prior and known else None)
        if prior and self._ledger.account.run_ms < prior.run_ms < span.run_ms:  # of which nothing arrived at all
            self._ledger = Ledger(account=Account(camera=span.camera, run_ms=prior.run_ms, live=span.live))
            self._close_run(prior.frames)
        if prior and prior.down_s > 0:
            # The new run's ids all belong to its frames, so this one follows the old run's.
            self.messages.append(self._ledger.outage(prior.down_s))

    def _close_run(self, decoded: int | None) -> None:
        for gap in lost_at_end(self._ledger, decoded or 0):
            self.skip(gap)
        self._finish_events()
        self._ledger = self._ledger.abandoned(decoded)
        self.closed.append(self._ledger.account)

    def catch_up(self, span: Span) -> None:
        """Account for the frames between the last message and this one."""
        for gap in lost_before(self._ledger, span):
            self.skip(gap, publish=gap.seq < span.seq)

    def skip(self, gap: Gap, publish: bool = True) -> None:
        """Frames without a score."""
        self._ledger = self._ledger.skipped(gap)
        if publish:
            self.messages.append(gap)
        if not len(gap.times_s):
            return
        times_s = np.maximum.accumulate(gap.times_s)
        # A gap can be a day. Where no event is open only what may still be remembered at its end matters.
        remembered_s = times_s[-1] - self._settings.min_length_s - 2 * EPSILON_S
        tail = int(np.searchsorted(times_s, remembered_s)) - 1
        for i, time_s in enumerate(times_s.tolist()):
            if self._events.event or i >= tail:
                self._see(FrameScore(gap.first_frame + i, time_s, None), b"")

    def end(self, end: End) -> None:
        """The run is over."""
        self._finish_events()
        self._ledger = self._ledger.ended(end)
        self.messages.append(end)
        self.closed.append(self._ledger.account)

    def score(self, scores: Mapping[str, Scores]) -> None:
        """Frames with scores. Where no model gives a finite one, a frame is a gap that `failed`."""
        self._hashes |= {name: s.model_hash for name, s in scores.items()}
        fused = fuse_models(scores, self._hashes, self._settings.fusion, self._settings.weights)
        scored = int(np.isfinite(fused.score).sum())
        if not scored:
            self.skip(Gap(**Span.header(fused), cause="failed", detail="no model gave a finite score"))
            return
        self._ledger = self._ledger.scored(fused, scored)
        self.messages.append(fused)
        thumb = next((s.thumb for s in scores.values() if s.thumb), b"")
        columns = {name: column.tolist() for name, column in fused.calibrated.items()}
        for i, (time_s, score) in enumerate(zip(fused.times_s.tolist(), fused.score.tolist(), strict=True)):
            frame = fused.first_frame + i
            if fused.provisional or np.isnan(score):
                self._see(FrameScore(frame, time_s, None), b"")
            elif score < self._settings.clear_at:  # nothing asks for the models of such a frame
                self._see(FrameScore(frame, time_s, score), b"")
            else:
                models = {name: column[i] for name, column in columns.items() if not np.isnan(column[i])}
                self._see(FrameScore(frame, time_s, score, models), thumb)

    def _see(self, frame_score: FrameScore, thumb: bytes) -> None:
        """Give events their next frame; an alert's picture is that of its own frames, not of one that comes after."""
        before, after = self._peak, self._higher(self._peak, frame_score, thumb)
        self._events, changes = advance(self._events, frame_score, self._settings, self._ledger.account.live)
        for change in changes:
            own = after if change[1].end_frame == frame_score.frame else before
            self.alerts.append(self._alert(change, own.jpeg))
            if change[0] == "close":
                after = PeakThumb() if own is after else self._higher(PeakThumb(), frame_score, thumb)
        self._peak = PeakThumb() if self._events.is_idle(self._settings) else after

    def _higher(self, peak: PeakThumb, frame_score: FrameScore, thumb: bytes) -> PeakThumb:
        if not thumb or frame_score.score is None or frame_score.score < self._settings.raise_at:
            return peak
        return PeakThumb(frame_score.score, thumb) if frame_score.score > peak.score else peak

    def _finish_events(self) -> None:
        self._events, changes = finish(self._events, self._settings)
        self.alerts += [self._alert(change, self._peak.jpeg) for change in changes]
        self._peak = PeakThumb()

    def _alert(self, change: PhaseChange, thumb: bytes) -> Alert:
        account, hashes = self._ledger.account, self._hashes
        return make_alert(change, account, config_hash=self._config_hash, model_hashes=hashes, thumb=thumb)


def read_account(state: State) -> Account | None:
    """The account of a camera's current or last run; None before its first message."""
    ledger = _loaded(state).ledger
    return ledger.account if ledger else None


def _loaded(state: State) -> AlertingState:
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


def _saved(known: AlertingState) -> State:
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


def _frames_of(span: Span) -> tuple[str, str, int, int]:
    return span.camera, span.id, span.first_frame, span.next_frame


def _is_next(span: Span, ledger: Ledger) -> bool:
    account = ledger.account
    if span.camera != account.camera:
        raise ValueError(f"{span.camera} {span.id} was given with the state of camera {account.camera}")
    if (span.run_ms, span.seq) <= (account.run_ms, ledger.seq):
        return False
    if span.run_ms == account.run_ms and account.status:
        raise ValueError(f"{span.camera} {span.id} comes after the end of its run")
    return True
