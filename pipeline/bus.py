"""Redis Streams as Oddwatch uses them: read, publish, settle. The only module that speaks to Redis data.

Target: Redis 7.0 semantics. redis-py's own retries are off: repeating XREADGROUP strands entries and repeating
XADD duplicates them; what may be repeated is repeated here, where it is known to be safe (PITFALLS R1, R2).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.codec import encode
from pipeline.errors import BusError, LeaseLost
from pipeline.keys import Keys
from pipeline.messages import Message

BLOCK_MARGIN_S = 10.0
"""The socket timeout must exceed the longest block."""
Id = tuple[int, int]


def parse_id(text: bytes | str) -> Id:
    """`<run_ms>-<seq>` as numbers, which order as Redis orders them."""
    ms, _, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(ms), int(seq or 0)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An entry delivered and not yet acknowledged. `fields` is empty if it was trimmed while pending."""

    id: Id
    fields: Mapping[bytes, bytes]

    @property
    def id_text(self) -> str:
        return f"{self.id[0]}-{self.id[1]}"


@dataclass(frozen=True, slots=True)
class Bound:
    """How many entries a stream may hold, and what happens beyond."""

    entries: int
    drop_oldest: bool
    """True (live): the oldest goes. False (archive): the writer waits until readers have acknowledged."""


def connect(url: str) -> Any:
    """A client for one Redis, a Sentinel's master (`redis+sentinel://host:port,.../master[/db]`) or a Cluster.

    Raises BusError in one line when it cannot be reached or refuses the login; never shows the password.
    """
    options: dict[str, Any] = {
        "socket_timeout": BLOCK_MARGIN_S,
        "socket_connect_timeout": 5.0,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "oddwatch",
    }
    try:
        if url.startswith("redis+sentinel://"):
            return _sentinel_master(url, options)
        client = redis.Redis.from_url(url, **options)
        if client.info("cluster").get("cluster_enabled"):
            client.close()
            return redis.RedisCluster.from_url(url, **options)
        return client
    except (redis.RedisError, OSError, ValueError) as error:
        raise BusError(
            f"Redis at {hide_password(url)}: {reason(error)}; check REDIS_URL and that the server runs"
        ) from error


def _sentinel_master(url: str, options: dict[str, Any]) -> Any:
    hosts, _, rest = url.removeprefix("redis+sentinel://").partition("/")
    login, _, hosts = hosts.rpartition("@")
    user, _, password = login.partition(":")
    name, _, db = rest.partition("/")
    nodes = [(h.rpartition(":")[0], int(h.rpartition(":")[2])) for h in hosts.split(",")]
    sentinel = redis.Sentinel(nodes, socket_timeout=2.0)
    options |= {"username": user or None, "password": password or None, "db": int(db or 0)}
    client = sentinel.master_for(name or "mymaster", **options)
    client.ping()
    return client


def hide_password(url: str) -> str:
    """The URL without user and password."""
    scheme, sep, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}{sep}***@{host}" if at and login else url


def reason(error: BaseException) -> str:
    """One line about a Redis error, without its class name or address noise."""
    return " ".join(str(error).split()) or type(error).__name__


class Bus:
    """Reads, publishes and settles entries. One per process; not thread-safe."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.is_cluster = isinstance(client, redis.RedisCluster)

    # -- groups -------------------------------------------------------------------------------------------------

    def ensure_groups(self, stream: str, groups: Iterable[str]) -> None:
        """Create the consumer groups (and the stream) where absent, from the very first entry (PITFALLS R6)."""
        for group in groups:
            try:
                self.client.xgroup_create(stream, group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    # -- reading ------------------------------------------------------------------------------------------------

    def read_new(self, streams: Mapping[str, str], block_s: float) -> dict[str, Entry]:
        """At most one new entry of each stream (`stream -> group`), waiting up to `block_s` for the first.

        Every reader of a group uses the group's name as consumer name: a lease lets only one read at a time, and
        its successor finds what it left pending under the same name. Raises redis errors as they are.
        """
        found: dict[str, Entry] = {}
        # Streams of one group can be asked for together, except in a Cluster where they lie on several nodes.
        by_group: dict[str, dict[str, str]] = {}
        for stream, group in streams.items():
            by_group.setdefault(stream if self.is_cluster else group, {})[stream] = ">"
        several = len(by_group) > 1
        for wanted in by_group.values():
            group = streams[next(iter(wanted))]
            block = None if several or block_s <= 0 else max(1, int(block_s * 1000))
            for name, entries in self.client.xreadgroup(group, group, wanted, count=1, block=block) or []:
                found[name.decode()] = Entry(parse_id(entries[0][0]), entries[0][1] or {})
        return found

    def read_pending(self, stream: str, group: str) -> Entry | None:
        """The oldest entry delivered before and never acknowledged, or None. Counts as a delivery."""
        reply = self.client.xreadgroup(group, group, {stream: "0"}, count=1)
        if not reply or not reply[0][1]:
            return None
        entry_id, fields = reply[0][1][0]
        return Entry(parse_id(entry_id), fields or {})

    def deliveries(self, stream: str, group: str, entry: Entry) -> int:
        """How often Redis has handed this pending entry out; survives the death of workers."""
        found = self.client.xpending_range(stream, group, entry.id_text, entry.id_text, 1)
        return int(found[0]["times_delivered"]) if found else 0

    def alerts_after(self, last: str, block_s: float = 0.0) -> tuple[str, list[dict]]:
        """Alerts behind the entry `last` ('0' for all, '$' for new ones only), and the entry to go on from."""
        if last == "$":
            ms, seq = self.last_id(self.keys.alerts)
            last = f"{ms}-{seq}"
        block = max(1, int(block_s * 1000)) if block_s > 0 else None
        reply = self.client.xread({self.keys.alerts: last}, count=100, block=block)
        entries = reply[0][1] if reply else []
        return (entries[-1][0].decode() if entries else last), [json.loads(fields[b"alert"]) for _, fields in entries]

    # -- writing ------------------------------------------------------------------------------------------------

    def settle(
        self,
        lease: tuple[str, str],
        *,
        outputs: Iterable[tuple[str, Message, Bound]] = (),
        acks: Iterable[tuple[str, str, str]] = (),
        also: Callable[[Any], None] | None = None,
        watch_length_of: str | None = None,
    ) -> int:
        """Publish outputs, acknowledge inputs and save state in one MULTI, if the lease is still ours.

        `lease` is (key, token), `acks` are (stream, group, id), `also` queues further commands on keys of the same
        camera. Returns the length of `watch_length_of` afterwards (0 if not asked). Repeating it is harmless: Redis
        rejects an id it already has. Raises LeaseLost, redis.OutOfMemoryError (nothing was done) or a connection
        error (it may or may not have been done).
        """
        outputs, acks = list(outputs), list(acks)

        def queue(pipe: Any) -> None:
            for stream, message, bound in outputs:
                limit = {"maxlen": bound.entries, "approximate": False} if bound.drop_oldest else {}
                pipe.xadd(stream, encode(message), id=message.id, **limit)
            for stream, group, entry_id in acks:
                pipe.xack(stream, group, entry_id)
            if also is not None:
                also(pipe)
            if watch_length_of is not None:
                pipe.xlen(watch_length_of)

        replies = None
        while replies is None:
            replies = self._if_ours(lease, queue)
        for reply in replies:
            if isinstance(reply, redis.ResponseError) and "equal or smaller" not in str(reply):
                raise reply
        return int(replies[-1]) if watch_length_of is not None else 0

    def _if_ours(self, lease: tuple[str, str], queue: Callable[[Any], None]) -> list[Any] | None:
        """The replies of one MULTI; None if the lease was touched meanwhile (renewed, or lost: look again)."""
        key, token = lease
        with self.client.pipeline(transaction=True) as pipe:
            pipe.watch(key)
            holder = pipe.get(key)
            if holder is None or holder.decode() != token:
                raise LeaseLost(f"{key} is now held by {'nobody' if holder is None else holder.decode()}")
            pipe.multi()
            queue(pipe)
            try:
                return pipe.execute(raise_on_error=False)
            except redis.WatchError:
                return None

    def trim_acknowledged(self, stream: str) -> int:
        """Delete what every group of the stream has acknowledged; returns the entries left."""
        floor: Id | None = None
        for group in self.client.xinfo_groups(stream):
            # Asked for after the group's last id: what is not pending by now and was delivered by then is settled.
            oldest = self.client.xpending(stream, group["name"])["min"] if group["pending"] else None
            ms, seq = parse_id(group["last-delivered-id"])
            needed = (ms, seq + 1) if oldest is None else parse_id(oldest)
            floor = needed if floor is None else min(floor, needed)
        if floor is not None:
            self.client.xtrim(stream, minid=f"{floor[0]}-{floor[1]}", approximate=False)
        return int(self.client.xlen(stream))

    def last_id(self, stream: str) -> Id:
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
            k.decode(): v.decode(errors="replace") for k, v in entry.fields.items() if len(v) < 500 and k != b"thumb"
        }
        note = {"stage": stage, "camera": camera, "id": entry.id_text, "reason": reason_, "attempts": str(attempts)}
        self.client.xadd(self.keys.dead, note | {"headers": json.dumps(headers)}, maxlen=10_000, approximate=True)

    def now_ms(self) -> int:
        """The server's clock: the one that all hosts share."""
        seconds, micros = self.client.time()
        return int(seconds * 1000 + micros // 1000)
