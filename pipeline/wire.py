"""Commands to Redis and their raw replies, for the few that every snippet needs: a third of `execute_command`'s cost.

What is saved: redis-py's pool asks the socket before each command whether something lies in it unread, and its pipeline
reads each reply into Python's types.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import redis

Command = tuple[Any, ...]


class Wire:
    """Sends commands on connections that stay open. Threads may share it; nothing is ever sent twice."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._is_cluster = isinstance(client, redis.RedisCluster)
        self._free: deque[Any] = deque()
        """Connections of the client's pool that nobody is using."""

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
        try:
            connection = self._free.pop()
        except IndexError:
            connection = self._client.connection_pool.get_connection()
        try:
            connection.send_packed_command([b"".join(map(pack, commands))])
            replies = [_reply(connection) for _ in commands]
        except BaseException:
            connection.disconnect()  # what was not read must not be taken for the reply to another command
            self._client.connection_pool.release(connection)
            raise
        self._free.append(connection)
        return replies


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
