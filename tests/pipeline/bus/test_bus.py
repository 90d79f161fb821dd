"""The contract of the bus, on every server it is meant for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import redis
from makers import ROOMY, RUN, features, snippet

from pipeline.bus.codec import Bound, decode, parse_id
from pipeline.bus.commit import Left, Look
from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from stages.errors import BusError, LeaseLost
from stages.messages import Snippet

GROUP = "features:motion"


@pytest.fixture
def stream(bus: Bus) -> str:
    name = bus.keys.stream("cam", "snippets")
    bus.ensure_groups(name, [GROUP])
    return name


@pytest.fixture
def lease(bus: Bus) -> tuple[str, str]:
    key = bus.keys.lease("cam", "features:motion")
    bus.client.set(key, "me", px=60_000)
    return key, "me"


def large(seq: int) -> Snippet:
    """One that is sent in a transaction, not in a script."""
    return replace(snippet(seq), pixels=np.zeros((4, 192, 192, 3), np.uint8))


def put(bus: Bus, stream: str, lease: tuple[str, str], *seqs: int, bound: Bound = ROOMY) -> None:
    for seq in seqs:
        bus.commit(lease, outputs=[(stream, snippet(seq), bound)])


def read(bus: Bus, stream: str, block_s: float = 0.0) -> tuple[int, int] | None:
    found = bus.read_new([(stream, GROUP)], block_s)
    return found[stream, GROUP].id if found else None


def test_a_message_keeps_its_id_and_its_bytes(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    put(bus, stream, lease, 7)
    entry = bus.read_new([(stream, GROUP)], 0)[stream, GROUP]
    assert entry.id_text == f"{RUN}-7"
    assert np.array_equal(decode(entry.fields).pixels, snippet(7).pixels)


@pytest.mark.parametrize("option", ["protocol=3", "db=1&decode_responses=true"])
def test_an_address_cannot_choose_the_form_of_replies(option: str) -> None:
    with pytest.raises(BusError, match=f"leave '{option.split('&')[-1].split('=')[0]}' out of the address") as told:
        connect(f"redis://:pa55@127.0.0.1:1/0?{option}")
    assert "pa55" not in str(told.value)


def test_pixels_are_sent_from_where_they_lie(bus: Bus) -> None:
    """Not copied together first, as redis-py does where hiredis is installed: that takes longer than sending them."""
    pixels, pool = bytes(100_000), bus.client.connection_pool
    connection = pool.get_connection()
    assert any(part is pixels for part in connection.pack_command("SET", "x", pixels))
    pool.release(connection)


def test_a_connection_that_was_closed_while_idle_is_not_trusted(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    if bus.is_cluster:
        pytest.skip("redis-py looks after the connections to a Cluster")
    assert bus.raw.call("PING") == b"PONG"
    bus.client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(redis.ConnectionError):
        bus.raw.call("PING")
    assert bus.raw.call("PING") == b"PONG"
    bus.client.client_kill_filter(_type="normal", skipme=True)
    monkeypatch.setattr("pipeline.bus.commit.FRESH_S", 0.0)
    assert bus.raw.call("PING") == b"PONG"


def test_ensuring_groups_twice_changes_nothing(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    put(bus, stream, lease, 0, 1)
    assert read(bus, stream) == (RUN, 0)
    bus.ensure_groups(stream, [GROUP])
    assert read(bus, stream) == (RUN, 1)


def test_a_replayed_commit_adds_nothing(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    put(bus, stream, lease, 0)
    entry = bus.read_new([(stream, GROUP)], 0)[stream, GROUP]
    out = bus.keys.stream("cam", "features:motion")
    for _ in range(2):
        left = bus.commit(
            lease,
            outputs=[(out, features(0), ROOMY)],
            acks=[(stream, GROUP, entry.id_text)],
            look=Look(out),
        )
        assert left.entries == 1
    assert bus.client.xpending(stream, GROUP)["pending"] == 0


@pytest.mark.parametrize("make", [snippet, large], ids=["script", "transaction"])
@pytest.mark.parametrize("holder", [None, "another"], ids=["it ran out", "another has it"])
def test_who_lost_the_lease_publishes_nothing(
    bus: Bus, stream: str, lease: tuple[str, str], holder: str | None, make: Callable[[int], Snippet]
) -> None:
    bus.client.delete(lease[0]) if holder is None else bus.client.set(lease[0], holder)
    with pytest.raises(LeaseLost, match=holder or "nobody"):
        bus.commit(lease, outputs=[(stream, make(0), ROOMY)])
    assert bus.client.xlen(stream) == 0


@pytest.fixture
def before_exec(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Has something done by others when a transaction has looked at the lease and is about to act."""
    connection_class = bus.client.connection_pool.connection_class
    send = connection_class.send_packed_command

    def arrange(action: Callable[[], None]) -> None:
        def sending(connection: object, packed: object, *args: object, **more: object) -> None:
            if b"EXEC\r\n" in (b"".join(packed) if isinstance(packed, list) else packed):
                action()
            send(connection, packed, *args, **more)

        monkeypatch.setattr(connection_class, "send_packed_command", sending)

    return arrange


@pytest.mark.parametrize("meanwhile", ["taken", "removed", "expired"])
def test_a_lease_lost_between_the_look_and_the_act_publishes_nothing(
    bus: Bus, before_exec: Callable, stream: str, lease: tuple[str, str], meanwhile: str
) -> None:
    def interfere() -> None:
        # On another connection: the transaction's own is busy.
        if meanwhile == "taken":
            bus.client.set(lease[0], "another")
        elif meanwhile == "removed":
            bus.client.delete(lease[0])
        else:  # runs out by itself, without anybody touching it
            bus.client.pexpire(lease[0], 1)
            time.sleep(0.03)

    before_exec(interfere)
    with pytest.raises(LeaseLost):
        bus.commit(lease, outputs=[(stream, large(0), ROOMY)])
    assert bus.client.xlen(stream) == 0


def test_a_lease_that_is_merely_renewed_is_not_lost(
    bus: Bus, before_exec: Callable, stream: str, lease: tuple[str, str]
) -> None:
    looks = []

    def renew_once() -> None:
        looks.append(1)
        if len(looks) == 1:
            bus.client.pexpire(lease[0], 90_000)

    before_exec(renew_once)
    bus.commit(lease, outputs=[(stream, large(0), ROOMY)])
    assert len(looks) == 2
    assert bus.client.xlen(stream) == 1


def test_what_was_not_acknowledged_is_found_again_with_its_count(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    put(bus, stream, lease, 0, 1)
    assert read(bus, stream) == (RUN, 0)
    for _ in range(3):  # looking does not count
        entry, attempts = bus.peek_pending(stream, GROUP)
        assert (entry.id, attempts) == ((RUN, 0), 1)
    bus.count_attempt(stream, GROUP, entry, 2)
    successor = Bus(bus.client, bus.keys)
    assert successor.peek_pending(stream, GROUP)[1] == 2
    bus.client.xack(stream, GROUP, entry.id_text)
    assert bus.peek_pending(stream, GROUP) is None


def test_many_groups_are_asked_at_once_for_what_they_hold(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    quiet = bus.keys.stream("cam", "quiet")
    bus.ensure_groups(quiet, [GROUP])
    put(bus, stream, lease, 3, 4)
    assert bus.oldest_pending([(quiet, GROUP), (stream, GROUP)]) == [None, None]
    assert [read(bus, stream), read(bus, stream)] == [(RUN, 3), (RUN, 4)]
    assert bus.oldest_pending([(quiet, GROUP), (stream, GROUP)]) == [None, (RUN, 3)]
    assert bus.oldest_pending([]) == []
    with pytest.raises(redis.ResponseError, match="NOGROUP"):
        bus.oldest_pending([(quiet, GROUP), (quiet, "nobody")])


def test_an_entry_trimmed_while_pending_comes_back_empty(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    put(bus, stream, lease, 0)
    assert read(bus, stream) == (RUN, 0)
    put(bus, stream, lease, 1, 2, bound=Bound(1, drop_oldest=True))
    entry, _ = bus.peek_pending(stream, GROUP)
    assert entry.id == (RUN, 0)
    assert entry.fields == {}


def test_a_live_stream_drops_the_oldest_and_an_archive_none(bus: Bus, lease: tuple[str, str]) -> None:
    for drop, kept in ((True, [3, 4]), (False, [0, 1, 2, 3, 4])):
        name = bus.keys.stream("cam", f"drop-{drop}")
        put(bus, name, lease, *range(5), bound=Bound(2, drop_oldest=drop))
        assert [parse_id(i)[1] for i, _ in bus.client.xrange(name)] == kept


@pytest.mark.parametrize("make", [snippet, large], ids=["script", "transaction"])
def test_a_commit_looks_at_a_stream_in_the_same_step(
    bus: Bus, stream: str, lease: tuple[str, str], make: Callable[[int], Snippet]
) -> None:
    for seq in range(3):
        left = bus.commit(lease, outputs=[(stream, make(seq), ROOMY)], look=Look(stream, trim=True))
        assert left == Left(seq + 1, (0, 1))
    for seq in range(2):
        bus.read_new([(stream, GROUP)], 0)
        bus.client.xack(stream, GROUP, f"{RUN}-{seq}")
    assert bus.commit(lease, look=Look(stream)) == Left(3, None)
    assert bus.commit(lease, look=Look(stream, trim=True)) == Left(1, (RUN, 2))
    bus.read_new([(stream, GROUP)], 0)
    left = bus.commit(lease, outputs=[(stream, make(3), ROOMY)], look=Look(stream, trim=True))
    assert left == Left(2, (RUN, 2))  # delivered, but not acknowledged
    nothing = bus.keys.stream("cam", "nothing")
    assert bus.commit(lease, look=Look(nothing, trim=True)) == Left(0, None)


def test_only_what_every_group_acknowledged_is_trimmed(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    bus.ensure_groups(stream, ["second"])
    put(bus, stream, lease, 0, 1, 2, 3)
    assert bus.trim_acknowledged(stream) == 4
    for group, acknowledged in ((GROUP, 3), ("second", 2)):
        for seq in range(3):
            bus.read_new([(stream, group)], 0)
            if seq < acknowledged:
                bus.client.xack(stream, group, f"{RUN}-{seq}")
    assert bus.trim_acknowledged(stream) == 2
    assert [parse_id(i)[1] for i, _ in bus.client.xrange(stream)] == [2, 3]


def test_a_blocking_read_returns_at_its_time_and_strands_nothing(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    started = time.monotonic()
    assert read(bus, stream, block_s=0.15) is None
    assert time.monotonic() - started >= 0.14
    assert bus.client.xpending(stream, GROUP)["pending"] == 0
    put(bus, stream, lease, 0)
    assert read(bus, stream, block_s=0.15) == (RUN, 0)


def test_several_groups_are_waited_for_together(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    quiet = bus.keys.stream("cam", "quiet")
    bus.ensure_groups(quiet, ["other"])
    wanted = [(quiet, "other"), (stream, GROUP)]
    started = time.monotonic()
    assert bus.read_new(wanted, 0.1) == {}
    assert time.monotonic() - started >= 0.09  # it waits, it does not spin
    put(bus, stream, lease, 0)
    assert {name: e.id for name, e in bus.read_new(wanted, 5.0).items()} == {(stream, GROUP): (RUN, 0)}


def test_one_new_entry_of_each_stream_at_a_time(bus: Bus, lease: tuple[str, str]) -> None:
    names = [bus.keys.stream(camera, "snippets") for camera in ("a", "b", "c")]
    for name in names:
        bus.ensure_groups(name, [GROUP])
        put(bus, name, lease, 0, 1)
    found = bus.read_new([(name, GROUP) for name in names], 0)
    assert {name: entry.id for (name, _), entry in found.items()} == dict.fromkeys(names, (RUN, 0))


def test_what_is_next_comes_with_a_commit(bus: Bus, lease: tuple[str, str]) -> None:
    streams = [bus.keys.stream(camera, "snippets") for camera in ("cam", "cam2")]
    bus.client.set(other := bus.keys.lease("cam2", "decode"), "me")
    readers = [(s, "features:motion") for s in streams]
    for stream, held in zip(streams, (lease[0], other), strict=True):
        bus.ensure_groups(stream, ["features:motion"])
        for seq in range(3):
            bus.commit((held, "me"), outputs=[(stream, snippet(seq), ROOMY)])
    got = bus.read_new(readers, 0.0)
    bus.client.set(other, "another")  # the second commit is refused; its stream is read all the same
    commits = [
        bus.make_commit((held, "me"), acks=[(*reader, got[reader].id_text)])
        for held, reader in zip((lease[0], other), readers, strict=True)
    ]
    outcomes, found = bus.commit_and_read(commits, readers)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Left", "LeaseLost"]
    if bus.is_cluster:
        assert not found
        found = bus.read_new(readers, 0.0)
    assert {reader: entry.id[1] for reader, entry in found.items()} == dict.fromkeys(readers, 1)
    left = {
        stream: [p["message_id"] for p in bus.client.xpending_range(stream, "features:motion", "-", "+", 9)]
        for stream in streams
    }
    assert [len(ids) for ids in left.values()] == [1, 2]


def test_a_large_commit_brings_nothing_and_loses_nothing(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    reader = (stream, "features:motion")
    bus.ensure_groups(stream, [reader[1]])
    for seq in range(2):
        bus.commit(lease, outputs=[(stream, snippet(seq), ROOMY)])
    first = bus.read_new([reader], 0.0)[reader]
    other = bus.keys.stream("cam", "features:motion")
    commit = bus.make_commit(lease, outputs=[(other, large(0), ROOMY)], acks=[(*reader, first.id_text)])
    assert bus.commit_and_read([commit], [reader])[1] == {}
    assert bus.read_new([reader], 0.0)[reader].id[1] == 1


def test_two_groups_read_the_same_stream(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    bus.ensure_groups(stream, ["second"])
    put(bus, stream, lease, 0)
    both = [(stream, GROUP), (stream, "second")]
    assert {reader: entry.id for reader, entry in bus.read_new(both, 0).items()} == dict.fromkeys(both, (RUN, 0))


def test_a_buried_entry_is_readable_and_small(bus: Bus, stream: str, lease: tuple[str, str]) -> None:
    put(bus, stream, lease, 3)
    bus.bury(GROUP, "cam", bus.read_new([(stream, GROUP)], 0)[stream, GROUP], "it is cursed", 4)
    ((_, note),) = bus.client.xrange(bus.keys.dead)
    assert note[b"reason"] == b"it is cursed"
    assert (note[b"id"], note[b"attempts"]) == (f"{RUN}-3".encode(), b"4")
    assert b'"kind": "snippet"' in note[b"headers"]
    assert b'pixels":' not in note[b"headers"]


class TestTrouble:
    """What needs a server of its own."""

    @pytest.fixture
    def own(self, server: EmbeddedServer) -> EmbeddedServer:
        with EmbeddedServer(binary=server.binary, memory_mb=64) as started:
            yield started

    @pytest.fixture
    def own_bus(self, own: EmbeddedServer) -> Bus:
        client = connect(own.url)
        yield Bus(client, Keys("own"))
        client.close()

    def test_a_full_server_is_back_pressure_with_nothing_done(self, own_bus: Bus) -> None:
        stream, lease = own_bus.keys.stream("cam", "snippets"), (own_bus.keys.lease("cam", "decode"), "me")
        own_bus.client.set(lease[0], lease[1])
        own_bus.ensure_groups(stream, [GROUP])
        put(own_bus, stream, lease, 0)
        entry = own_bus.read_new([(stream, GROUP)], 0)[stream, GROUP]
        own_bus.client.config_set("maxmemory", 1)
        out = own_bus.keys.stream("cam", "features:motion")
        with pytest.raises(redis.OutOfMemoryError):
            own_bus.commit(lease, outputs=[(out, features(0), ROOMY)], acks=[(stream, GROUP, entry.id_text)])
        assert own_bus.client.xpending(stream, GROUP)["pending"] == 1
        own_bus.client.config_set("maxmemory", 0)
        own_bus.commit(lease, outputs=[(out, features(0), ROOMY)], acks=[(stream, GROUP, entry.id_text)])
        assert own_bus.client.xlen(out) == 1

    def test_memory_that_runs_out_right_before_exec_is_back_pressure_too(
        self, own: EmbeddedServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream, lease = own_bus.keys.stream("cam", "snippets"), (own_bus.keys.lease("cam", "decode"), "me")
        own_bus.client.set(lease[0], lease[1])
        other = connect(own.url)
        connection_class = own_bus.client.connection_pool.connection_class
        send = connection_class.send_packed_command

        def in_two_parts(connection: object, packed: object, *args: object, **more: object) -> None:
            whole = b"".join(packed) if isinstance(packed, list) else packed
            at = whole.find(b"*1\r\n$4\r\nEXEC")
            if at < 0:
                return send(connection, packed, *args, **more)
            send(connection, [whole[:at]], *args, **more)
            while all(client["multi"] != "1" for client in other.client_list()):
                pass  # until the XADD is queued
            other.config_set("maxmemory", 1)
            return send(connection, [whole[at:]], *args, **more)

        monkeypatch.setattr(connection_class, "send_packed_command", in_two_parts)
        with pytest.raises(redis.OutOfMemoryError):
            own_bus.commit(lease, outputs=[(stream, large(0), ROOMY)])
        assert own_bus.client.xlen(stream) == 0
        other.close()

    @pytest.mark.parametrize("loss", ["del", "flushall"])
    def test_lost_groups_are_made_again_from_the_first_entry(self, own_bus: Bus, loss: str) -> None:
        stream, lease = own_bus.keys.stream("cam", "snippets"), ("own:lease", "me")
        own_bus.ensure_groups(stream, [GROUP])
        own_bus.client.delete(stream) if loss == "del" else own_bus.client.flushall()
        with pytest.raises(redis.ResponseError, match="NOGROUP"):
            read(own_bus, stream, block_s=5)
        own_bus.client.set(lease[0], lease[1])
        put(own_bus, stream, lease, 0)
        own_bus.ensure_groups(stream, [GROUP])
        assert read(own_bus, stream) == (RUN, 0)

    def test_a_login_without_dangerous_commands_is_enough(self, own: EmbeddedServer, own_bus: Bus) -> None:
        own_bus.client.execute_command("ACL", "SETUSER", "cam", "on", ">p:w@d", "~own:*", "&*", "+@all", "-@dangerous")
        client = connect(f"unix://cam:p%3Aw%40d@{own.url.removeprefix('unix://')}")
        bus = Bus(client, Keys("own"))
        stream, lease = bus.keys.stream("cam", "snippets"), (bus.keys.lease("cam", "x"), "me")
        client.set(lease[0], "me")
        bus.ensure_groups(stream, [GROUP])
        put(bus, stream, lease, 0)
        assert read(bus, stream) == (RUN, 0)
        client.close()
