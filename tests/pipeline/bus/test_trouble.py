"""Trouble with Redis is said once, with its true reason."""

from __future__ import annotations

import logging

import pytest
import redis

from pipeline.bus.streams import Bus
from pipeline.bus.trouble import CALM_S, Trouble, trouble_said

SAID = {
    "is full": "OOM command not allowed when used memory > 'maxmemory'.",
    "is read-only": "READONLY You can't write against a read only replica.",
    "cannot write to its disk": "MISCONF Redis is configured to save RDB snapshots",
    "is loading": "LOADING Redis is loading the dataset in memory",
    "too many clients": "max number of clients reached",
    "refuses the login": "NOAUTH Authentication required.",
    "does not allow": "NOPERM this user has no permissions to run the 'xadd' command",
    "lost its master": "CLUSTERDOWN The cluster is down",
}


@pytest.mark.parametrize(("said", "text"), SAID.items())
def test_the_true_reason_is_said_once_however_often_it_comes(
    said: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    trouble = Trouble(logging.getLogger("t"), lambda: now[0])
    for _ in range(50):
        trouble.say(redis.ResponseError(text))
        now[0] += 0.2
    assert len(caplog.records) == 1
    assert said in caplog.records[0].getMessage()
    assert "does not answer" not in caplog.records[0].getMessage()
    now[0] += CALM_S + 1
    trouble.say(redis.ResponseError(text))
    trouble.say(redis.ConnectionError("Connection refused"))
    assert "does not answer (Connection refused)" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 3


def test_what_a_full_server_says_is_known_for_what_it_is(one_bus: Bus) -> None:
    before = one_bus.client.config_get("maxmemory")["maxmemory"]
    one_bus.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError) as raised:
            one_bus.client.set(one_bus.keys.dead, "x")
    finally:
        one_bus.client.config_set("maxmemory", before)
    assert trouble_said(raised.value).startswith("is full")
