"""`oddwatch run` on real RTSP servers: one that dies and returns, one that stays, and one that never says a word."""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import rtsp_server
from e2e import (
    everything_in,
    family,
    film,
    kill,
    members,
    needs_redis_server,
    oddwatch,
    redis_server,
    started,
    wait_for,
)
from e2e import temporary as temporary
from places import IN_CI

from pipeline.bus.codec import decode
from stages.messages import End, Fused, Gap

MISSING = rtsp_server.missing("tcp")
pytestmark = [
    pytest.mark.skipif(bool(MISSING) and not IN_CI, reason=MISSING or "-"),
    needs_redis_server,
]
LOOK_S = 0.4
"""Between two `oddwatch status`, each a process."""
SECRETS = ("S3cr3t", "admin-joe", "t0ken-9")


@dataclass
class Site:
    """A running `oddwatch run` with three cameras: gate (comes and goes), yard (stays), mute (says nothing)."""

    process: subprocess.Popen[str]
    log: Path
    url: str
    gate: subprocess.Popen[str]
    video: Path
    gate_port: int
    metrics_port: int
    config: Path

    def camera(self, name: str) -> dict[str, Any]:
        return self.status()["cameras"].get(name) or {"health": {}, "run": None, "totals": {}}

    def status(self) -> dict[str, Any]:
        done = oddwatch("status", "--json", REDIS_URL=self.url)
        assert done.code == 0, done.err
        return json.loads(done.out)

    def scored(self, name: str) -> int:
        return self.camera(name)["totals"].get("scored", 0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    video = film(folder / "street.mp4", 100, seed=30)
    ports = [rtsp_server.free_port() for _ in range(4)]
    config = folder / "cameras.yaml"
    config.write_text(
        f"decode: {{open_timeout_s: 2, read_timeout_s: 3}}\n"
        f"output: {{folder: alerts, metrics_port: {ports[3]}}}\n"
        f"cameras:\n"
        f"  gate: {{source: 'rtsp://admin-joe:${{GATE_PASSWORD}}@127.0.0.1:{ports[0]}/stream?token=t0ken-9'}}\n"
        f"  yard: {{source: 'rtsp://admin-joe:S3cr3t@127.0.0.1:{ports[1]}/stream'}}\n"
        f"  mute: {{source: 'rtsp://admin-joe:S3cr3t@127.0.0.1:{ports[2]}/stream'}}\n"
    )
    with ExitStack() as stack:
        hole = stack.enter_context(socket.create_server(("127.0.0.1", ports[2])))
        hole.listen(50)
        gate, yard = (rtsp_server.start(video, port, "tcp") for port in ports[:2])
        stack.callback(end, yard)
        server, _ = stack.enter_context(redis_server())
        log = folder / "log"
        url = f"unix://{server}"
        process = stack.enter_context(started(log, "run", config, REDIS_URL=url, GATE_PASSWORD="S3cr3t"))
        site = Site(process, log, url, gate, video, ports[0], ports[3], config)
        stack.callback(lambda: end(site.gate))
        wait_for("scores of both cameras", lambda: min(site.scored("gate"), site.scored("yard")) > 40, pause_s=LOOK_S)
        yield site


def end(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.wait()


def runs(client: redis.Redis, camera: str) -> dict[int, list[Fused | Gap | End]]:
    """What `oddwatch:{camera}:scores` holds, by run."""
    found: dict[int, list[Fused | Gap | End]] = {}
    for _, fields in client.xrange(f"oddwatch:{{{camera}}}:scores"):
        message = decode(fields)
        assert isinstance(message, Fused | Gap | End)
        found.setdefault(message.run_ms, []).append(message)
    return found


def test_a_camera_that_dies_and_returns_is_a_new_run_with_its_gap(site: Site) -> None:
    client = redis.Redis.from_url(site.url)
    first = site.camera("gate")["run"]["run_ms"]

    end(site.gate)
    wait_for("the loss to be noticed", lambda: site.camera("gate")["health"].get("status") == "offline", 30, LOOK_S)
    error = site.camera("gate")["health"]["error"]
    assert error
    before = site.scored("yard")
    wait_for("the other camera to go on meanwhile", lambda: site.scored("yard") > before, 20, LOOK_S)
    site.gate = rtsp_server.start(site.video, site.gate_port, "tcp")

    wait_for("scores of a new run", lambda: runs(client, "gate").keys() - {first}, 40)
    wait_for("its account", lambda: (site.camera("gate")["run"] or {}).get("scored", 0) > 20, 40, LOOK_S)
    account = site.camera("gate")["run"]
    assert account["run_ms"] > first
    assert 0.5 < account["down_s"] < 60
    gaps = [m for run in runs(client, "gate").values() for m in run if isinstance(m, Gap)]
    assert gaps[0].cause == "disconnected"
    assert gaps[0].detail == f"down {account['down_s']:.1f} s"
    assert any(isinstance(m, End) for m in runs(client, "gate")[first])
    closed = [json.loads(raw) for raw in client.lrange("oddwatch:{gate}:health:runs", 0, -1)]
    assert any(run["run_ms"] == first and run["decoded"] == run["scored"] + sum(run["gaps"].values()) for run in closed)


def test_the_second_camera_was_not_disturbed(site: Site) -> None:
    found = runs(redis.Redis.from_url(site.url), "yard")
    assert len(found) == 1
    (messages,) = found.values()
    assert not [m for m in messages if isinstance(m, Gap)]
    starts = [m.first_frame for m in messages]
    assert starts == [0, *(m.next_frame for m in messages[:-1])], "frames are missing"
    assert site.camera("yard")["health"]["status"] == "online"


def test_a_camera_that_says_nothing_is_timed_out(site: Site) -> None:
    health = wait_for(
        "the time-out",
        lambda: (health := site.camera("mute")["health"]).get("error") and health,
        pause_s=LOOK_S,
    )
    assert health["status"] == "offline"
    assert "no answer within 2 s" in health["error"]
    assert site.scored("mute") == 0
    wait_for(
        "back-off",
        lambda: re.search(r"mute: .*trying again in 1 s(.*\n)+.*mute: .*trying again in 2 s", site.log.read_text()),
    )


def test_a_killed_decoder_is_replaced(site: Site) -> None:
    client = redis.Redis.from_url(site.url)
    (victim,) = members(site.process.pid, "decoder gate")
    known = runs(client, "gate").keys()
    kill(victim)
    wait_for("scores of its successor", lambda: runs(client, "gate").keys() - known, 40)
    assert members(site.process.pid, "decoder gate") != [victim]
    assert len(runs(client, "yard")) == 1


def test_logins_appear_nowhere(site: Site) -> None:
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{site.metrics_port}/metrics").read()
    assert b"gate" in metrics
    places = {
        "Redis": everything_in(redis.Redis.from_url(site.url)),
        "log": site.log.read_bytes(),
        "metrics": metrics,
        "status": oddwatch("status", REDIS_URL=site.url).out.encode(),
        "processes": "".join(family(site.process.pid).values()).encode(),
        "check": oddwatch("check", site.config, REDIS_URL=site.url, GATE_PASSWORD="S3cr3t").out.encode(),
        "alerts": b"".join(p.read_bytes() for p in (site.config.parent / "alerts").rglob("*") if p.is_file()),
    }
    for place, content in places.items():
        for secret in SECRETS:
            assert secret.encode() not in content, f"{secret} is in {place}"
    assert b"***@127.0.0.1" in places["Redis"]
    assert b"***@127.0.0.1" in places["check"]


def test_status_tells_a_person_about_every_camera(site: Site) -> None:
    said = oddwatch("status", REDIS_URL=site.url).out
    assert "gate: online" in said
    assert "yard: online" in said
    assert "mute: offline" in said
    assert "no answer within 2 s" in said


def test_control_c_drains_and_ends_with_0(site: Site) -> None:
    everyone = family(site.process.pid)
    os.killpg(site.process.pid, signal.SIGINT)
    assert site.process.wait(40) == 0, site.log.read_text()
    wait_for("nothing to be left", lambda: not any(Path(f"/proc/{pid}").exists() for pid in everyone), 10)
    said = site.log.read_text()
    assert "Traceback" not in said
    assert "stopping" in said
    client = redis.Redis.from_url(site.url)
    for camera in ("gate", "yard"):
        account = json.loads(client.hget(f"oddwatch:{{{camera}}}:health", "account"))
        assert account["decoded"] == account["scored"] + sum(account["gaps"].values())
        assert isinstance(max(runs(client, camera).items())[1][-1], End), "not drained"


def test_sigterm_ends_with_0_and_the_embedded_server_with_it(tmp_path: Path, temporary: Path) -> None:
    video, port = film(tmp_path / "street.mp4", 60), rtsp_server.free_port()
    server = rtsp_server.start(video, port, "tcp")
    try:
        config = tmp_path / "c.yaml"
        config.write_text(f"cameras:\n  door: {{source: 'rtsp://127.0.0.1:{port}/stream'}}\n")
        with started(tmp_path / "log", "run", config, TMPDIR=str(temporary)) as process:
            wait_for("a decoder", lambda: members(process.pid, "decoder door"))
            wait_for(
                "a camera", lambda: "door: online" in oddwatch("status", TMPDIR=str(temporary)).out, pause_s=LOOK_S
            )
            everyone = family(process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0, (tmp_path / "log").read_text()
            wait_for("nothing to be left", lambda: not any(Path(f"/proc/{pid}").exists() for pid in everyone), 10)
        assert not list(temporary.glob("oddwatch-redis-*"))
    finally:
        end(server)
