"""Processes that die are replaced; processes whose parent dies go with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from makers import announce, spec

from pipeline.bus.embedded import FOLDER_PREFIX, EmbeddedServer, running_servers
from pipeline.bus.streams import Bus
from pipeline.leases.lease import Heartbeat, heartbeats
from pipeline.processes.settings import WorkerSettings
from pipeline.supervisor.supervisor import LocalWorkers
from stages.errors import BusError

LEASE_S = 60.0
"""So long that only a freed lease can explain that another worker holds it within a test."""


def until(what: Callable[[], object], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def settings(one_server: EmbeddedServer, one_bus: Bus) -> WorkerSettings:
    return WorkerSettings(url=one_server.url, prefix=one_bus.keys.prefix, lease_s=LEASE_S, decode_files=1)


@pytest.fixture
def supervisor(settings: WorkerSettings, one_bus: Bus) -> Iterator[LocalWorkers]:
    """Two alerting workers for four cameras, all of them held."""
    for n in range(4):
        announce(one_bus, spec(f"c{n}"))
    local = LocalWorkers(settings, {"alerting": 2}, [])
    until(lambda: len(holders(one_bus)) == 4 and len(workers(one_bus)) == 2)
    yield local
    local.stop()


def workers(bus: Bus) -> dict[str, Heartbeat]:
    return {h.name: h for h in heartbeats(bus.client, bus.keys)}


def holders(bus: Bus) -> dict[str, str]:
    """Camera -> token."""
    found = {n: bus.client.get(bus.keys.lease(f"c{n}", "alerting")) for n in range(4)}
    return {f"c{n}": token.decode() for n, token in found.items() if token}


def test_a_killed_worker_is_replaced_and_its_cameras_do_not_wait(supervisor: LocalWorkers, one_bus: Bus) -> None:
    victim = max(workers(one_bus).values(), key=lambda h: h.tasks)
    until(lambda: victim.token in holders(one_bus).values())
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: workers(one_bus).get(victim.name, victim).pid != victim.pid)
    until(lambda: len(holders(one_bus)) == 4 and victim.token not in holders(one_bus).values())
    supervisor.check()


def test_all_end_with_the_supervisor(supervisor: LocalWorkers, one_bus: Bus) -> None:
    pids = [h.pid for h in workers(one_bus).values()]
    supervisor.stop()
    assert not any(map(lives, pids))
    assert holders(one_bus) == {}  # given back, not left to run out
    assert workers(one_bus) == {}


def test_workers_do_not_survive_a_killed_supervisor_which_is_replaced(
    supervisor: LocalWorkers, one_bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    before = workers(one_bus)
    parent = parent_of(next(iter(before.values())).pid)
    os.kill(parent, signal.SIGKILL)
    until(lambda: not any(lives(h.pid) for h in before.values()))
    until(lambda: supervisor.check() or "starting another" in caplog.text)
    until(lambda: len(workers(one_bus).keys() - before.keys()) == 2)


def test_what_lies_in_the_current_folder_is_not_run(
    settings: WorkerSettings, one_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("redis", "pydantic", "pipeline"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('run by mistake')")
    monkeypatch.chdir(tmp_path)
    local = LocalWorkers(settings, {"alerting": 1}, [])
    try:
        until(lambda: local.check() or workers(one_bus))
    finally:
        local.stop()


def test_a_worker_that_dies_at_once_again_and_again_is_restarted_with_patience(
    settings: WorkerSettings, one_bus: Bus
) -> None:
    """`decode` with a configuration file that is not there ends with an error each time."""
    broken = settings.model_copy(update={"config_path": Path("/nowhere/config.yaml")})
    code = (
        "import sys, time; from pathlib import Path; from pipeline.processes.settings import WorkerSettings; "
        "from pipeline.supervisor.supervisor import Supervisor; "
        "s = Supervisor(WorkerSettings.model_validate_json(sys.argv[1]), {'decode': 1}); end = time.monotonic() + 2\n"
        "while time.monotonic() < end: s.turn(); time.sleep(0.01)\n"
        "s.stopping = True; s.run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, broken.model_dump_json()], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    said = done.stderr.count("starting another")
    assert 2 <= said < 9
    assert "Traceback" not in done.stderr
    assert "/nowhere/config.yaml: cannot read the configuration" in done.stderr


class TestEmbeddedServer:
    START = (
        "import sys, time; from pipeline.bus.embedded import EmbeddedServer; s = EmbeddedServer(memory_mb=64); "
        "print(s.pid, s.url, flush=True); time.sleep(60)"
    )

    @pytest.fixture
    def parent(self) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen([sys.executable, "-c", self.START], stdout=subprocess.PIPE, text=True)
        yield process
        process.kill()
        process.wait()
        process.stdout.close()

    def test_it_dies_with_its_parent_even_when_that_is_killed(self, parent: subprocess.Popen[str]) -> None:
        pid, url = parent.stdout.readline().split()
        assert lives(int(pid))
        assert url in running_servers()
        parent.kill()
        parent.wait()
        until(lambda: not lives(int(pid)))
        folder = Path(url.removeprefix("unix://")).parent
        assert folder.exists()
        EmbeddedServer(memory_mb=64).stop()  # the next one tidies up
        assert not folder.exists()
        assert url not in running_servers()

    def test_it_leaves_nothing_when_it_is_stopped(self) -> None:
        with EmbeddedServer(memory_mb=64) as server:
            folder = Path(server.url.removeprefix("unix://")).parent
            assert folder.name.startswith(FOLDER_PREFIX)
            assert folder.stat().st_mode & 0o077 == 0  # nobody else's business
        assert not folder.exists()
        assert not lives(server.pid)
        server.stop()

    def test_memory_is_bounded_and_nothing_is_evicted(self, one_bus: Bus) -> None:
        settings = one_bus.client.config_get("maxmemory*")
        assert settings["maxmemory"] == str(256 * 2**20)
        assert settings["maxmemory-policy"] == "noeviction"
        assert one_bus.client.config_get("save")["save"] == ""

    def test_one_that_does_not_start_is_named_and_leaves_nothing(self, tmp_path: Path) -> None:
        broken = tmp_path / "server"
        broken.write_text("#!/bin/sh\nexit 3\n")
        broken.chmod(0o755)
        before = set(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"{FOLDER_PREFIX}{os.getpid()}-*"))
        with pytest.raises(BusError, match="did not start: no output; or set REDIS_URL"):
            EmbeddedServer(binary=str(broken))
        assert set(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"{FOLDER_PREFIX}{os.getpid()}-*")) == before
