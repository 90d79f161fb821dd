"""Redis Streams as Oddwatch uses them: read, publish, commit. Target: Redis 7.0 semantics."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from pipeline.bus.codec import AlertEntries, Bound, Encoded, Entry, EntryId, Reader, encode, entry_of_reply, parse_id
from pipeline.bus.commit import Command, Commit, CommitResult, Left, Look, RawClient, commit_all, trim, xadd
from pipeline.bus.connect import connect as connect
from pipeline.bus.connect import hide_password as hide_password
from pipeline.bus.keys import Keys
from stages.messages import Message

OUTAGE = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.RedisClusterException, OSError)
"""Redis is away: what was in flight may or may not have been done."""
BLOCK_GRAIN_S = 0.1
"""An idle Redis notices only ten times a second that a reader has waited long enough."""
LOOK_S = 0.01
"""How often several groups are looked at, times their number, where waiting for news would be dear: it brings what
is new, and brings it again when it is read."""
NODE_LOOK_S = 0.001
"""How often streams of a Cluster are looked at, times their number."""
SEEN_KEPT = 10_000


def _by_group(wanted: Iterable[Reader]) -> dict[str, list[str]]:
    """Group -> its streams."""
    together: dict[str, list[str]] = {}
    for stream, group in wanted:
        together.setdefault(group, []).append(stream)
    return together


def _read_command(group: str, streams: Sequence[str], block_s: float = 0) -> tuple[Any, ...]:
    wait = ("BLOCK", max(1, int(block_s * 1000))) if block_s > 0 else ()
    return "XREADGROUP", "GROUP", group, group, "COUNT", 1, *wait, "STREAMS", *streams, *[">"] * len(streams)


class Bus:
    """Reads, publishes and commits. One per process; one thread may read, others commit."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.raw = RawClient(client)
        self.keys = keys
        self.is_cluster = isinstance(client, redis.RedisCluster)
        self.alert_entries = AlertEntries(keys.alerts)
        self._seen: dict[str, str] = {}
        """Stream -> the last entry that came from it."""

    # -- groups -------------------------------------------------------------------------------------------------

    def ensure_groups(self, stream: str, groups: Iterable[str]) -> None:
        """Create the consumer groups (and the stream) where absent, from the very first entry."""
        for group in groups:
            try:
                self.client.xgroup_create(stream, group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    # -- reading ------------------------------------------------------------------------------------------------

    def read_new(self, wanted: Iterable[Reader], block_s: float) -> dict[Reader, Entry]:
        """At most one new entry for each (stream, group), waiting up to `block_s` for the first.

        Every reader of a group uses the group's name as consumer name: a lease lets only one read at a time, and
        its successor finds what it left pending under the same name. Raises redis errors as they are.
        """
        if self.is_cluster:
            return self._read_on_nodes(list(wanted), block_s)
        together = _by_group(wanted)
        if len(together) == 1 and block_s >= BLOCK_GRAIN_S:
            return self._read_group(*next(iter(together.items())), block_s)
        deadline = time.monotonic() + block_s
        while True:
            found: dict[Reader, Entry] = {}
            for group, of_group in together.items():
                found |= self._read_group(group, of_group, 0)
            left_s = deadline - time.monotonic()
            if found or left_s <= 0:
                return found
            streams = {stream for of_group in together.values() for stream in of_group}
            if left_s < BLOCK_GRAIN_S or any(s.endswith(":snippets") for s in streams):
                time.sleep(min(left_s, LOOK_S * len(together)))
            else:
                self._wait_for_news(streams, left_s)

    def _wait_for_news(self, streams: Iterable[str], block_s: float) -> None:
        """Until one of them has an entry behind the last one seen here. Of several groups Redis waits for one only."""
        behind = {stream: self._seen.get(stream, "$") for stream in streams}
        for name, entries in self.client.xread(behind, count=1, block=max(1, int(block_s * 1000))) or []:
            self._seen[name.decode()] = entries[-1][0].decode()

    def _read_group(self, group: str, streams: Sequence[str], block_s: float) -> dict[Reader, Entry]:
        return self._found(group, self.raw.call(*_read_command(group, streams, block_s)))

    def _found(self, group: str, reply: Any) -> dict[Reader, Entry]:
        found = {(name.decode(), group): entry_of_reply(*got[0]) for name, got in reply or []}
        if len(self._seen) > SEEN_KEPT:
            self._seen.clear()  # of files long done
        self._seen.update((stream, entry.id_text) for (stream, _), entry in found.items())
        return found

    def _read_on_nodes(self, readers: Sequence[Reader], block_s: float) -> dict[Reader, Entry]:
        """The same in a Cluster, where each stream must be asked for by itself: all in one round trip."""
        deadline = time.monotonic() + block_s
        while True:
            with self.client.pipeline(transaction=False) as pipe:
                for stream, group in readers:
                    # With its node, or redis-py asks another for each XREADGROUP which of its words are keys.
                    command = ("XREADGROUP", "GROUP", group, group, "COUNT", 1, "STREAMS", stream, ">")
                    pipe.execute_command(*command, target_nodes=self.client.get_node_from_key(stream))
                replies = pipe.execute()
            found = {
                reader: Entry(parse_id(got[0][0]), got[0][1])
                for reader, reply in zip(readers, replies, strict=True)
                for _, got in reply or []
            }
            left_s = deadline - time.monotonic()
            if found or left_s <= 0:
                return found
            time.sleep(min(left_s, max(LOOK_S, NODE_LOOK_S * len(readers))))

    def read_after(self, positions: Mapping[str, EntryId], block_s: float) -> dict[str, list[Entry]]:
        """Entries behind a position of each stream, waiting up to `block_s` for the first; no group takes part.

        The reader keeps the positions, so an entry whose reply was lost simply comes again.
        """
        requests = [{stream: at} for stream, at in positions.items()] if self.is_cluster else [dict(positions)]
        found: dict[str, list[Entry]] = {}
        deadline = time.monotonic() + block_s
        while not found:
            block = max(1, int(block_s * 1000)) if len(requests) == 1 else None
            for request in requests:
                ids = {stream: f"{ms}-{seq}" for stream, (ms, seq) in request.items()}
                for name, entries in self.client.xread(ids, count=16, block=block) or []:
                    found[name.decode()] = [Entry(parse_id(entry_id), fields) for entry_id, fields in entries]
            if found or time.monotonic() >= deadline:
                break
            time.sleep(LOOK_S * len(requests))
        return found

    def peek_pending(self, stream: str, group: str) -> tuple[Entry, int] | None:
        """The oldest entry delivered and never acknowledged, and how often work on it began; None if there is none.

        The number is kept by Redis as its delivery count, so it survives the death of workers. Looking does not
        raise it: an entry that merely waited for another, or through an outage, is not suspected of anything.
        """
        pending = self.client.xpending_range(stream, group, "-", "+", 1)
        if not pending:
            return None
        entry_id, attempts = pending[0]["message_id"], int(pending[0]["times_delivered"])
        found = self.client.xrange(stream, min=entry_id, max=entry_id)
        return Entry(parse_id(entry_id), found[0][1] if found else {}), attempts

    def oldest_pending(self, readers: Sequence[Reader]) -> list[EntryId | None]:
        """For each (stream, group) the oldest entry delivered and never acknowledged; all in one round trip."""
        found: list[EntryId | None] = []
        for reply in self.raw.call_all([("XPENDING", *reader) for reader in readers]) if readers else []:
            if isinstance(reply, redis.ResponseError):
                raise reply
            # redis-py's Cluster pipeline names the parts, Redis itself only orders them.
            oldest = reply["min"] if isinstance(reply, dict) else reply[1]
            found.append(None if oldest is None else parse_id(oldest))
        return found

    def count_attempt(self, stream: str, group: str, entry: Entry, attempts: int) -> None:
        """Note before the work that this is attempt number `attempts`; the first is noted by the delivery itself."""
        self.client.xclaim(stream, group, group, 0, [entry.id_text], retrycount=attempts, justid=True)

    def alerts_after(self, last: str, block_s: float = 0.0) -> tuple[str, list[dict]]:
        """Alerts behind the entry `last` ('0' for all, '$' for new ones only), and the entry to go on from.

        What is no alert is skipped; `alert_entries` has how many were.
        """
        if last == "$":
            ms, seq = self.last_id(self.keys.alerts)
            last = f"{ms}-{seq}"
        block = max(1, int(block_s * 1000)) if block_s > 0 else None
        reply = self.client.xread({self.keys.alerts: last}, count=100, block=block)
        entries = reply[0][1] if reply else []
        alerts = [alert for entry in entries if (alert := self.alert_entries.read(*entry)) is not None]
        return (entries[-1][0].decode() if entries else last), alerts

    # -- writing ------------------------------------------------------------------------------------------------

    def commit(
        self,
        lease: tuple[str, str],
        *,
        outputs: Iterable[tuple[str, Message | Encoded, Bound]] = (),
        acks: Iterable[tuple[str, str, str]] = (),
        also: Sequence[Command] = (),
        look: Look | None = None,
    ) -> Left:
        """Publish outputs, acknowledge inputs and save state in one step, if the lease is still ours.

        `lease` is (key, token), `acks` are (stream, group, id), `also` are further commands on keys of the same
        camera. Returns what `look` asks for, as it is afterwards. Repeating it is harmless: Redis rejects an id it
        already has. Raises LeaseLost, redis.OutOfMemoryError (nothing was done) or a connection error (it may or may
        not have been done).
        """
        (result,) = self.commit_all([self.make_commit(lease, outputs=outputs, acks=acks, also=also, look=look)])
        if isinstance(result, Left):
            return result
        raise result

    def commit_all(self, commits: Sequence[Commit]) -> list[CommitResult]:
        """Several of them, of different cameras, in as few round trips as can be; raises connection errors only."""
        return commit_all(self.client, self.raw, commits)[0]

    def commit_and_read(
        self, commits: Sequence[Commit], wanted: Iterable[Reader]
    ) -> tuple[list[CommitResult], dict[Reader, Entry]]:
        """The same, and in the same round trip what is new for each (stream, group) once they are carried out.

        What is new is delivered even where a commit fails. Nothing is read in a Cluster, or if a commit is
        too large to be sent with others: `read_new` will find it.
        """
        commands, groups = [], []
        for group, streams in _by_group([] if self.is_cluster else wanted).items():
            commands.append(_read_command(group, streams))
            groups.append(group)
        results, replies = commit_all(self.client, self.raw, commits, commands)
        found: dict[Reader, Entry] = {}
        for group, reply in zip(groups, replies, strict=False):
            if not isinstance(reply, redis.ResponseError):  # it will come again where it is waited for
                found |= self._found(group, reply)
        return results, found

    @staticmethod
    def make_commit(
        lease: tuple[str, str],
        *,
        outputs: Iterable[tuple[str, Message | Encoded, Bound]] = (),
        acks: Iterable[tuple[str, str, str]] = (),
        also: Sequence[Command] = (),
        look: Look | None = None,
    ) -> Commit:
        """What `commit` carries out."""

        commands: list[Command] = []
        for stream, message, bound in outputs:
            limit = ("MAXLEN", bound.entries) if bound.drop_oldest else ()
            entry = message if isinstance(message, Encoded) else Encoded(message.id, encode(message))
            commands.append(xadd(stream, entry.id, entry.fields, *limit))
        commands += [("XACK", *ack) for ack in acks]
        return Commit(lease, [*commands, *also], look)

    def trim_acknowledged(self, stream: str) -> int:
        """Delete what every group of the stream has acknowledged; returns the entries left."""
        return trim(self.raw, stream).entries

    def make_room(self, stream: str, drop_unread: bool) -> bool:
        """Give memory back: what everybody has acknowledged; if there is none and it is allowed, the older half.

        Returns whether anything went.
        """
        before = int(self.client.xlen(stream))
        left = self.trim_acknowledged(stream) if before else 0
        if drop_unread and left == before > 1:
            self.client.xtrim(stream, maxlen=left // 2, approximate=False)
            return True
        return left < before

    def last_id(self, stream: str) -> EntryId:
        """The greatest id the stream ever held, (0, 0) for none."""
        try:
            return parse_id(self.client.xinfo_stream(stream)["last-generated-id"])
        except redis.ResponseError as error:
            if "no such key" in str(error).lower():
                return (0, 0)
            raise

    def bury(self, stage: str, camera: str, entry: Entry, reason_: str, attempts: int) -> None:
        """Note in `oddwatch:dead` what could not be processed: its headers, never its pixels."""
        headers = {
            k.decode(): v.decode(errors="replace")[:500]
            for k, v in entry.fields.items()
            if k != b"thumb" and k + b":array" not in entry.fields
        }
        note = {"stage": stage, "camera": camera, "id": entry.id_text, "reason": reason_, "attempts": str(attempts)}
        self.client.xadd(self.keys.dead, note | {"headers": json.dumps(headers)}, maxlen=10_000, approximate=True)

    def now_ms(self) -> int:
        """The server's clock: the one that all hosts share."""
        seconds, micros = self.client.time()
        return int(seconds * 1000 + micros // 1000)
