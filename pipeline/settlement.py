"""A settlement as one step of Redis: a script, or a watched transaction where pixels travel with it.

A script takes one round trip instead of three, but copies its arguments twice more: dear for megabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from redis.commands.core import CoreCommands

from pipeline.errors import LeaseLost

ALREADY_DONE = ("equal or smaller", "BUSYGROUP")
"""How Redis refuses an entry and a group that it has."""
SCRIPT_BYTES = 128 * 1024
"""Settlements larger than this go as a transaction."""
SCRIPT_ARGUMENTS = 4000
"""So do those with a longer command: Lua's stack is short."""
Command = tuple[Any, ...]

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
  if ms then redis.call('XTRIM', stream, 'MINID', string.format('%.0f-%.0f', ms, seq)) end
end
local function left(stream, oldest)
  local first = ''
  if oldest == '1' then
    local entry = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if entry then first = entry[1] end
  end
  return {redis.call('XLEN', stream), first}
end
"""
TRIM = _TRIM + "trim(KEYS[1]) return left(KEYS[1], ARGV[1])"
LOOK = (
    _TRIM + "if ARGV[2] == '1' and redis.call('EXISTS', KEYS[1]) == 1 then trim(KEYS[1]) end "
    "return left(KEYS[1], ARGV[1])"
)
SETTLE = (
    _TRIM
    + """
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] then return {0, holder or ''} end
local at = 5
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
if ARGV[3] == '1' and redis.call('EXISTS', ARGV[2]) == 1 then trim(ARGV[2]) end
local l = left(ARGV[2], ARGV[4])
return {1, l[1], l[2]}
"""
)


@dataclass(frozen=True, slots=True)
class Look:
    """What to find out about a stream in the same step."""

    stream: str
    trim: bool = False
    """First delete what all its groups have acknowledged."""
    oldest: bool = False
    """Also which entry is the oldest (which copies that entry: only for small ones)."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a stream holds."""

    entries: int = 0
    oldest: tuple[int, int] | None = None
    """Its first id; None if it is empty or was not asked for."""


class Recorder(CoreCommands):
    """Takes the commands of a pipeline down instead of sending them."""

    _event_dispatcher: Any = None

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def execute_command(self, *args: Any, **_: Any) -> Recorder:
        self.commands.append((*str(args[0]).split(), *args[1:]))  # "XGROUP CREATE" is two words
        return self


def settle(client: Any, lease: tuple[str, str], queue: Callable[[Any], None], look: Look | None) -> Left:
    """Send what `queue` writes into a pipeline, if the lease (key, token) is still ours, as one step.

    Raises LeaseLost, redis.ResponseError (OutOfMemoryError: nothing was done) or a connection error.
    """
    recorder = Recorder()
    queue(recorder)
    commands = recorder.commands
    size = sum(len(a) for command in commands for a in command if isinstance(a, bytes | str))
    if size > SCRIPT_BYTES or max(map(len, commands), default=0) > SCRIPT_ARGUMENTS:
        return _transaction(client, lease, commands, look)
    return _script(client, lease, commands, look)


def _script(client: Any, lease: tuple[str, str], commands: list[Command], look: Look | None) -> Left:
    key, token = lease
    wanted = (look.stream, int(look.trim), int(look.oldest)) if look else ("", 0, 0)
    args = [part for command in commands for part in (len(command), *command)]
    ours, *reply = client.execute_command("EVAL", SETTLE, 1, key, token, *wanted, *args)
    if not ours:
        raise LeaseLost(f"{key} is now held by {reply[0].decode() or 'nobody'}")
    return _left(reply)


def _transaction(client: Any, lease: tuple[str, str], commands: list[Command], look: Look | None) -> Left:
    key, token = lease
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
                pipe.execute_command("EVAL", LOOK, 1, look.stream, int(look.oldest), int(look.trim))
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


def trim(client: Any, stream: str, *, oldest: bool = False) -> Left:
    """Delete what every group of the stream has acknowledged. Raises redis.ResponseError if there is no stream."""
    return _left(client.execute_command("EVAL", TRIM, 1, stream, int(oldest)))


def _left(reply: Any) -> Left:
    entries, first = reply
    if not first:
        return Left(int(entries))
    ms, _, seq = first.decode().partition("-")
    return Left(int(entries), (int(ms), int(seq)))
