"""Commands to Redis and their raw replies, for the few that every snippet needs: a third of `execute_command`'s cost.

What is saved: redis-py's pool asks the socket before each command whether something lies in it unread, and its pipeline
reads each reply into Python's types.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis

Command = tuple[Any, ...]
FRESH_S = 10.0
"""A connection that was idle for longer may have been closed by Redis, or on the way to it."""


class RawClient:
    """Sends commands on connections that stay open. Threads may share it; nothing is ever sent twice."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._is_cluster = isinstance(client, redis.RedisCluster)
        self._free: deque[tuple[Any, float]] = deque()
        """Connections of the client's pool that nobody is using, and since when."""

    def call(self, *command: Any) -> Any:
        """Like `client.execute_command`, but the reply is as Redis wrote it. In a Cluster it must name its key.

        Raises what that raises.
        """
        if self._is_cluster:
            return self._client.execute_command(*command)
        (reply,) = self.call_all([command])
        if isinstance(reply, redis.ResponseError):
            raise reply
        return reply

    def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands in one round trip; what Redis refused is a redis.ResponseError among the replies."""
        if self._is_cluster:
            with self._client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = pipe.execute(raise_on_error=False)
                return replies
        connection = self._connection()
        try:
            connection.send_packed_command([b"".join(map(pack, commands))])
            replies = [_reply(connection) for _ in commands]
        except BaseException:
            connection.disconnect()  # what was not read must not be taken for the reply to another command
            self._client.connection_pool.release(connection)
            raise
        self._free.append((connection, time.monotonic()))
        return replies

    def _connection(self) -> Any:
        pool = self._client.connection_pool
        try:
            connection, since_s = self._free.pop()
        except IndexError:
            return pool.get_connection()
        if time.monotonic() - since_s < FRESH_S:
            return connection
        pool.release(connection)
        return pool.get_connection()  # the pool looks whether it still is one


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def pack(command: Command) -> bytes:
    """A command as Redis reads it."""
    parts = [b"*%d\r\n" % len(command)]
    for part in command:
        data = part if isinstance(part, bytes) else str(part).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
