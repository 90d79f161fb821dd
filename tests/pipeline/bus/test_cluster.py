"""One Redis, a Sentinel's master, or a Cluster: the same promises."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis
from makers import announce, end, publish, scores, snippet, spec
from redis_kinds import cluster, debian_redis, sentinel
from toys import FakeClock, ToyExtractor, ToyModel, turn_until, worker

from pipeline.alerts.forward import forward, forward_all
from pipeline.bus.codec import decode
from pipeline.bus.connect import parse_sentinel
from pipeline.bus.embedded import EmbeddedServer, embedded_binary
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect, hide_password
from pipeline.cameras.registry import Registry, unregister
from pipeline.cameras.spec import CameraSpec
from pipeline.leases.lease import Leases
from pipeline.observe.status import drained, read_status
from pipeline.supervisor.supervisor import free_leases
from pipeline.workers.alerting import AlertingProcessor
from stages.errors import BusError
from stages.messages import End
from stages.stage import Processor, StageProcessor

STAGES = ("features", "temporal", "alerting")


@pytest.fixture(scope="module", params=["embedded", "redis-server"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    binary = embedded_binary() if request.param == "embedded" else debian_redis()
    with cluster(binary) as address:
        yield address


@pytest.fixture
def bus(url: str, request: pytest.FixtureRequest) -> Iterator[Bus]:
    client = connect(url)
    yield Bus(client, Keys(f"t{abs(hash(request.node.name))}"))
    client.close()


def work(entry: CameraSpec, stage: str) -> Processor:
    head, _, name = stage.partition(":")
    if head == "alerting":
        return AlertingProcessor(entry, to_all=False)
    return StageProcessor(ToyExtractor() if head == "features" else ToyModel(name))


def test_pixels_are_sent_from_where_they_lie(bus: Bus) -> None:
    """Not copied together first, as redis-py does where hiredis is installed: that takes longer than sending them."""
    bus.client.ping()
    pools = [node.redis_connection.connection_pool for node in bus.client.get_nodes()]
    pixels = bytes(100_000)
    for pool in pools:
        connection = pool.get_connection()
        assert any(part is pixels for part in connection.pack_command("SET", "x", pixels))
        pool.release(connection)


def ended(bus: Bus, camera: str) -> bool:
    last = bus.client.xrevrange(bus.keys.stream(camera, "scores"), count=1)
    return bool(last) and isinstance(decode(last[0][1]), End)


def keys_of(bus: Bus) -> list[bytes]:
    return sorted(bus.client.scan_iter(match=f"{bus.keys.prefix}:*", count=1000))


def test_files_go_through_all_stages_on_several_nodes(bus: Bus) -> None:
    assert bus.is_cluster
    names = [f"cam{n}" for n in range(6)]
    assert len({bus.client.keyslot(bus.keys.stream(n, "x")) * 3 // 16384 for n in names}) > 1, "all on one node"
    for name in names:
        announce(bus, spec(name))
        stream = bus.keys.stream(name, "snippets")
        publish(bus, stream, *[snippet(n, camera=name) for n in range(3)], end(3, camera=name))
    workers = [worker(bus, stage, processor_for=work) for stage in STAGES]
    turn_until(lambda: all(ended(bus, n) for n in names), *workers)
    for name in names:
        assert [decode(f).seq for _, f in bus.client.xrange(bus.keys.stream(name, "scores"))] == [0, 1, 2, 3]
    status = read_status(bus)
    assert sorted(status["cameras"]) == names
    assert status["memory_used_bytes"] > 0
    assert all(None not in c["held_by"].values() or c["held_by"]["decode"] is None for c in status["cameras"].values())
    assert drained(bus)
    for name in names:
        unregister(bus.client, bus.keys, name)
    for one in workers:
        one.close()
    rest = {k.decode().removeprefix(bus.keys.prefix) for k in keys_of(bus)}
    assert rest <= {":cameras:version"}


def test_each_alert_is_forwarded_once_and_before_its_camera_goes(bus: Bus) -> None:
    announce(bus, spec())
    loud = [scores(n, level=3.0 if n % 30 in range(5, 12) else 0.2) for n in range(90)]
    publish(bus, bus.keys.stream("cam", "scores:novelty"), *loud, end(90))
    clock = FakeClock()
    alerting = worker(bus, "alerting", processor_for=work, clock=clock)
    turn_until(lambda: ended(bus, "cam"), alerting)
    unregister(bus.client, bus.keys, "cam")
    alerts = [json.loads(f[b"alert"]) for _, f in bus.client.xrange(bus.keys.alerts)]
    assert [a["phase"] for a in alerts] == ["open", "close"] * 3
    assert len({(a["id"], a["phase"]) for a in alerts}) == 6
    assert not bus.client.exists(bus.keys.forwarded)


def test_two_forwarders_and_a_repeat_add_nothing(bus: Bus, url: str) -> None:
    own = bus.keys.stream("cam", "alerts")
    for n in range(250):
        bus.client.xadd(own, {"alert": json.dumps({"id": n})}, id=f"1-{n + 1}")
    other = connect(url)
    copied = 0
    while copied < 250:
        copied += forward(bus.client, bus.keys, "cam") + forward(other, bus.keys, "cam")
    assert forward(bus.client, bus.keys, "cam") == 0
    found = [json.loads(f[b"alert"])["id"] for _, f in bus.client.xrange(bus.keys.alerts)]
    assert found == list(range(250))
    other.close()


def test_alerts_of_many_cameras_are_forwarded_together(bus: Bus) -> None:
    names = [f"cam{n}" for n in range(6)]
    assert forward_all(bus.client, bus.keys, []) == forward_all(bus.client, bus.keys, names) == 0
    for name in names[::2]:
        bus.client.xadd(bus.keys.stream(name, "alerts"), {"alert": json.dumps({"id": name})})
    assert forward_all(bus.client, bus.keys, names) == 3
    bus.client.xadd(bus.keys.stream("cam2", "alerts"), {"alert": json.dumps({"id": "again"})})
    assert forward_all(bus.client, bus.keys, names) == 1
    found = [json.loads(f[b"alert"])["id"] for _, f in bus.client.xrange(bus.keys.alerts)]
    assert found == ["cam0", "cam2", "cam4", "again"]


def test_streams_on_several_nodes_are_read_together_without_asking_where_their_keys_are(bus: Bus) -> None:
    def asked() -> int:
        stats = bus.client.info("commandstats", target_nodes=bus.client.PRIMARIES)
        return sum(node.get("cmdstat_command|getkeys", {}).get("calls", 0) for node in stats.values())

    readers = [(bus.keys.stream(f"cam{n}", "x"), "g") for n in range(6)]
    for n, (stream, group) in enumerate(readers):
        bus.ensure_groups(stream, [group])
        bus.client.xadd(stream, {"n": n}, id="1-1")
    bus.client.xadd(readers[1][0], {"n": "next"}, id="1-2")
    before = asked()
    found = bus.read_new(readers, 0)
    assert [found[reader].fields[b"n"] for reader in readers] == [b"%d" % n for n in range(6)]
    assert {reader: entry.id for reader, entry in bus.read_new(readers, 0).items()} == {readers[1]: (1, 2)}
    assert bus.read_new(readers, 0.03) == {}
    assert bus.oldest_pending(readers) == [(1, 1)] * 6
    assert asked() == before


def test_a_dead_workers_leases_are_freed_on_every_node(bus: Bus, url: str) -> None:
    leases = Leases(bus.client, bus.keys, name="w", stage="alerting", token="w:1", lease_s=60)
    names = [f"cam{n}" for n in range(6)]
    assert all(leases.acquire(n, "alerting") for n in names)
    assert leases.renew([(n, "alerting") for n in names]) == []
    other = Leases(bus.client, bus.keys, name="o", stage="alerting", token="o:1", lease_s=60)
    assert other.free([("cam0", "alerting"), ("other", "alerting")]) == [("other", "alerting")]
    free_leases(connect(url), bus.keys, "w", "w:1")
    assert other.free([(n, "alerting") for n in names]) == [(n, "alerting") for n in names]


@pytest.mark.parametrize("kind", ["embedded", "redis-server"])
def test_a_sentinel_leads_to_its_master(kind: str) -> None:
    with sentinel(embedded_binary() if kind == "embedded" else debian_redis()) as address:
        bus = Bus(connect(address), Keys("s"))
        announce(bus, spec())
        registry = Registry(bus.client, bus.keys)
        registry.refresh()
        assert list(registry.specs) == ["cam"]
        publish(bus, bus.keys.stream("cam", "snippets"), snippet(0))
        assert bus.read_new([(bus.keys.stream("cam", "snippets"), "features:motion")], 0.2)
        bus.client.close()


def test_a_sentinel_that_does_not_know_the_master_is_named() -> None:
    with sentinel(embedded_binary()) as address, pytest.raises(BusError, match="nobody"):
        connect(address.replace("/eyes", "/nobody"))


@pytest.mark.parametrize(
    ("address", "means"),
    [
        ("redis+sentinel://a:1,b:2/eyes/3", ([("a", 1), ("b", 2)], "eyes", 3, None, None)),
        ("redis+sentinel://a", ([("a", 26379)], "mymaster", 0, None, None)),
        ("redis+sentinel://u:p%40%2Fw@a:1/m", ([("a", 1)], "m", 0, "u", "p@/w")),
        ("redis+sentinel://:pw@[::1]:1/m", ([("::1", 1)], "m", 0, None, "pw")),
    ],
)
def test_sentinel_addresses(address: str, means: tuple) -> None:
    assert parse_sentinel(address) == means


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://user:se@cret@host:1/0", "redis://***@host:1/0"),
        ("rediss://:secret@host", "rediss://***@host"),
        ("unix:///tmp/x.sock?password=secret&db=1", "unix:///tmp/x.sock?password=***&db=1"),
        ("redis+sentinel://u:secret@a:1,b:2/m", "redis+sentinel://***@a:1,b:2/m"),
    ],
)
def test_no_password_is_ever_shown(address: str, shown: str) -> None:
    assert hide_password(address) == shown


@pytest.mark.parametrize(
    "address",
    [
        "redis://u:secret@127.0.0.1:1/0",
        "redis://u:sec/ret@127.0.0.1:1",
        "http://u:secret@127.0.0.1",
        "redis+sentinel://u:secret@127.0.0.1:x/m",
        "unix:///nowhere/secret-free.sock?password=secret",
        "nonsense",
    ],
)
def test_an_address_that_leads_nowhere_is_one_line_without_the_password(address: str) -> None:
    with pytest.raises(BusError) as caught:
        connect(address)
    text = str(caught.value)
    assert "\n" not in text
    assert "u:sec" not in text
    assert "'sec" not in text
    assert "password=secret" not in text


def test_a_wrong_password_is_said(one_server: EmbeddedServer) -> None:
    admin = connect(one_server.url)
    admin.execute_command("ACL", "SETUSER", "eve", "on", ">right", "~*", "+@all")
    with pytest.raises(BusError, match=r"(?i)invalid username-password|WRONGPASS") as caught:
        connect(one_server.url.replace("unix://", "unix://eve:wrong@"))
    assert "wrong@" not in str(caught.value)
    admin.execute_command("ACL", "DELUSER", "eve")
    admin.close()
    assert isinstance(caught.value.__cause__, redis.RedisError)
