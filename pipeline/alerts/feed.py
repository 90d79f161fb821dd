"""From the alert stream to sinks: each has a consumer group of its own, and what it delivered is acknowledged."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping

from pipeline.alerts.sink import Sink
from pipeline.bus.streams import Bus
from stages.errors import OddwatchError

log = logging.getLogger(__name__)

AT_ONCE = 100
AGAIN_S = 5.0
"""How soon a sink that failed is tried again."""


class AlertFeed:
    """Delivers every alert message to one sink at least once; what came while nobody listened, later."""

    def __init__(self, bus: Bus, group: str, sink: Sink) -> None:
        self._bus, self._group, self._sink = bus, group, sink
        bus.ensure_groups(bus.keys.alerts, [group])

    def turn(self) -> list[dict]:
        """Deliver what is new; returns it. Raises what the sink raises: nothing is lost, a later turn tries again."""
        client, stream = self._bus.client, self._bus.keys.alerts
        delivered: list[dict] = []
        for start in ("0", ">"):
            reply = client.xreadgroup(self._group, self._group, {stream: start}, count=AT_ONCE)
            for entry_id, fields in reply[0][1] if reply else []:
                if fields:
                    alert = json.loads(fields[b"alert"]) | {"entry": entry_id.decode()}
                    self._sink.deliver(alert, client.get(alert["snapshot"]) if alert["snapshot"] else None)
                    delivered.append(alert)
                client.xack(stream, self._group, entry_id)
        return delivered

    def close(self) -> None:
        self._sink.close()


class Deliveries:
    """The feeds of all configured sinks; one that fails is tried again, and keeps no other waiting."""

    def __init__(self, bus: Bus, sinks: Mapping[str, Sink], clock: Callable[[], float] = time.monotonic) -> None:
        self._bus, self._sinks, self._clock = bus, sinks, clock
        self._feeds = {name: self._feed(name) for name in sinks}
        self._again_s = dict.fromkeys(sinks, 0.0)
        self._trouble = dict.fromkeys(sinks, "")

    def turn(self) -> None:
        """Deliver what is new to the sinks that are not waiting to be tried again. Errors of Redis pass through."""
        for name in self._sinks:
            if self._clock() < self._again_s[name]:
                continue
            try:
                # Made anew after an error of Redis, which may have lost the group.
                feed = self._feeds.pop(name, None) or self._feed(name)
                feed.turn()
                self._feeds[name], self._trouble[name] = feed, ""
            except OddwatchError as error:
                self._again_s[name] = self._clock() + AGAIN_S
                if str(error) != self._trouble[name]:
                    log.warning("%s; trying again every %g s", error, AGAIN_S)
                self._trouble[name] = str(error)

    def close(self) -> None:
        for sink in self._sinks.values():
            with contextlib.suppress(OddwatchError):
                sink.close()

    def _feed(self, name: str) -> AlertFeed:
        return AlertFeed(self._bus, f"sink:{name}", self._sinks[name])
