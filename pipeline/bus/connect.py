"""Connections to Redis: one server, a Sentinel's master, or a Cluster.

redis-py's own retries are off: repeating XREADGROUP strands entries and repeating XADD duplicates them; what may be
repeated is repeated by the callers, where it is known to be safe.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.connection import PythonRespSerializer
from redis.retry import Retry

from stages.errors import BusError

BLOCK_MARGIN_S = 10.0
"""The socket timeout must exceed the longest block."""
COPIED_BYTES = 6000
"""Longer arguments are not copied; redis-py's own bound."""
FORM_OF_REPLIES = re.compile(r"[?&](protocol|decode_responses|encoding(?:_errors)?)=")
"""What an address may not choose: redis-py would let it win."""
RAW_LOGIN = re.compile(r"(?i)(?!unix:)[a-z+]+://[^/?#]*[/?#].*@")
"""An @ behind what is read as the host."""
SENTINEL = "redis+sentinel://"
SENTINEL_PORT = 26379
SHOWN_OPTIONS = ("db", "protocol", "decode_responses", "encoding", "encoding_errors", "ssl_cert_reqs", "timeout")


def connect(url: str) -> Any:
    """A client for one Redis, a Sentinel's master (`redis+sentinel://host:port,.../master[/db]`) or a Cluster.

    Raises BusError in one line when it cannot be reached or refuses the login; never shows the password.
    """
    if unwanted := FORM_OF_REPLIES.search(url):
        raise BusError(f"{hide_password(url)}: leave '{unwanted[1]}' out of the address; Oddwatch sets it itself")
    if RAW_LOGIN.match(url):  # a part of the password would be looked up as a host, and be in what is said of that
        raise BusError(
            f"{hide_password(url)}: not a Redis address; percent-encode '/', '?' and '#' in its password "
            "(%2F, %3F, %23; and %40 for @)"
        )
    options: dict[str, Any] = {
        "socket_timeout": BLOCK_MARGIN_S,
        "socket_connect_timeout": 5.0,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "oddwatch",
    }
    try:
        if url.startswith(SENTINEL):
            return _sentinel_master(url, options)
        client = redis.Redis.from_url(url, **options)
        _sends_from_where_it_lies(client.connection_pool)
        if _in_cluster(client):
            client.close()
            return redis.RedisCluster.from_url(url, **options, connection_pool_class=_NodePool)
        return client
    except ValueError as error:
        # The text of such an error can hold a part of the password.
        raise BusError(
            f"{hide_password(url)}: not a Redis address; write redis://, rediss://, unix:// or {SENTINEL} "
            "and percent-encode special characters in the password"
        ) from error
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise BusError(
            f"Redis at {hide_password(url)}: {reason(error)}; give user and password in its address, "
            "redis://USER:PASSWORD@HOST:PORT"
        ) from error
    except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
        raise BusError(
            f"Redis at {hide_password(url)}: {reason(error)}; check REDIS_URL and that the server runs"
        ) from error


def _in_cluster(client: Any) -> bool:
    try:
        return bool(client.info("cluster").get("cluster_enabled"))
    except redis.exceptions.NoPermissionError:
        # A login without INFO (`-@dangerous`) is common, and one server is the common case.
        client.ping()
        return False


def _sentinel_master(url: str, options: dict[str, Any]) -> Any:
    nodes, name, db, user, password = parse_sentinel(url)
    sentinel = redis.Sentinel(nodes, socket_timeout=2.0)  # type: ignore[no-untyped-call]
    client = sentinel.master_for(  # type: ignore[no-untyped-call]
        name, **options, username=user, password=password, db=db
    )
    _sends_from_where_it_lies(client.connection_pool)
    client.ping()
    return client


def _sends_from_where_it_lies(pool: redis.ConnectionPool) -> None:
    """Connections of the pool do not copy megabytes of pixels together before they send them.

    With hiredis, which reads replies several times faster, redis-py would also write with it, and that copies.
    """
    pool.connection_kwargs["command_packer"] = PythonRespSerializer(COPIED_BYTES, pool.get_encoder().encode)


class _NodePool(redis.ConnectionPool):
    """Connections to one node of a Cluster."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _sends_from_where_it_lies(self)


def parse_sentinel(url: str) -> tuple[list[tuple[str, int]], str, int, str | None, str | None]:
    """Sentinels, the master's name, its database, user and password. Raises ValueError."""
    hosts, _, rest = url.removeprefix(SENTINEL).partition("/")
    login, _, hosts = hosts.rpartition("@")
    user, _, password = login.partition(":")
    name, _, db = rest.partition("/")
    nodes = []
    for host in hosts.split(","):
        address, sep, port = host.rpartition(":")
        nodes.append((address.strip("[]"), int(port)) if sep else (host, SENTINEL_PORT))
    if not all(address for address, _ in nodes):
        raise ValueError("a Sentinel without a host")
    return nodes, name or "mymaster", int(db or 0), unquote(user) or None, unquote(password) or None


def hide_password(url: str) -> str:
    """The URL without user and password."""
    scheme, sep, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    host = re.sub(r"([?&][^=&]*)=([^&]*)", lambda f: f[0] if f[1][1:] in SHOWN_OPTIONS else f"{f[1]}=***", host)
    return f"{scheme}{sep}***@{host}" if at and login else f"{scheme}{sep}{host}"


def reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
