"""`oddwatch run`: all stages on this host, for as long as somebody watches."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import redis
import typer

from pipeline.alerts.feed import AlertFeed, Deliveries
from pipeline.alerts.folder import FolderSink
from pipeline.alerts.sink import open_sinks
from pipeline.bus.streams import OUTAGE, Bus
from pipeline.bus.trouble import trouble_kind, trouble_said
from pipeline.cameras.announce import Announcer, live_specs, origin_of
from pipeline.cameras.spec import CameraSpec
from pipeline.cli.session import Session, local_workers, open_session, worker_settings
from pipeline.config.load import load_config
from pipeline.config.schema import Config
from pipeline.observe.metrics import serve_metrics
from pipeline.observe.status import read_status
from pipeline.observe.status_text import account_lines
from pipeline.pixels.sweep import swept
from pipeline.supervisor.supervisor import LocalWorkers
from pipeline.workers.build import check_engine
from stages.alerting.alert import alert_line
from stages.errors import OddwatchError, UsageError

FOLDER_GROUP = "jsonl"
"""Consumer group of `output.folder`."""
LOOK_S = 2.0
"""How often the accounts are looked at that an embedded server would take with it."""
TROUBLE = (OddwatchError, redis.RedisError, *OUTAGE)
"""What `run` waits out: Redis away, full or read-only; a full disk."""


def run(config: Annotated[Path, typer.Argument(help="Configuration with cameras.")]) -> None:
    """All stages for the configured cameras on this host, supervised; Ctrl-C drains and stops."""
    settings = load_config(config)
    specs = live_specs(settings, config)
    if not specs:
        raise UsageError(f"{config}: no camera to watch; add one under 'cameras:'")
    check_engine(settings.workers, specs)  # before it says that it watches
    with open_session(settings) as session, swept(session.bus, session.embedded):
        alerts = NewAlerts(session.bus, settings.output.folder)
        deliveries = Deliveries(session.bus, open_sinks(settings.sinks_with_options()))
        port = settings.output.metrics_port
        server = serve_metrics(port, lambda: read_status(session.bus), settings.output.metrics_host) if port else None
        _say_where(session, settings, specs)
        with (
            _until_asked() as asked,
            local_workers(settings, worker_settings(settings, session.url, config), specs) as workers,
        ):
            _watch(session, workers, alerts, asked, [spec.camera for spec in specs])
        if server is not None:
            server.shutdown()
        try:
            last, accounts = alerts.get(), account_lines(read_status(session.bus), [s.camera for s in specs])
            alerts.close()
            deliveries.close()
            Announcer(session.bus, specs, origin_of(config)).withdraw()
        except TROUBLE as error:
            raise OddwatchError(f"stopped, but {_what(session, error)}") from error
        _show(last)
        typer.echo("\n".join(accounts))
        if skipped := session.bus.alert_entries.skipped:
            typer.echo(f"skipped, as they are not alerts: {skipped} in {session.bus.keys.alerts}")


def _say_where(session: Session, config: Config, specs: list[CameraSpec]) -> None:
    for spec in specs:
        typer.echo(f"watching {spec.camera}: {spec.source}")
    if session.embedded:
        typer.echo(f"alerts: oddwatch alerts --follow   or   redis-cli -s {session.url.removeprefix('unix://')} "
                   f"xread block 0 streams {session.bus.keys.alerts} '$'")  # fmt: skip
        typer.echo(f"        REDIS_URL={session.url} for other programs")
    else:
        typer.echo(f"alerts: oddwatch alerts --follow (Redis {session.shown}, stream {session.bus.keys.alerts})")
    if config.output.metrics_port:
        host = config.output.metrics_host
        shown = f"[{host}]" if ":" in host else host
        typer.echo(f"metrics: http://{shown}:{config.output.metrics_port}/metrics")


@contextmanager
def _until_asked() -> Iterator[list[bool]]:
    """Collects SIGINT, SIGTERM and SIGHUP; a second SIGINT or SIGTERM ends the wait for what is still being drained."""
    asked: list[bool] = []

    def ask(signum: int, _: object) -> None:
        if asked and signum != signal.SIGHUP:  # a terminal that closes can send several
            raise KeyboardInterrupt
        asked.append(True)

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signals.append(signal.SIGHUP)
    before = {s: signal.signal(s, ask) for s in signals}
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _watch(session: Session, workers: LocalWorkers, alerts: NewAlerts, asked: list[bool], cameras: list[str]) -> None:
    """Show alerts until asked to stop, whatever becomes of Redis and the disk meanwhile."""
    trouble = ""
    known = LastKnown(session, cameras)
    while not asked:
        workers.check()
        if session.server is not None and session.server.revive():
            known.say_lost()
        found: list[dict] = []
        try:
            known.look()
            found = alerts.get(wait_s=0.2)
            trouble = ""
        except TROUBLE as error:
            kind = str(error) if isinstance(error, OddwatchError) else trouble_kind(error)
            if kind != trouble:
                sys.stderr.write(f"oddwatch: {_what(session, error)}; waiting until that has passed\n")
            trouble = kind
            time.sleep(1.0)
        _show(found)
    typer.echo("stopping: the stages finish what was decoded")


class LastKnown:
    """What became of the cameras' frames, as Redis said last: what an embedded server takes with it when it ends."""

    def __init__(self, session: Session, cameras: list[str]) -> None:
        self._session, self._cameras = session, cameras
        self._lines: list[str] = []
        self._looked_s = 0.0

    def look(self) -> None:
        """Ask, now and then; only an embedded server forgets everything when it ends. Raises redis errors."""
        if self._session.server is not None and time.monotonic() - self._looked_s > LOOK_S:
            self._lines = account_lines(read_status(self._session.bus), self._cameras)
            self._looked_s = time.monotonic()

    def say_lost(self) -> None:
        """The server has ended and was started again: every camera begins a new run."""
        ago_s = time.monotonic() - self._looked_s
        sys.stderr.write(
            "oddwatch: the embedded server ended and was started again, empty; every camera begins a new run. What was "
            "in it is lost: snippets not yet scored, what adaptive models had learned, and alerts of the last "
            "moment that were in no file yet"
            + "".join(f"\noddwatch: {ago_s:.0f} s before it was noticed, {line}" for line in self._lines)
            + "\n"
        )
        self._lines = []


def _show(alerts: list[dict]) -> None:
    for alert in alerts:
        typer.echo(alert_line(alert))
    sys.stdout.flush()


def _what(session: Session, error: BaseException) -> str:
    return str(error) if isinstance(error, OddwatchError) else f"Redis at {session.shown}: {trouble_said(error)}"


class NewAlerts:
    """What has come since the last look, through `alerts.jsonl` and its pictures if there is a folder for them."""

    def __init__(self, bus: Bus, folder: Path | None) -> None:
        """Raises OddwatchError when the folder cannot be written."""
        self._bus = bus
        self._folder = folder
        self._last = "$"
        self._feed = self._opened() if folder else None

    def get(self, wait_s: float = 0.0) -> list[dict]:
        """Raises one of TROUBLE; what could not be written then is written by a later call."""
        if self._folder is None:
            self._last, found = self._bus.alerts_after(self._last, block_s=wait_s)
            return found
        try:
            self._feed = self._feed or self._opened()
            found = self._feed.turn()
        except TROUBLE:
            # Opened anew: that tidies up a line of which a full disk took half, and a group that Redis has lost.
            self.close()
            raise
        if not found:
            time.sleep(wait_s)
        return found

    def close(self) -> None:
        """Close the file; a later `get` opens it again."""
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.close()

    def _opened(self) -> AlertFeed:
        assert self._folder is not None
        return AlertFeed(self._bus, FOLDER_GROUP, FolderSink(self._folder))
