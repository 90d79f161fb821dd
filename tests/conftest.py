"""Real servers for the tests: nothing is mocked, nothing is flushed, every test has its own prefix."""

from __future__ import annotations

import os
import random
import shutil
import uuid
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.bus import Bus, connect
from pipeline.keys import Keys
from pipeline.server import EmbeddedServer


def debian_redis() -> str:
    """Path of Debian's redis-server. Absent: skipped at home, failed in CI."""
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("ODDWATCH_CI") == "1":
            pytest.fail("redis-server is not installed here; .ci/run installs it")
        pytest.skip("redis-server is not installed here (apt install redis-server)")
    return found


@pytest.fixture(scope="session", params=["embedded", "redis-server"])
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """Each of the two servers in turn."""
    binary = None if request.param == "embedded" else debian_redis()
    with EmbeddedServer(binary=binary, memory_mb=256) as started:
        yield started


@pytest.fixture(scope="session")
def one_server() -> Iterator[EmbeddedServer]:
    """The embedded one, for tests of what does not depend on the server."""
    with EmbeddedServer(memory_mb=256) as started:
        yield started


def _private(server: EmbeddedServer) -> Iterator[Bus]:
    client = connect(server.url)
    keys = Keys(f"test-{uuid.uuid4().hex[:8]}")
    yield Bus(client, keys)
    for key in client.scan_iter(match=f"{keys.prefix}:*", count=1000):
        client.unlink(key)
    client.close()


@pytest.fixture
def bus(server: EmbeddedServer) -> Iterator[Bus]:
    """A bus with a private prefix, on both servers."""
    yield from _private(server)


@pytest.fixture
def one_bus(one_server: EmbeddedServer) -> Iterator[Bus]:
    """A bus with a private prefix, on the embedded server only."""
    yield from _private(one_server)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    """No test depends on another's use of the global generators."""
    before = random.getstate(), np.random.get_state()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
