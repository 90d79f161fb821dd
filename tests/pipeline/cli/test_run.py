"""`oddwatch run` outlives a full disk, and leaves no cameras behind when it is stopped. Takes about 6 s."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from e2e import needs_redis_server, oddwatch, redis_server, started, wait_for
from rtsp_server import free_port

from pipeline.bus.streams import Bus
from pipeline.cli.check import _redis
from pipeline.cli.live.run import NewAlerts
from pipeline.config.schema import Config, RedisConfig
from stages.errors import OddwatchError


def alert(bus: Bus, n: int) -> None:
    bus.client.xadd(bus.keys.alerts, {"alert": json.dumps({"id": f"cam-1-{n}", "phase": "open", "snapshot": None})})


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As a full disk: the write that goes beyond is cut short, the next fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_alerts_that_met_a_full_disk_are_written_once_it_has_room(one_bus: Bus, tmp_path: Path) -> None:
    alerts = NewAlerts(one_bus, tmp_path)
    path = tmp_path / "alerts.jsonl"
    alert(one_bus, 0)
    assert len(alerts.get()) == 1
    alert(one_bus, 1)
    alert(one_bus, 2)
    with no_file_larger_than(path.stat().st_size + 20):
        for _ in range(2):
            with pytest.raises(OddwatchError, match=r"alerts\.jsonl: cannot be written"):
                alerts.get()
    assert len(alerts.get()) == 2
    alerts.close()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["cam-1-0", "cam-1-1", "cam-1-2"]


def test_a_redis_that_comes_back_empty_is_listened_to_again(one_bus: Bus, tmp_path: Path) -> None:
    alerts = NewAlerts(one_bus, tmp_path)
    one_bus.client.delete(one_bus.keys.alerts)
    alert(one_bus, 0)
    with pytest.raises(redis.ResponseError, match="NOGROUP"):
        alerts.get()
    assert [a["id"] for a in alerts.get()] == ["cam-1-0"]
    alerts.close()


@needs_redis_server
def test_a_login_that_may_not_ask_for_the_version_does_not_end_the_check() -> None:
    rights = ["on", ">l1llA~", "~oddwatch:*", "resetchannels", "+@all", "-@admin", "-@dangerous"]
    with redis_server("--user", "alice", *rights) as (_, port):
        config = Config(redis=RedisConfig(url=f"redis://alice:l1llA~@127.0.0.1:{port}/0"))
        assert _redis(config) == (True, "Redis: answers (this login may not ask for its version)")


@needs_redis_server
@pytest.mark.parametrize(
    "rights", [pytest.param(["~oddwatch:*", "-@scripting"], id="scripts"), pytest.param(["~other:*"], id="keys")]
)
def test_a_login_without_the_rights_that_every_commit_needs_fails_the_check(rights: list[str]) -> None:
    with redis_server("--user", "alice", "on", ">pw", "resetchannels", "+@all", *rights) as (_, port):
        ok, said = _redis(Config(redis=RedisConfig(url=f"redis://alice:pw@127.0.0.1:{port}/0")))
    assert not ok
    assert "+@scripting" in said
    assert "~oddwatch:*" in said


@needs_redis_server
def test_a_stopped_run_leaves_no_camera_to_be_seen_in_a_shared_redis(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"decode: {{open_timeout_s: 1}}\ncameras:\n  door: {{source: 'rtsp://127.0.0.1:{free_port()}/s'}}\n"
    )
    with redis_server() as (socket, _):
        url = f"unix://{socket}"
        client = redis.Redis.from_url(url)
        with started(tmp_path / "worker.log", "worker", "decode", "--config", config, REDIS_URL=url) as worker:
            wait_for("the camera", lambda: client.hexists("oddwatch:cameras", "door"))
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(40) == 0
        assert client.hexists("oddwatch:cameras", "door"), "one worker of many may go"
        with started(tmp_path / "run.log", "run", config, REDIS_URL=url) as process:
            wait_for("an answer", lambda: b"offline" in (client.hget("oddwatch:{door}:health", "status") or b""))
            assert "offline: door" in oddwatch("status", REDIS_URL=url).out
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0, (tmp_path / "run.log").read_text()
        assert "door: 0 frames decoded = 0 scored + 0 in gaps" in (tmp_path / "run.log").read_text()
        assert not client.hlen("oddwatch:cameras")
        assert not client.hlen("oddwatch:origins")
        assert "door" not in oddwatch("status", REDIS_URL=url).out
        client.close()
