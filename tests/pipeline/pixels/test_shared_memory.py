"""Pixels through shared memory: never the wrong ones, nothing left behind, and a way round where there is no room."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from makers import RUN, announce, snippet, spec
from toys import FakeClock, turn_until, worker

from pipeline.bus.codec import Bound, decode, encode
from pipeline.bus.embedded import owner_of
from pipeline.bus.streams import Bus
from pipeline.cameras.registry import unregister
from pipeline.ingest.publish import Publisher
from pipeline.leases.lease import Leases
from pipeline.pixels.memory import host_id, namespace_of, own_folder
from pipeline.pixels.reader import FrameReader
from pipeline.pixels.route import PixelRoute
from pipeline.pixels.sweep import Sweeper
from pipeline.pixels.writer import FrameWriter
from stages.messages import Gap, Snippet

URL = "unix:///tmp/some.sock"
NAMESPACE = "0-0123456789ab"
GROUP = "features:motion"
TOKEN = "decoder:1"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Shared memory of the test's own."""
    monkeypatch.setattr("pipeline.workers.loop.POLL_S", 0.004)
    monkeypatch.setattr("pipeline.workers.loop.FULL_POLL_S", 0.002)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as root:
        monkeypatch.setenv("ODDWATCH_SHM", root)
        yield own_folder()


def pattern(seq: int, live: bool = False, size: int = 8) -> Snippet:
    """A snippet all of whose pixels tell its seq."""
    plain = snippet(seq, live=live)
    return replace(plain, pixels=np.full((len(plain.picked), size, size, 3), seq % 251, np.uint8))


def writer(folder: Path, **more: object) -> FrameWriter:
    return FrameWriter(folder / NAMESPACE, host_id(), "cam", **{"allowed": lambda: True} | more)  # type: ignore[arg-type]


def entry(one: Snippet, where: str | None) -> dict[bytes, bytes]:
    """The stream fields as a reader gets them."""
    fields = encode(one, {} if where is None else {"pixels": where})
    return {k.encode(): v if isinstance(v, bytes) else v.encode() for k, v in fields.items()}


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


# -- one slot ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False], ids=["camera", "file"])
def test_pixels_come_as_they_went(folder: Path, live: bool) -> None:
    frames, reader = writer(folder), FrameReader()
    for seq in range(3):
        one = pattern(seq, live)
        fields = entry(one, frames.write(one, 9))
        assert b"pixels" not in fields
        got = reader.message(fields)
        assert isinstance(got, Snippet)
        assert np.array_equal(got.pixels, one.pixels)
        assert got.pixels.flags.writeable == live  # a copy, or a view
        assert reader.is_intact(fields)


def test_pixels_that_are_made_in_the_memory_they_are_read_from_are_not_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, reader = writer(folder), FrameReader()
    frames.release(None, is_empty=bool(frames.write(pattern(0), 2)))  # the first has no frames yet
    monkeypatch.setattr("pipeline.pixels.writer.np.copyto", lambda *_: pytest.fail("copied"))
    for seq in range(1, 6):
        count = seq + 2  # the last snippet of a run is shorter than its room
        pixels = frames.allocate((8, 8, 8, 3))[:count]
        pixels[:] = seq
        times_s = np.arange(count) / 25
        one = replace(pattern(seq), pixels=pixels, picked=np.arange(count, dtype=np.int32), times_s=times_s)
        got = reader.message(entry(one, frames.write(one, 2)))
        assert isinstance(got, Snippet)
        assert len(got.pixels) == count
        assert np.all(got.pixels == seq)
        frames.release((RUN, seq))  # what came before has been read


def test_room_that_was_given_and_not_used_is_given_again_and_read_by_nobody(folder: Path) -> None:
    frames, reader = writer(folder), FrameReader()
    read = entry(pattern(0), frames.write(pattern(0), 1))
    frames.release(None, is_empty=True)
    first, again = frames.allocate((64, 8, 8, 3)), frames.allocate((8, 8, 8, 3))
    assert not np.may_share_memory(first, again)  # that much does not fit into a slot
    assert np.may_share_memory(again, frames.allocate((8, 8, 8, 3)))
    assert isinstance(reader.message(read), Gap)  # what it held before has been acknowledged
    other = entry(pattern(1), frames.write(pattern(1), 2))  # came from elsewhere
    assert not np.may_share_memory(again, got.pixels if isinstance(got := reader.message(other), Snippet) else again)


def test_an_overwritten_camera_slot_is_a_gap_of_the_same_frames(folder: Path) -> None:
    frames, reader = writer(folder), FrameReader()
    kept = [entry(pattern(n, True), frames.write(pattern(n, True), 2)) for n in range(3)]
    found = [reader.message(fields) for fields in kept]
    assert [type(m).__name__ for m in found] == ["Gap", "Snippet", "Snippet"]
    lost = found[0]
    assert isinstance(lost, Gap)
    assert (lost.cause, lost.seq, len(lost.times_s)) == ("behind", 0, 4)
    assert "overwritten" in lost.detail


def test_what_is_overwritten_while_it_is_copied_is_a_gap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, reader = writer(folder), FrameReader()
    fields = entry(pattern(0, True), frames.write(pattern(0, True), 1))

    def fence_with_a_writer() -> None:
        frames.write(pattern(1, True), 1)

    monkeypatch.setattr("pipeline.pixels.reader.fence", fence_with_a_writer)
    assert isinstance(reader.message(fields), Gap)


def test_a_slot_that_is_being_written_is_never_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that dies in the middle of its copy leaves an odd generation, which nothing refers to."""
    frames, reader = writer(folder), FrameReader()
    before = entry(pattern(0), frames.write(pattern(0), 1))
    frames.release(None, is_empty=True)

    def die(to: np.ndarray, _: np.ndarray) -> None:
        to[:1] = 99
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.pixels.writer.np.copyto", die)
    with pytest.raises(KeyboardInterrupt):
        frames.write(pattern(1), 1)
    found = reader.message(before)
    assert isinstance(found, Gap)
    assert found.cause == "failed"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_a_reader_gets_the_right_pixels_or_a_gap(folder: Path, seed: int) -> None:
    """A writer that may overwrite, and a reader that is late at random."""
    rng = random.Random(seed)
    live = bool(seed % 2)
    frames, reader = writer(folder), FrameReader()
    stream: list[tuple[int, dict[bytes, bytes]]] = []
    seen = {"Gap": 0, "Snippet": 0}
    for seq in range(200):
        size = rng.choice([8, 8, 8, 30])  # a camera may change its size
        limit = rng.randint(1, 5)
        if not live:
            limit = len(stream) + 1
        one = pattern(seq, live, size)
        if not live and rng.random() < 0.7:
            room = frames.allocate(one.pixels.shape)
            room[:] = one.pixels
            if rng.random() < 0.8:  # else what was given is left
                one = replace(one, pixels=room)
        stream.append((seq, entry(one, frames.write(one, limit))))
        while live and len(stream) > 5:
            stream.pop(0)
        while stream and rng.random() < 0.6:
            n, fields = stream.pop(0)
            got = reader.message(fields)
            seen[type(got).__name__] += 1
            assert got.seq == n
            if isinstance(got, Snippet):
                assert np.all(got.pixels == n % 251)
        frames.release((stream[0][1] and decode_id(stream[0][1])) if stream else None, is_empty=not stream)
        if rng.random() < 0.1:
            reader.tidy()
    assert seen["Snippet"] > 20
    assert live or not seen["Gap"]


def decode_id(fields: dict[bytes, bytes]) -> tuple[int, int]:
    return int(fields[b"run_ms"]), int(fields[b"seq"])


def test_two_processes_at_full_speed_never_see_a_torn_snippet(folder: Path) -> None:
    """The writer overwrites one slot as fast as it can; whatever the reader accepts is whole."""
    frames = writer(folder)
    first = entry(pattern(0, True, 64), frames.write(pattern(0, True, 64), 1))
    assert b"pixels:shared" in first
    code = f"""
import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
import numpy as np
from test_shared_memory import FrameReader, Snippet, entry, pattern
where = {first[b"pixels:shared"].decode()!r}
reader, good, fields = FrameReader(), 0, entry(pattern(0, True, 64), where)
generation = reader._slot(fields)[0][:8].view(np.uint64)
print("ready", flush=True)
for _ in range(3000):
    fields[b"pixels:shared"] = f"{{where.rpartition(' ')[0]}} {{int(generation[0])}}".encode()
    got = reader.message(fields)
    if isinstance(got, Snippet):
        good += 1
        assert (got.pixels == got.pixels.flat[0]).all(), "torn"
print(good)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": ""}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        seq = 0
        while process.poll() is None:
            seq += 1
            frames.write(pattern(seq, True, 64), 1)
        assert process.returncode == 0
        assert int(process.stdout.read()) > 0
    assert seq > 100


# -- a decoder and its readers ----------------------------------------------------------------------------------


def publisher_for(bus: Bus, folder: Path, *, live: bool = False, stream_mb: float = 1, **more: object) -> Publisher:
    entry_ = announce(bus, spec(live=live, stream_mb=stream_mb))
    bus.client.set(bus.keys.lease("cam", "decode"), TOKEN)
    frames = FrameWriter(
        folder / namespace_of(bus.client, bus.keys, URL), host_id(), "cam", **{"allowed": lambda: True} | more
    )  # type: ignore[arg-type]
    return Publisher(bus, entry_, TOKEN, lambda: None, frames)


def stream_of(bus: Bus, kind: str = "snippets") -> str:
    return bus.keys.stream("cam", kind)


def features_worker(bus: Bus, **more: object):  # type: ignore[no-untyped-def]
    return worker(bus, "features", **more)


def reached(bus: Bus, seq: int) -> bool:
    """Whether features have been made of everything up to `seq`."""
    return bus.last_id(stream_of(bus, GROUP)) == (RUN, seq)


def summed(bus: Bus) -> dict[int, float]:
    """What the toy extractor saw: seq -> sum of all pixels. Gaps are left out."""
    found = [decode(fields) for _, fields in bus.client.xrange(stream_of(bus, GROUP))]
    return {m.seq: float(m.values[1]) for m in found if not isinstance(m, Gap)}  # type: ignore[union-attr]


def gaps(bus: Bus, kind: str = GROUP) -> list[tuple[int, str, str]]:
    found = [decode(fields) for _, fields in bus.client.xrange(stream_of(bus, kind))]
    return [(m.seq, m.cause, m.detail) for m in found if isinstance(m, Gap)]


def test_a_file_that_is_kept_up_with_needs_few_slots(one_bus: Bus, folder: Path) -> None:
    publisher, one = publisher_for(one_bus, folder), features_worker(one_bus)
    for n in range(40):
        publisher.publish(pattern(n), {"next_frame": n})
        turn_until(lambda n=n: reached(one_bus, n), one)
    (ring,) = files(folder)
    assert ring.stat().st_blocks * 512 <= 2 * 4096
    assert summed(one_bus) == {n: float(pattern(n).pixels.sum()) for n in range(40)}


def test_a_file_fills_its_bound_and_no_more(one_bus: Bus, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher, one = publisher_for(one_bus, folder, stream_mb=0.2), features_worker(one_bus)
    monkeypatch.setattr("pipeline.ingest.publish.time", SimpleNamespace(sleep=lambda _: one.turn()))
    for n in range(20):
        publisher.publish(pattern(n, size=60), {"next_frame": n})
    turn_until(lambda: reached(one_bus, 19), one)
    (ring,) = files(folder)
    assert Bound.of(pattern(0, size=60), publisher.spec.stream_mb, drop_oldest=publisher.spec.live).entries == 4
    assert ring.stat().st_blocks * 512 == 4 * 11 * 4096  # 42 KiB each
    assert summed(one_bus) == {n: float(pattern(n, size=60).pixels.sum()) for n in range(20)}


def test_a_late_reader_of_a_camera_reports_gaps_and_never_wrong_pixels(one_bus: Bus, folder: Path) -> None:
    publisher, one = publisher_for(one_bus, folder, live=True, stream_mb=0.2), features_worker(one_bus)
    rng = random.Random(3)
    for n in range(120):
        publisher.publish(pattern(n, True, 60), {"next_frame": n})
        if rng.random() < 0.2:
            one.turn()
    turn_until(lambda: reached(one_bus, 119), one)
    seen = summed(one_bus)
    assert seen == {n: float(pattern(n, size=60).pixels.sum()) for n in seen}
    assert 0 < len(seen) < 120
    assert one_bus.client.xlen(one_bus.keys.dead) == 0


def test_memory_that_a_burst_took_is_given_back(one_bus: Bus, folder: Path) -> None:
    clock, one = FakeClock(), features_worker(one_bus)
    publisher = publisher_for(one_bus, folder, live=True, clock=clock)
    for n in range(10):
        publisher.publish(pattern(n, True), {"next_frame": n})
    (ring,) = files(folder)
    assert ring.stat().st_blocks * 512 == 10 * 4096
    for n in range(10, 40):
        turn_until(lambda n=n: reached(one_bus, n - 1), one)
        clock.sleep(10)
        publisher.publish(pattern(n, True), {"next_frame": n})
    assert ring.stat().st_blocks * 512 <= 2 * 4096
    publisher.publish(pattern(40, True), {"next_frame": 40})
    publisher.publish(pattern(41, True), {"next_frame": 41})
    turn_until(lambda: reached(one_bus, 41), one)
    assert summed(one_bus) == {n: float(pattern(n).pixels.sum()) for n in range(42)}


def test_the_reference_is_readable_and_the_entry_small(one_bus: Bus, folder: Path) -> None:
    publisher_for(one_bus, folder).publish(pattern(0, size=100), {"next_frame": 4})
    ((_, fields),) = one_bus.client.xrange(stream_of(one_bus))
    assert fields[b"pixels:array"] == b"uint8 4,100,100,3"
    assert fields[b"pixels:shared"].decode().split()[1].endswith(".ring")
    assert sum(map(len, fields.values())) < 2000


def test_an_archive_whose_memory_is_gone_is_accounted_as_failed(one_bus: Bus, folder: Path) -> None:
    publisher = publisher_for(one_bus, folder)
    for n in range(2):
        publisher.publish(pattern(n), {"next_frame": n})
    files(folder)[0].unlink()
    publisher.publish(pattern(2), {"next_frame": 12})  # the writer notices, and makes another
    turn_until(lambda: reached(one_bus, 2), features_worker(one_bus))
    assert gaps(one_bus) == [(n, "failed", "its pictures are gone from memory") for n in range(2)]
    assert list(summed(one_bus)) == [2]
    assert one_bus.client.xlen(one_bus.keys.dead) == 0


def test_pixels_that_change_while_a_stage_works_on_them_are_not_scored(one_bus: Bus, folder: Path) -> None:
    """As after a failover to a Redis that has forgotten an acknowledgement."""
    from toys import ToyExtractor

    from stages.stage import StageProcessor

    publisher = publisher_for(one_bus, folder)
    publisher.publish(pattern(0), {"next_frame": 4})

    class Meanwhile(ToyExtractor):
        def process(self, batch):  # type: ignore[no-untyped-def]
            publisher._frames.release(None, is_empty=True)  # type: ignore[union-attr]
            publisher._frames.write(pattern(1), 1)  # type: ignore[union-attr]
            return super().process(batch)

    one = features_worker(one_bus, processor_for=lambda *_: StageProcessor(Meanwhile()))
    turn_until(lambda: reached(one_bus, 0), one)
    assert gaps(one_bus) == [(0, "failed", "its pictures are gone from memory")]


def test_a_stage_that_remembers_pixels_remembers_its_own(one_bus: Bus, folder: Path) -> None:
    from toys import ToyExtractor

    from stages.stage import StageProcessor

    class Remembers(ToyExtractor):
        def process(self, batch):  # type: ignore[no-untyped-def]
            done = super().process(batch)
            for (snippet_, state), (out, _) in zip(batch, done, strict=True):
                out[0].values[0] = state.get("before", np.zeros(1))[-1].flat[0]
                state["kept"] = snippet_.pixels
            return [(out, {"before": snippet_.pixels}) for (snippet_, _), (out, _) in zip(batch, done, strict=True)]

    publisher = publisher_for(one_bus, folder)
    one = features_worker(one_bus, processor_for=lambda *_: StageProcessor(Remembers()))
    for n in range(10):
        publisher.publish(pattern(n + 1), {"next_frame": n})
        turn_until(lambda n=n: reached(one_bus, n + 1), one)
    found = [decode(fields) for _, fields in one_bus.client.xrange(stream_of(one_bus, GROUP))]
    assert [int(m.values[0]) for m in found] == list(range(10))  # type: ignore[union-attr]


# -- no room, other hosts ---------------------------------------------------------------------------------------


def test_without_room_pixels_go_through_redis_and_come_back_when_there_is(
    one_bus: Bus, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room, clock = [2], FakeClock()
    really = os.posix_fallocate

    def fallocate(fd: int, offset: int, size: int) -> None:
        if offset // size >= room[0]:
            raise OSError(28, "No space left on device")
        really(fd, offset, size)

    monkeypatch.setattr("pipeline.pixels.writer.os.posix_fallocate", fallocate)
    publisher = publisher_for(one_bus, folder, clock=clock)
    with caplog.at_level(logging.WARNING):
        for n in range(6):
            publisher.publish(pattern(n), {"next_frame": n})
        clock.sleep(10)
        room[0] = 9
        for n in range(6, 8):
            publisher.publish(pattern(n), {"next_frame": n})
    inline = [b"pixels" in fields for _, fields in one_bus.client.xrange(stream_of(one_bus))]
    assert inline == [False, False, True, True, True, True, False, False]
    (said,) = caplog.records
    assert all(word in said.getMessage() for word in ("cam", "MiB", "--shm-size", "shm_size", "No space left"))
    turn_until(lambda: reached(one_bus, 7), features_worker(one_bus))
    assert summed(one_bus) == {n: float(pattern(n).pixels.sum()) for n in range(8)}


def test_room_is_not_asked_for_while_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    frames = writer(folder, clock=clock)
    frames.write(pattern(0), 9)
    asked: list[int] = []

    def fallocate(*_: int) -> None:
        asked.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.pixels.writer.os.posix_fallocate", fallocate)
    assert frames.write(pattern(1), 9) is None
    for _ in range(50):
        frames.allocate((4, 8, 8, 3))
    assert len(asked) == 1
    clock.sleep(10)
    frames.allocate((4, 8, 8, 3))
    assert len(asked) == 2


@pytest.mark.parametrize("why", ["not mapped", "removed before it was locked"])
def test_a_file_that_cannot_be_used_is_let_go_of(folder: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    def remove(*_: object) -> None:
        for file in files(folder):
            file.unlink()

    clock = FakeClock()
    one = writer(folder, clock=clock)
    with monkeypatch.context() as patch:
        if why == "not mapped":
            patch.setattr("pipeline.pixels.writer.mmap.mmap", refuse)
        else:
            patch.setattr("pipeline.pixels.writer.fcntl.flock", remove)
        before: list[str] = []
        for n in range(3):
            assert one.write(pattern(n), 9) is None
            clock.sleep(10)
            before = before or os.listdir("/proc/self/fd")
        assert files(folder) == []
        assert len(os.listdir("/proc/self/fd")) == len(before)
    where = one.write(pattern(3), 9)
    assert isinstance(FrameReader().message(entry(pattern(3), where)), Snippet)


def test_on_a_real_mount_that_is_too_small(one_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount")
    try:
        monkeypatch.setenv("ODDWATCH_SHM", str(small))
        publisher = publisher_for(one_bus, own_folder())
        for n in range(5):
            publisher.publish(pattern(n, size=60), {"next_frame": n})
        inline = [b"pixels" in fields for _, fields in one_bus.client.xrange(stream_of(one_bus))]
        assert inline == [False, True, True, True, True]  # 43 KiB each
        turn_until(lambda: reached(one_bus, 4), features_worker(one_bus))
        assert summed(one_bus) == {n: float(pattern(n, size=60).pixels.sum()) for n in range(5)}
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_a_folder_that_is_not_ours_is_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert writer(folder).write(pattern(0), 9) is None
    assert "does not belong to this user alone" in caplog.text


@pytest.mark.parametrize("what", ["folder", "link"])
def test_a_folder_that_is_not_ours_is_left_alone(one_bus: Bus, folder: Path, what: str) -> None:
    there = folder if what == "folder" else folder.with_name("elsewhere")
    (there / "1-0123456789ab").mkdir(parents=True)
    if what == "folder":
        os.chown(folder, 12345, 12345) if os.getuid() == 0 else folder.chmod(0o777)
    else:
        folder.symlink_to(there)
    sweeper = Sweeper(one_bus)
    sweeper.sweep()
    sweeper.forget("cam")
    sweeper.leave(server_ends=True)
    assert (there / "1-0123456789ab").exists()


def test_where_there_is_no_shared_memory_it_is_said_and_nobody_claims_it(
    monkeypatch: pytest.MonkeyPatch, one_bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ODDWATCH_SHM", "/nowhere")
    assert host_id() == ""
    route = PixelRoute(one_bus, "auto", URL)
    assert "/nowhere is missing" in caplog.text
    assert not route.is_shared(spec())
    assert route.writer(one_bus, spec(), lambda: True) is None


def test_a_worker_on_another_host_leaves_the_camera_to_one_on_the_decoders(
    one_bus: Bus, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = publisher_for(one_bus, folder)
    publisher.publish(pattern(0), {"next_frame": 4})
    clock = FakeClock()
    stranger = features_worker(one_bus, clock=clock, frames=FrameReader(host="elsewhere"), name="stranger")
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            stranger.turn()
    assert caplog.text.count("frames.transport: inline") == 1
    assert one_bus.last_id(stream_of(one_bus, GROUP)) == (0, 0)
    assert one_bus.client.get(one_bus.keys.lease("cam", GROUP)) is None
    turn_until(lambda: reached(one_bus, 0), features_worker(one_bus), stranger)
    assert summed(one_bus) == {0: float(pattern(0).pixels.sum())}


def test_auto_shares_only_while_all_readers_are_on_this_host(one_bus: Bus) -> None:
    def beat(stage: str, name: str, host: str) -> None:
        leases = Leases(one_bus.client, one_bus.keys, name=name, stage=stage, token=name, lease_s=60, frames=host)
        leases.beat(one_bus.now_ms(), 0)

    camera = spec()
    remote, local = (PixelRoute(one_bus, "auto", url) for url in ("redis://example.org:6379", URL))
    now_s = iter(range(0, 1000, 10))

    def shared(route: PixelRoute) -> bool:
        route.look(next(now_s))
        return route.is_shared(camera)

    assert shared(local)  # nobody there yet: whoever comes to a local Redis is on this host
    assert not shared(remote)
    beat("features", "a", host_id())
    beat("alerting", "far", "elsewhere")  # reads no pixels
    assert shared(local)
    assert shared(remote)
    beat("features", "b", "elsewhere")
    assert not shared(local)
    assert not shared(remote)
    assert PixelRoute(one_bus, "shared", URL).is_shared(camera)
    assert not PixelRoute(one_bus, "inline", URL).is_shared(camera)


# -- nothing left behind ----------------------------------------------------------------------------------------


@pytest.fixture
def dead_publisher(one_bus: Bus, folder: Path) -> Publisher:
    """Has published three snippets; its process then ends as suddenly as may be."""
    publisher = publisher_for(one_bus, folder)
    for n in range(3):
        publisher.publish(pattern(n), {"next_frame": n})
    frames = publisher._frames
    assert frames is not None
    assert frames._ring is not None
    frames._ring.close()
    frames._ring = None
    assert frames._held is not None
    os.close(frames._held)
    return publisher


def test_a_dead_writers_ring_stays_until_its_last_entry_is_acknowledged(
    one_bus: Bus, dead_publisher: Publisher, folder: Path
) -> None:
    sweeper, one = Sweeper(one_bus), features_worker(one_bus)
    for n in range(3):
        for _ in range(3):
            sweeper.sweep()
        assert len(files(folder)) == 1, f"before {n}"
        turn_until(lambda n=n: reached(one_bus, n), one)
    sweeper.sweep()
    assert len(files(folder)) == 1  # one look is not enough
    sweeper.sweep()
    assert files(folder) == []
    one.close()
    sweeper.leave()
    assert not folder.exists()
    assert len(summed(one_bus)) == 3


def test_a_ring_that_only_a_late_entry_refers_to_stays(one_bus: Bus, folder: Path) -> None:
    stream, sweeper = stream_of(one_bus), Sweeper(one_bus)
    one_bus.ensure_groups(stream, [GROUP])
    for _ in range(20):
        one_bus.client.xadd(stream, {"pixels": "here"})
    one_bus.client.xadd(stream, {"pixels:shared": writer(folder).write(pattern(0), 9) or ""})
    (ring,) = files(folder)
    assert sweeper._is_needed(ring)
    one_bus.client.xtrim(stream, maxlen=0)
    assert not sweeper._is_needed(ring)


def test_a_living_writers_ring_stays_though_everything_is_read(one_bus: Bus, folder: Path) -> None:
    publisher, one, sweeper = publisher_for(one_bus, folder), features_worker(one_bus), Sweeper(one_bus)
    publisher.publish(pattern(0), {"next_frame": 4})
    turn_until(lambda: reached(one_bus, 0), one)
    for _ in range(3):
        sweeper.sweep()
        sweeper.leave()
    publisher.publish(pattern(1), {"next_frame": 8})
    turn_until(lambda: reached(one_bus, 1), one)
    assert len(summed(one_bus)) == 2


def test_a_camera_that_is_gone_leaves_no_memory(one_bus: Bus, dead_publisher: Publisher, folder: Path) -> None:
    unregister(one_bus.client, one_bus.keys, "cam")
    sweeper = Sweeper(one_bus)
    sweeper.forget("ca")
    assert len(files(folder)) == 1
    sweeper.forget("cam")
    sweeper.leave()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("owner", "used", "age_s", "goes"),
    [
        pytest.param(2**22 + 1, False, 0, True, id="of an embedded server that has died"),
        pytest.param(os.getpid(), False, 0, False, id="of an embedded server that lives"),
        pytest.param(os.getpid(), False, 10**8, True, id="of one that died long before its number was given again"),
        pytest.param(2**22 + 1, True, 9999, False, id="in use"),
        pytest.param(0, False, 0, False, id="of another server, a moment ago"),
        pytest.param(0, False, 9999, True, id="of another server, long ago"),
    ],
)
def test_a_foreign_namespace_goes_when_nobody_can_need_it(
    one_bus: Bus, folder: Path, owner: int, used: bool, age_s: float, goes: bool
) -> None:
    from pipeline.pixels.memory import use

    other = folder / f"{owner}-0123456789ab"
    held = use(other)
    (other / "cam.0123456789ab.ring").write_bytes(bytes(100))
    then_s = other.stat().st_mtime - age_s
    os.utime(other, (then_s, then_s))
    if not used:
        os.close(held)
    Sweeper(one_bus).sweep()
    assert other.exists() is not goes


def test_a_folder_that_is_swept_away_while_it_is_taken_is_made_again(folder: Path) -> None:
    from pipeline.pixels.memory import use

    os.close(use(folder / NAMESPACE))
    (folder / NAMESPACE).rmdir()
    fd = use(folder / NAMESPACE)
    assert os.fstat(fd).st_ino == (folder / NAMESPACE).stat().st_ino
    os.close(fd)


def test_an_embedded_servers_owner_is_in_its_address() -> None:
    assert owner_of("unix:///tmp/oddwatch-redis-123-abc/redis.sock") == 123
    assert owner_of("unix:///run/redis.sock") == 0
    assert owner_of("redis://oddwatch-redis-123-abc/0") == 0
