"""A real Cluster and a real Sentinel for the tests, of whatever server binary there is."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from os import getpid
from pathlib import Path

import redis
from places import absent

from pipeline.processes.this_process import die_with_parent


def debian_redis() -> str:
    """Path of Debian's redis-server. Absent: skipped at home, failed in CI."""
    found = shutil.which("redis-server")
    if found is None:
        absent("redis-server is not installed here (apt install redis-server; .ci/run does)")
    return found


def free_port() -> int:
    """One whose cluster bus port (+10000) is valid too."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = int(s.getsockname()[1])
        if port < 55_000:
            return port


@contextmanager
def node(binary: str, port: int, *options: str, config: str | None = None) -> Iterator[redis.Redis]:
    """A server process on a port of this machine."""
    folder = Path(tempfile.mkdtemp(prefix="oddwatch-test-"))
    command = [binary]
    if config is not None:
        (folder / "server.conf").write_text(config)
        command.append(str(folder / "server.conf"))
    fixed = ["--port", str(port), "--dir", str(folder), "--save", "", "--bind", "127.0.0.1", "--protected-mode", "no"]
    process = subprocess.Popen(
        [*command, *fixed, *options], stdout=subprocess.DEVNULL, preexec_fn=partial(die_with_parent, getpid())
    )
    client = redis.Redis(port=port)
    try:
        until(client.ping)
        yield client
    finally:
        client.close()
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def until(ready: object, limit_s: float = 20.0) -> None:
    """Wait for a server to come up."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            if ready():  # type: ignore[operator]
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, "the server did not come up"
        time.sleep(0.02)


@contextmanager
def cluster(binary: str, nodes: int = 3) -> Iterator[str]:
    """URL of a Cluster of `nodes` primaries."""
    with ExitStack() as stack:
        ports = [free_port() for _ in range(nodes)]
        enabled = (
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
        )
        clients = [stack.enter_context(node(binary, port, *enabled)) for port in ports]
        edges = [16384 * n // nodes for n in range(nodes + 1)]
        for n, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", edges[n], edges[n + 1] - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for port in ports[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port)
        for client in clients:
            until(lambda client=client: _knows_all(client, nodes))
        yield f"redis://127.0.0.1:{ports[0]}"


def _knows_all(client: redis.Redis, nodes: int) -> bool:
    said = client.execute_command("CLUSTER", "INFO").decode()
    return "cluster_state:ok" in said and "slots_assigned:16384" in said and f"cluster_size:{nodes}\r" in said


@contextmanager
def sentinel(binary: str) -> Iterator[str]:
    """URL of a Sentinel that watches one master called `eyes`."""
    master_port, port = free_port(), free_port()
    with node(binary, master_port):
        config = f"sentinel monitor eyes 127.0.0.1 {master_port} 1\n"
        with node(binary, port, "--sentinel", config=config):
            yield f"redis+sentinel://127.0.0.1:{port}/eyes"
