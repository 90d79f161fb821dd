"""Real servers for the tests: nothing is mocked, nothing is flushed, every test has its own prefix."""

from __future__ import annotations

import random
import signal
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from private import Private
from redis_kinds import debian_redis

from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect

LONGEST_FIRST = ("tests/e2e/", "tests/pipeline/cli/", "tests/scripts/", "tests/house/")
"""Folders whose tests start processes: at the end of a run on two workers only small ones are left."""


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported that asks where temporary files go."""
    private = Private()
    config.add_cleanup(private.remove)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, f in enumerate(LONGEST_FIRST) if item.nodeid.startswith(f)), 9))


for signum in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(signum) is signal.SIG_IGN:
        # A shell's background job ignores Ctrl-C, one of nohup a hang-up too; so would all commands that tests start.
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)


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
