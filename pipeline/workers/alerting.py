"""The alerting stage as a worker runs it: joins models by id, and keeps alerts, pictures and accounts in Redis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from pipeline.alerts.forward import ALERTS_KEPT
from pipeline.bus.commit import Command, hset, xadd
from pipeline.bus.keys import Keys
from pipeline.cameras.spec import CameraSpec
from stages.alerting.accounting import Account
from stages.alerting.alert import Alert
from stages.alerting.stage import AlertingOutput, AlertingStage, Joined, read_account
from stages.messages import End, Gap, Scores, Span
from stages.stage import Inputs, Result, State

LIVE_ALERTS_KEPT = 1_000
"""Of one live camera, in its own stream. A file keeps all until it is done."""
RUNS_KEPT = 100
SNAPSHOT_S = 24 * 3600


class AlertingProcessor:
    """Runs the alerting stage for the cameras of one configuration."""

    def __init__(self, spec: CameraSpec, to_all: bool) -> None:
        """`to_all`: also write to `oddwatch:alerts` in the same transaction (not possible in a Cluster)."""
        self._stage = AlertingStage(spec.alerts, spec.config_hash)
        self._to_all = to_all

    def run(self, batch: Sequence[tuple[Inputs, State]]) -> list[Result]:
        return [self._one(inputs, {k: v for k, v in state.items()}) for inputs, state in batch]

    def _one(self, inputs: Inputs, state: State) -> Result:
        item = join(inputs)
        outcome, new_state = self._stage.process(item, state)
        before, after = read_account(state), read_account(new_state)
        also = partial(self._commands, item.span, outcome, before, after)
        return Result(outcome.messages, new_state, also)

    def _commands(
        self, span: Span, outcome: AlertingOutput, before: Account | None, after: Account | None, keys: Keys
    ) -> list[Command]:
        """What keeps alerts, their pictures and the accounts."""
        commands: list[Command] = []
        camera, limit = span.camera, ("MAXLEN", "~", LIVE_ALERTS_KEPT) if span.live else ()
        for n, alert in enumerate(outcome.alerts):
            snapshot = keys.snapshot(camera, alert.id) if alert.thumb else None
            if alert.thumb:
                commands.append(("SET", snapshot, alert.thumb, "EX", SNAPSHOT_S))
            fields = alert_fields(alert, snapshot)
            entry_id = f"{span.run_ms}-{span.seq * 256 + n}"
            commands.append(xadd(keys.stream(camera, "alerts"), entry_id, fields, *limit))
            if self._to_all:
                commands.append(xadd(keys.alerts, "*", fields, "MAXLEN", "~", ALERTS_KEPT))
        health = keys.health(camera)
        for account in outcome.closed:
            commands.append(("LPUSH", f"{health}:runs", json.dumps(account.as_dict())))
            commands.append(("LTRIM", f"{health}:runs", 0, RUNS_KEPT - 1))
        if after is not None:
            commands.append(hset(health, {"account": json.dumps(after.as_dict())}))
        for name, amount in totals(before, after, outcome.closed).items():
            commands.append(("HINCRBY", health, f"total:{name}", amount))
        return commands


def alert_fields(alert: Alert, snapshot: str | None) -> dict[str, str]:
    """The stream entry of an alert: the whole as JSON, and what one may want to filter by in the clear."""
    return {
        "schema": str(alert.schema), "id": alert.id, "phase": alert.phase, "camera": alert.camera,
        "severity": alert.severity, "alert": alert.to_json(snapshot),
    }  # fmt: skip


def join(inputs: Inputs) -> Joined:
    """The messages of one id as the stage takes them; a model that only has a gap is left out."""
    messages = list(inputs.values())
    scores = {m.model: m for m in messages if isinstance(m, Scores)}
    if scores:
        return Joined(scores=scores)
    first = messages[0]
    if isinstance(first, End):
        return Joined(end=first)
    if isinstance(first, Gap):
        return Joined(gap=first)
    raise ValueError(f"alerting reads scores, got a {type(first).__name__}")


def totals(before: Account | None, after: Account | None, closed: Sequence[Account]) -> dict[str, int]:
    """What to add to a camera's running totals, so that they equal the sum over all its runs."""
    grown: dict[str, int] = {}

    def add(account: Account, sign: int) -> None:
        for name, n in {"decoded": account.decoded, "scored": account.scored}.items():
            grown[name] = grown.get(name, 0) + sign * n
        for cause, n in account.gaps.items():
            grown[f"gap:{cause}"] = grown.get(f"gap:{cause}", 0) + sign * n

    accounts = {a.run_ms: a for a in (*closed, *([after] if after else []))}
    for account in accounts.values():
        add(account, 1)
    if before is not None:
        add(before, -1)
        if before.run_ms not in accounts:
            add(before, 1)
    return {name: n for name, n in grown.items() if n}
