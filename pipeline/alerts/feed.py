"""From the alert stream to sinks: each has a consumer group of its own, and what it delivered is acknowledged."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping
from typing import Any

import redis

from pipeline.alerts.sink import Sink
from pipeline.bus.streams import OUTAGE, Bus
from stages.errors import OddwatchError

log = logging.getLogger(__name__)

AT_ONCE = 100
PICTURE_BYTES = 4 * 2**20
"""A larger one is no picture of ours."""
AGAIN_S = 5.0
"""How soon a sink that failed is tried again."""
REDIS_AGAIN_S = 1.0
LOOK_EVERY_S = 0.2
LAST_S = 5.0
"""How long the end of `run` waits for each sink."""


class AlertFeed:
    """Delivers every alert message to one sink at least once; what came while nobody listened, later."""

    def __init__(self, bus: Bus, group: str, sink: Sink) -> None:
        self._bus, self._group, self._sink = bus, group, sink
        with contextlib.suppress(redis.ResponseError):  # then a turn will say what is wrong
            bus.ensure_groups(bus.keys.alerts, [group])

    def turn(self) -> list[dict]:
        """Deliver what is new; returns it. Raises what the sink raises: nothing is lost, a later turn tries again."""
        client, stream = self._bus.client, self._bus.keys.alerts
        delivered: list[dict] = []
        for start in ("0", ">"):
            try:
                reply = client.xreadgroup(self._group, self._group, {stream: start}, count=AT_ONCE)
            except redis.ResponseError as error:
                if "NOGROUP" in str(error):  # Redis came back empty: the next turn will read what has come since
                    self._bus.ensure_groups(stream, [self._group])
                raise
            for entry_id, fields in reply[0][1] if reply else []:
                found = self._bus.alert_entries.read(entry_id, fields) if fields else None
                if found is not None:
                    alert = found | {"entry": entry_id.decode()}
                    self._sink.deliver(alert, self._picture(alert))
                    delivered.append(alert)
                client.xack(stream, self._group, entry_id)
        return delivered

    def _picture(self, alert: Mapping[str, Any]) -> bytes | None:
        """The JPEG that an alert names; None if it is gone, or is nothing that an alert may name."""
        if not self._bus.keys.is_snapshot_of(alert["snapshot"], alert["id"]):
            return None
        try:
            found: bytes = self._bus.client.getrange(alert["snapshot"], 0, PICTURE_BYTES)
        except redis.exceptions.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return None
        return found if 0 < len(found) <= PICTURE_BYTES else None

    def close(self) -> None:
        self._sink.close()


class Delivery:
    """Keeps one sink told, whatever becomes of it and of Redis."""

    def __init__(self, bus: Bus, name: str, sink: Sink) -> None:
        """Raises redis errors: from now on, nothing that comes is missed."""
        self._feed = AlertFeed(bus, f"sink:{name}", sink)
        self._trouble = ""

    def turn(self) -> float:
        """Deliver what is new; returns the seconds after which to come again."""
        try:
            self._feed.turn()
            self._trouble = ""
            return LOOK_EVERY_S
        except OddwatchError as error:
            if str(error) != self._trouble:
                log.warning("%s; trying again every %g s", error, AGAIN_S)
            self._trouble = str(error)
            return AGAIN_S
        except (redis.RedisError, *OUTAGE):
            return REDIS_AGAIN_S  # `run` itself tells of it

    def close(self) -> None:
        with contextlib.suppress(OddwatchError):
            self._feed.close()


class Deliveries:
    """The deliveries of all configured sinks, each in a thread of its own: one that hangs keeps nobody else waiting."""

    def __init__(self, bus: Bus, sinks: Mapping[str, Sink]) -> None:
        self._stopping = threading.Event()
        deliveries = [Delivery(bus, name, sink) for name, sink in sinks.items()]
        self._threads = [threading.Thread(target=self._run, args=[one], daemon=True) for one in deliveries]
        for thread in self._threads:
            thread.start()

    def close(self, limit_s: float = LAST_S) -> None:
        """Deliver what is there by now, for at most `limit_s` a sink; what is left is delivered by the next `run`."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(limit_s)

    def _run(self, delivery: Delivery) -> None:
        last = False
        while not last:
            last = self._stopping.is_set()
            self._stopping.wait(delivery.turn())
        delivery.close()
