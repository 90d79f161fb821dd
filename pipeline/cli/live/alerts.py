"""`oddwatch alerts`: read or follow them, from anywhere that reaches their Redis."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import redis
import typer

from pipeline.backoff import Backoff
from pipeline.bus.streams import Bus
from pipeline.bus.trouble import trouble_said
from pipeline.cli.session import join_session
from pipeline.config.load import load_config
from stages.alerting.alert import alert_line
from stages.errors import UsageError

_SINCE = re.compile(r"(\d+(?:\.\d+)?)([smhd])\Z")
AGAIN = Backoff(0.2, 5.0)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def alerts(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as new alerts come.")] = False,
    since: Annotated[str | None, typer.Option(help="10m, 2h, 1d, or an ISO time; default: all that are kept.")] = None,
    camera: Annotated[str | None, typer.Option(help="Only this camera.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="Configuration that names the Redis.")] = None,
) -> None:
    """Read or follow alerts."""
    session = join_session(load_config(config))
    start = "0" if since is None else f"{since_ms(since, session.bus.now_ms())}-0"
    for alert in _entries(session.bus, "$" if follow and since is None else start, follow):
        if camera is None or alert.get("camera") == camera:
            typer.echo(json.dumps(alert) if as_json else alert_line(alert))
            sys.stdout.flush()


def _entries(bus: Bus, after: str, follow: bool) -> Iterator[dict]:
    """Alerts after an entry; an outage of Redis is told of, once, and waited out when following."""
    failures = 0
    while True:
        before = after
        try:
            after, found = bus.alerts_after(after, block_s=2.0 if follow else 0.0)
            if failures:
                sys.stderr.write("oddwatch: Redis answers again\n")
            failures = 0
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if not follow:
                raise
            failures += 1
            if failures == 1:
                sys.stderr.write(f"oddwatch: Redis {trouble_said(error)}; waiting for it\n")
            time.sleep(AGAIN.delay_s(failures))
            continue
        yield from found
        if not follow and after == before:
            if skipped := bus.alert_entries.skipped:
                sys.stderr.write(f"oddwatch: skipped, as they are not alerts: {skipped} in {bus.keys.alerts}\n")
            return


def since_ms(text: str, now_ms: int) -> int:
    """`10m` or an ISO time (UTC unless it says otherwise) as unix ms. Raises UsageError."""
    if found := _SINCE.match(text):
        return max(0, now_ms - int(float(found[1]) * _UNIT_S[found[2]] * 1000))
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text!r}: give 30s, 10m, 2h, 1d, or an ISO time such as 2026-01-31T08:00") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
