"""The alerting stage: one camera's scores of all models, joined by id, in; final scores and alerts out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stages.alerting.accounting import Account, Ledger
from stages.alerting.alert import Alert
from stages.alerting.saved_state import load_alerting, save_alerting
from stages.alerting.settings import AlertSettings
from stages.alerting.turn import Transition
from stages.messages import End, Fused, Gap, Scores, Span
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
        memory = load_alerting(state)
        if memory.ledger and not _is_next(item.span, memory.ledger):
            return AlertingOutput(), state
        turn = Transition(self._settings, self._config_hash, memory)
        turn.open_run(item.span)
        turn.catch_up(item.span)
        if item.gap:
            turn.skip(item.gap)
        elif item.end:
            turn.end(item.end)
        else:
            turn.score(item.scores)
        return AlertingOutput(messages=turn.messages, alerts=turn.alerts, closed=turn.closed), save_alerting(
            turn.memory()
        )


def read_account(state: State) -> Account | None:
    """The account of a camera's current or last run; None before its first message."""
    ledger = load_alerting(state).ledger
    return ledger.account if ledger else None


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
