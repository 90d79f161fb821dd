"""What `score` leaves in Redis while it works on a file, and how it is put away when its command has died."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import replace

from pipeline.bus.streams import Bus
from pipeline.cameras.registry import Registry, unregister
from stages.alerting.alert import Alert

log = logging.getLogger(__name__)

CLAIM_S = 15
"""A `score` that says nothing for so long has lost its claim on a file."""


def left_open(bus: Bus, camera: str) -> list[Alert]:
    """The closing messages of a camera's alerts that have none."""
    last: dict[str, Alert] = {}
    for _, fields in bus.client.xrange(bus.keys.stream(camera, "alerts")):
        alert = Alert.from_json(fields[b"alert"])
        last[alert.id] = alert
    return [replace(alert, phase="close") for alert in last.values() if alert.phase != "close"]


def reap(bus: Bus) -> None:
    """Remove archive files whose `score` has died and was not started again: they would hold up decoders for ever."""
    registry = Registry(bus.client, bus.keys)
    registry.refresh()
    for camera, spec in registry.specs.items():
        aged = bus.now_ms() - spec.run_ms > CLAIM_S * 1000
        if not spec.live and aged and not bus.client.exists(bus.keys.claim(camera)):
            log.info("removing %s: the score that wanted it has died", camera)
            bus.client.hdel(bus.keys.jobs, camera)
            unregister(bus.client, bus.keys, camera)


def is_dead(holder: str) -> bool:
    """Whether a claim's `host:pid` is of this host and certainly gone; of other hosts only time will tell."""
    host, _, pid = holder.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # of another user, so it lives
    return False
