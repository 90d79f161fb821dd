"""Two workers never share a name: of two heartbeats under one name only one is seen, and cameras are not shared out."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest
from toys import FakeClock

from pipeline.bus.streams import Bus
from pipeline.leases.lease import Leases, heartbeats, worker_name
from pipeline.processes.settings import WorkerSettings
from pipeline.supervisor.supervisor import Supervisor


def by_command() -> list[str]:
    return [worker_name("features") for _ in range(2)]


def by_supervisor() -> list[str]:
    settings = WorkerSettings(url="unix:///none", prefix="p", lease_s=8, decode_files=1)
    supervisors = [Supervisor(settings, {"features": 2}, clock=FakeClock()) for _ in range(2)]
    return [child.name for one in supervisors for child in one._children]


@pytest.mark.parametrize("names", [by_command, by_supervisor])
@pytest.mark.parametrize("host", ["oddwatch", "localhost"])
def test_two_containers_with_one_host_name_and_pid_are_two(
    names: Callable[[], list[str]], host: str, monkeypatch: pytest.MonkeyPatch, one_bus: Bus
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    found = names()
    assert len(set(found)) == len(found)
    beats = [
        Leases(one_bus.client, one_bus.keys, name=n, stage="features", token=n, lease_s=60).beat(1000, 0) for n in found
    ]
    assert beats[-1].workers == len(found) == len(heartbeats(one_bus.client, one_bus.keys))
    assert all(host in name and "features" in name for name in found)
