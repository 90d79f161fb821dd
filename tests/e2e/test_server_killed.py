"""`oddwatch run` outlives its embedded server: another one, new runs, and what was lost is said."""

from __future__ import annotations

import json
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from e2e import kill, members, started, wait_for
from rtsp_server import free_port

from pipeline.alerts.feed import AlertFeed
from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect


class Told:
    def __init__(self) -> None:
        self.ids: list[str] = []

    def deliver(self, alert: dict, picture: bytes | None) -> None:
        self.ids.append(alert["id"])

    def close(self) -> None: ...


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_server_that_ended_is_started_again_at_the_same_address(signum: int) -> None:
    with EmbeddedServer(memory_mb=64) as server:
        bus = Bus(connect(server.url), Keys("p"))
        told = Told()
        feed = AlertFeed(bus, "sink", told)
        assert not server.revive()
        kill(server.pid, signum)
        wait_for("its end", lambda: server._process.poll() is not None, 10)
        assert server.revive()
        bus.client.xadd(bus.keys.alerts, {"alert": json.dumps({"id": "c-1-0", "phase": "open"})})
        for _ in range(2):
            with suppress(redis.ResponseError):  # NOGROUP, once
                feed.turn()
        assert told.ids == ["c-1-0"]
        bus.client.close()


def test_run_goes_on_after_its_server_was_killed(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"decode: {{open_timeout_s: 1}}\ncameras:\n  door: {{source: 'rtsp://127.0.0.1:{free_port()}/s'}}\n"
        "output: {folder: out}\n"
    )
    log = tmp_path / "log"
    with started(log, "run", config) as process:
        wait_for("its server", lambda: "REDIS_URL=" in log.read_text())
        url = log.read_text().partition("REDIS_URL=")[2].split()[0]
        client = redis.Redis.from_url(url)
        wait_for("the camera", lambda: client.hexists("oddwatch:cameras", "door"))
        time.sleep(2.5)
        (server,) = [pid for pid in children(process.pid) if "redis.sock" in command(pid)]
        kill(server)
        since = time.monotonic()
        wait_for("the camera again", lambda: asked(url), 20)
        took_s = time.monotonic() - since
        assert "ended and was started again" in log.read_text()
        assert "door: 0 frames decoded" in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert took_s < 10  # 3 s where nothing else runs
    assert not members(process.pid, "oddwatch")


def asked(url: str) -> bool:
    try:
        client = redis.Redis.from_url(url)
        return bool(client.hexists("oddwatch:cameras", "door") and client.exists("oddwatch:{door}:lease:decode"))
    except redis.RedisError:
        return False


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
