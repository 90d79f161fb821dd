"""In a Cluster: copies each camera's alerts to the one stream that everybody follows.

An alert is written on its camera's node, together with the scores it came from; `oddwatch:alerts` lies on another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import redis

from pipeline.bus.keys import Keys

ALERTS_KEPT = 10_000
"""Entries of `oddwatch:alerts`."""
AT_ONCE = 100
ENTRY_ID = re.compile(rb"\d{1,20}-\d{1,20}\Z")


def forward_all(client: Any, keys: Keys, cameras: Sequence[str]) -> int:
    """Copy what is new of all these cameras; where nothing is new, that is found out in two round trips."""
    if not cameras:
        return 0
    done = client.hmget(keys.forwarded, cameras)
    with client.pipeline(transaction=False) as pipe:
        for camera, last in zip(cameras, done, strict=True):
            pipe.xrange(keys.stream(camera, "alerts"), min=_behind(last), count=1)
        found = pipe.execute()
    return sum(forward(client, keys, camera) for camera, new in zip(cameras, found, strict=True) if new)


def forward(client: Any, keys: Keys, camera: str) -> int:
    """Copy what is new, each alert message once, whoever else does the same; returns how many."""
    copied = 0
    while True:
        last = client.hget(keys.forwarded, camera)
        entries = client.xrange(keys.stream(camera, "alerts"), min=_behind(last), count=AT_ONCE)
        if not entries:
            return copied
        if _copy(client, keys, camera, last, entries):
            copied += len(entries)


def _behind(last: bytes | None) -> str:
    return "-" if last is None or ENTRY_ID.match(last) is None else f"({last.decode()}"


def _copy(client: Any, keys: Keys, camera: str, last: bytes | None, entries: list[Any]) -> bool:
    """Add the entries and note the last of them in one MULTI; False if another forwarder was faster."""
    with client.pipeline(transaction=True) as pipe:
        pipe.watch(keys.forwarded)
        if pipe.hget(keys.forwarded, camera) != last:
            return False
        pipe.multi()
        for _, fields in entries:
            pipe.xadd(keys.alerts, fields, maxlen=ALERTS_KEPT)
        pipe.hset(keys.forwarded, camera, entries[-1][0])
        try:
            pipe.execute()
        except redis.WatchError:
            return False
        return True
