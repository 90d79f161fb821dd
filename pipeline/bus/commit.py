"""Commands to Redis: sent raw, and several as one step, a commit: output, acknowledgement and state under a lease.

A commit is a script, or a watched transaction where pixels travel with it. A script takes one round
trip instead of three, but copies its arguments twice more: dear for megabytes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from stages.errors import LeaseLost

Command = tuple[Any, ...]
FRESH_S = 10.0
"""A connection that was idle for longer may have been closed by Redis, or on the way to it."""


class RawClient:
    """Sends commands on connections that stay open. Threads may share it; nothing is ever sent twice.

    A third of `execute_command`'s cost, for what every snippet needs: redis-py's pool asks the socket before each
    command whether something lies in it unread, and its pipeline reads each reply into Python's types.
    """

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


ALREADY_DONE = ("equal or smaller", "BUSYGROUP")
"""How Redis refuses an entry and a group that it has."""
SCRIPT_BYTES = 384 * 1024
"""Commits larger than this go as a transaction: from about there on the copies cost more than round trips."""
SCRIPT_ARGUMENTS = 4000
"""So do those with a longer command: Lua's stack is short."""

_TRIM = """
local function id(text)
  local ms, seq = string.match(text, '(%d+)-(%d+)')
  return tonumber(ms), tonumber(seq)
end
local function trim(stream)
  local ms, seq
  for _, raw in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for i = 1, #raw, 2 do group[raw[i]] = raw[i + 1] end
    local m, s = id(group['last-delivered-id'])
    s = s + 1
    if group['pending'] > 0 then m, s = id(redis.call('XPENDING', stream, group['name'])[2]) end
    if not ms or m < ms or (m == ms and s < seq) then ms, seq = m, s end
  end
  if not ms then return '' end
  local needed = string.format('%.0f-%.0f', ms, seq)
  redis.call('XTRIM', stream, 'MINID', needed)
  return needed
end
local function look(stream, trimming)
  local needed = ''
  if trimming == '1' and redis.call('EXISTS', stream) == 1 then needed = trim(stream) end
  return {redis.call('XLEN', stream), needed}
end
"""
TRIM = _TRIM + "local needed = trim(KEYS[1]) return {redis.call('XLEN', KEYS[1]), needed}"
LOOK = _TRIM + "return look(KEYS[1], ARGV[1])"
COMMIT = (
    _TRIM
    + """
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] then return {0, holder or ''} end
local at = 4
while at <= #ARGV do
  local n = tonumber(ARGV[at])
  local reply = redis.pcall(unpack(ARGV, at + 1, at + n))
  if type(reply) == 'table' and reply.err then
    if not (string.find(reply.err, 'equal or smaller', 1, true) or string.find(reply.err, 'BUSYGROUP', 1, true)) then
      return reply
    end
  end
  at = at + n + 1
end
if ARGV[2] == '' then return {1, 0, ''} end
local l = look(ARGV[2], ARGV[3])
return {1, l[1], l[2]}
"""
)


@dataclass(frozen=True, slots=True)
class Look:
    """What to find out about a stream in the same step."""

    stream: str
    trim: bool = False
    """First delete what all its groups have acknowledged."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a stream holds."""

    entries: int = 0
    needed: tuple[int, int] | None = None
    """Every group has acknowledged all before this id; None if it has no groups, or was not trimmed."""


def hset(key: str, fields: Mapping[str, bytes | str]) -> Command:
    """The command that writes fields of a hash; at least one."""
    return "HSET", key, *[part for field in fields.items() for part in field]


def xadd(stream: str, entry_id: str, fields: Mapping[str, bytes | str], *limit: str | int) -> Command:
    """The command that adds an entry; `limit` as Redis takes it: `MAXLEN`, 100."""
    return "XADD", stream, *limit, entry_id, *[part for field in fields.items() for part in field]


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    """Commands that are carried out as one step if a lease is still held."""

    lease: tuple[str, str]
    """(key, token)."""
    commands: Sequence[Command]
    look: Look | None

    @property
    def is_small(self) -> bool:
        """Whether it goes as a script."""
        size = sum([len(part) for command in self.commands for part in command if type(part) is bytes])
        return size <= SCRIPT_BYTES and max(map(len, self.commands), default=0) <= SCRIPT_ARGUMENTS


CommitResult = Left | LeaseLost | redis.ResponseError
"""What Redis made of a commit: what its `look` asks for, or why nothing was done."""


def commit_all(
    client: Any, raw: RawClient, commits: Sequence[Commit], then: Sequence[Command] = ()
) -> tuple[list[CommitResult], list[Any]]:
    """Carry out commits that are independent of each other; small ones, and `then`, in one round trip.

    Returns a result for each (redis.OutOfMemoryError is back-pressure), and the replies to `then`: none if the
    commits are too large to go with them.
    Raises connection errors: any of them may or may not have been done.
    """
    results: dict[int, CommitResult] = {}
    small = [n for n, commit in enumerate(commits) if commit.is_small]
    if len(small) < len(commits):
        then = ()
    replies = raw.call_all([*(_script(commits[n]) for n in small), *then]) if small else []
    for n, reply in zip(small, replies, strict=False):
        results[n] = reply if isinstance(reply, redis.ResponseError) else _result(commits[n], reply)
    for n, commit in enumerate(commits):
        if n not in results:
            results[n] = _answer(lambda s=commit: _transaction(client, s))  # type: ignore[misc]
    return [results[n] for n in range(len(commits))], replies[len(small) :]


def _answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (LeaseLost, redis.ResponseError) as error:
        return error


def _script(commit: Commit) -> Command:
    (key, token), look = commit.lease, commit.look
    wanted = (look.stream, int(look.trim)) if look else ("", 0)
    args = [part for command in commit.commands for part in (len(command), *command)]
    return "EVAL", COMMIT, 1, key, token, *wanted, *args


def _result(commit: Commit, reply: Any) -> Left | LeaseLost:
    ours, *rest = reply
    if ours:
        return _left(rest)
    return LeaseLost(f"{commit.lease[0]} is now held by {rest[0].decode() or 'nobody'}")


def _transaction(client: Any, commit: Commit) -> Left:
    (key, token), commands, look = commit.lease, commit.commands, commit.look
    while True:
        with client.pipeline(transaction=True) as pipe:
            pipe.watch(key)
            holder = pipe.get(key)
            if holder is None or holder.decode() != token:
                raise LeaseLost(f"{key} is now held by {'nobody' if holder is None else holder.decode()}")
            pipe.multi()
            for command in commands:
                pipe.execute_command(*command)
            if look is not None:
                pipe.execute_command("EVAL", LOOK, 1, look.stream, int(look.trim))
            try:
                replies = pipe.execute(raise_on_error=False)
            except redis.WatchError:
                continue  # renewed, or lost: look again
            except redis.exceptions.ExecAbortError as error:
                # Memory ran out between the last command and EXEC.
                if "OOM" in str(error):
                    raise redis.OutOfMemoryError(str(error)) from error
                raise
        for reply in replies:
            if isinstance(reply, redis.ResponseError) and not any(text in str(reply) for text in ALREADY_DONE):
                raise reply
        return _left(replies[-1]) if look is not None else Left()


def trim(raw: RawClient, stream: str) -> Left:
    """Delete what every group of the stream has acknowledged. Raises redis.ResponseError if there is no stream."""
    return _left(raw.call("EVAL", TRIM, 1, stream))


def _left(reply: Any) -> Left:
    entries, needed = reply
    if not needed:
        return Left(int(entries))
    ms, _, seq = needed.decode().partition("-")
    return Left(int(entries), (int(ms), int(seq)))
