"""A worker driven turn by turn: order, effectively-once, poison, back-pressure, joins. No threads, no waiting."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Sequence

import numpy as np
import pytest
from makers import FRAMES, PRIOR, RUN, announce, end, features, gap, publish, scores, snippet, spec
from toys import (
    Crash,
    CrashingBus,
    FakeClock,
    ToyExtractor,
    ToyModel,
    everything,
    fed,
    free_all_leases,
    toy_work,
    turn_until,
    worker,
)

from pipeline.bus.codec import Bound, decode, parse_id
from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from pipeline.cameras.registry import register, unregister
from pipeline.cameras.spec import CameraSpec
from pipeline.workers.alerting import AlertingProcessor
from stages.errors import OddwatchError
from stages.messages import End, Fused, Gap, Message, Scores
from stages.stage import Processor, StageProcessor, State

STAGES = ("features", "temporal", "alerting")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workers.loop.POLL_S", 0.004)
    monkeypatch.setattr("pipeline.workers.loop.FULL_POLL_S", 0.002)


def messages_of(bus: Bus, kind: str, camera: str = "cam") -> list[Message]:
    return [decode(fields) for _, fields in bus.client.xrange(bus.keys.stream(camera, kind))]


def ids(found: Sequence[Message]) -> list[tuple[str, int]]:
    return [(type(m).__name__, m.seq) for m in found]


def ended(bus: Bus, kind: str = "scores", camera: str = "cam") -> bool:
    last = bus.client.xrevrange(bus.keys.stream(camera, kind), count=1)
    return bool(last) and isinstance(decode(last[0][1]), End)


def account(bus: Bus, camera: str = "cam") -> dict:
    return json.loads(bus.client.hget(bus.keys.health(camera), "account"))


def seqs(stream_messages: Sequence[Message]) -> list[int]:
    return [m.seq for m in stream_messages]


# -- order and once ---------------------------------------------------------------------------------------------


def test_a_file_goes_through_all_stages_in_order(bus: Bus) -> None:
    entry = fed(bus, spec(), [*map(snippet, range(3)), gap(3), snippet(4), end(5)])
    turn_until(lambda: ended(bus), *(worker(bus, s) for s in STAGES))
    found = messages_of(bus, "scores")
    assert ids(found) == [("Fused", 0), ("Fused", 1), ("Fused", 2), ("Gap", 3), ("Fused", 4), ("End", 5)]
    assert account(bus)["decoded"] == 5 * FRAMES
    assert account(bus)["gaps"] == {"corrupt": FRAMES}
    assert account(bus)["balanced"]
    for kind in entry.all_streams():
        name = bus.keys.stream("cam", kind)
        for group in entry.groups(kind):
            assert group == "score" or bus.client.xpending(name, group)["pending"] == 0


def test_cameras_share_a_batch_and_not_a_state(bus: Bus) -> None:
    batches: list[int] = []

    class Counting(ToyExtractor):
        def process(self, batch):  # type: ignore[no-untyped-def]
            batches.append(len(batch))
            return super().process(batch)

    shared = Counting()
    for name in ("a", "b", "c"):
        fed(bus, spec(name), [snippet(n, camera=name) for n in range(2)] + [end(2, camera=name)])
    one = worker(bus, "features", processor_for=lambda *_: StageProcessor(shared))
    turn_until(lambda: all(ended(bus, "features:motion", n) for n in "abc"), one)
    assert max(batches) == 3
    for name in "abc":
        assert [m.camera for m in messages_of(bus, "features:motion", name)] == [name] * 3


def test_a_kill_at_any_message_to_redis_changes_nothing_of_one_stage(one_bus: Bus, one_server: EmbeddedServer) -> None:
    """Every point of a stateful worker's life, right before and right after Redis was told."""
    bus, feed = one_bus, [*map(features, range(3)), end(3)]

    def lifetime(camera: str, crash_at: int, sent: bool) -> tuple[list, int]:
        entry = announce(bus, spec(camera))
        publish(bus, bus.keys.stream(camera, "features:motion"), *feed)
        doomed = CrashingBus(bus, one_server.url, crash_at, sent)
        out = bus.keys.stream(camera, "scores:novelty")
        try:
            turn_until(lambda: ended(bus, "scores:novelty", camera), worker(doomed, "temporal"))
        except Crash:
            doomed.die()
            free_all_leases(bus)
            turn_until(lambda: ended(bus, "scores:novelty", camera), worker(bus, "temporal"))
        doomed.die()
        found = bus.client.xrange(out)
        assert bus.client.xlen(bus.keys.dead) == 0
        unregister(bus.client, bus.keys, entry.camera)
        free_all_leases(bus)
        return found, doomed.sends

    undisturbed, sends = lifetime("whole", 10**9, False)
    assert [parse_id(i)[1] for i, _ in undisturbed] == [0, 1, 2, 3]
    assert sends > 18
    for crash_at in range(1, sends + 1):
        for sent in (False, True):
            assert lifetime(f"k{crash_at}-{sent}", crash_at, sent)[0] == undisturbed, (crash_at, sent)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
def test_kills_of_all_stages_at_random_change_nothing(one_bus: Bus, one_server: EmbeddedServer, seed: int) -> None:
    rng = random.Random(seed)
    kinds = [snippet, snippet, snippet, gap]
    feed: list[Message] = [rng.choice(kinds)(n) for n in range(rng.randint(3, 8))]
    feed.append(end(len(feed)))
    calm = Bus(one_bus.client, Keys(f"{one_bus.keys.prefix}:calm"))
    entry = spec(models=("novelty", "late"))
    fed(calm, entry, feed)
    turn_until(lambda: ended(calm), *(worker(calm, s) for s in STAGES))
    fed(one_bus, entry, feed)
    buses: list[CrashingBus] = []

    def born(stage: str):  # type: ignore[no-untyped-def]
        crash_at = rng.randint(10, 45) if len(buses) < 15 else 10**9
        buses.append(CrashingBus(one_bus, one_server.url, crash_at, rng.random() < 0.5))
        return worker(buses[-1], stage, name=f"{stage}-{len(buses)}"), buses[-1]

    alive = {stage: born(stage) for stage in STAGES}
    kills = 0
    while not ended(one_bus):
        stage = rng.choice(STAGES)
        try:
            alive[stage][0].turn()
        except Crash:
            kills += 1
            alive[stage][1].die()
            for key in one_bus.client.scan_iter(match=f"{one_bus.keys.prefix}:{{*:lease:{stage}*"):
                one_bus.client.delete(key)
            alive[stage] = born(stage)
    for doomed in buses:
        doomed.die()
    assert kills > 3
    assert one_bus.client.xlen(one_bus.keys.dead) == 0
    assert everything(one_bus, entry) == everything(calm, entry)
    assert account(one_bus) == account(calm)
    totals = {k: v for k, v in one_bus.client.hgetall(one_bus.keys.health("cam")).items() if k.startswith(b"total:")}
    assert totals[b"total:decoded"] == b"%d" % account(calm)["decoded"]


def test_what_a_stalled_holder_was_given_after_its_lease_had_gone_is_found(bus: Bus) -> None:
    """The End message went to a worker that must not commit it, and nothing comes after it to reveal that."""
    entry = announce(bus, spec())
    first = worker(bus, "features")
    first.turn()
    free_all_leases(bus)
    clock = FakeClock()
    second = worker(bus, "features", clock=clock)
    second.turn()
    publish(bus, bus.keys.stream("cam", "snippets"), end(0))
    stream, group = bus.keys.stream("cam", "snippets"), "features:motion"
    assert bus.client.xreadgroup(group, group, {stream: ">"})  # what the stalled one's read does
    turn_until(lambda: ended(bus, "features:motion"), second, turns=200)
    assert entry.camera


def test_a_holder_that_lost_its_lease_lets_the_next_one_do_it(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    fed(bus, spec(), [*map(snippet, range(3)), end(3)])
    clock = FakeClock()
    first = worker(bus, "features", clock=clock)
    turn_until(lambda: bool(messages_of(bus, "features:motion")), first)
    bus.client.set(bus.keys.lease("cam", "features:motion"), "another:1", px=60_000)
    clock.now_s -= 10  # its next renewal is far away: only the fence can stop it
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            first.turn()
    assert seqs(messages_of(bus, "features:motion")) == [0]
    assert "another:1" in caplog.text
    free_all_leases(bus)
    turn_until(lambda: ended(bus, "features:motion"), worker(bus, "features", name="second"))
    assert seqs(messages_of(bus, "features:motion")) == [0, 1, 2, 3]


def test_the_state_of_a_stage_survives_its_worker(bus: Bus) -> None:
    fed(bus, spec("whole"), [snippet(n, camera="whole") for n in range(6)] + [end(6, camera="whole")])
    turn_until(lambda: ended(bus, camera="whole"), *(worker(bus, s) for s in STAGES))
    unregister_cameras = [m.raw for m in messages_of(bus, "scores:novelty", "whole") if isinstance(m, Scores)]
    unregister(bus.client, bus.keys, "whole")
    free_all_leases(bus)
    announce(bus, spec())
    stream = bus.keys.stream("cam", "features:motion")
    for n in range(6):
        publish(bus, stream, features(n))
        one = worker(bus, "temporal", name=f"nr{n}")
        turn_until(lambda n=n: len(messages_of(bus, "scores:novelty")) == n + 1, one)
        one.close()
    again = [m.raw for m in messages_of(bus, "scores:novelty")]
    assert np.array_equal(again, unregister_cameras)


def test_a_group_that_was_lost_and_starts_again_repeats_nothing(bus: Bus) -> None:
    """An operator deleted it; made again from the first entry, it hands out what was committed long ago."""
    announce(bus, spec())
    stream, out = bus.keys.stream("cam", "features:motion"), bus.keys.stream("cam", "scores:novelty")
    publish(bus, stream, *map(features, range(3)))
    one = worker(bus, "temporal")
    turn_until(lambda: bus.client.xlen(out) == 3, one)
    saved = bus.client.hgetall(bus.keys.state("cam", "temporal:novelty"))
    assert saved
    bus.client.xtrim(stream, minid=f"{RUN}-1", approximate=False)
    bus.client.xgroup_destroy(stream, "temporal:novelty")
    turn_until(lambda: bus.client.xinfo_groups(stream) and bus.client.xinfo_groups(stream)[0]["lag"] == 0, one)
    one.turn()
    assert bus.client.hgetall(bus.keys.state("cam", "temporal:novelty")) == saved
    publish(bus, stream, features(3))
    turn_until(lambda: bus.client.xlen(out) == 4, one)
    undisturbed = ToyModel("novelty")
    state: State = {}
    for n in range(4):
        ((expected,), state) = undisturbed.process([(features(n), state)])[0]
    assert np.array_equal(messages_of(bus, "scores:novelty")[3].raw, expected.raw)


def test_another_models_memory_is_not_taken_over(bus: Bus) -> None:
    announce(bus, spec())
    stream = bus.keys.stream("cam", "features:motion")
    publish(bus, stream, features(5))
    turn_until(lambda: len(messages_of(bus, "scores:novelty")) == 1, worker(bus, "temporal"))
    free_all_leases(bus)
    changed = spec()
    changed = changed.model_copy(
        update={"models": {"novelty": changed.models["novelty"].model_copy(update={"sha256": "new"})}}
    )
    register(bus.client, bus.keys, changed)
    publish(bus, stream, features(6))
    turn_until(lambda: len(messages_of(bus, "scores:novelty")) == 2, worker(bus, "temporal"))
    alone = ToyModel("novelty").process([(features(6), {})])[0][0][0]
    assert np.array_equal(messages_of(bus, "scores:novelty")[1].raw, alone.raw)


# -- poison -----------------------------------------------------------------------------------------------------


class Poisoned(ToyExtractor):
    """Cannot bear one seq of one camera."""

    def __init__(self, seq: int, camera: str = "cam") -> None:
        self.seq, self.camera = seq, camera
        self.tried = 0

    def process(self, batch):  # type: ignore[no-untyped-def]
        for item, _ in batch:
            if (item.seq, item.camera) == (self.seq, self.camera):
                self.tried += len(batch) == 1
                raise RuntimeError("cannot bear it")
        return super().process(batch)


def test_poison_is_retried_then_buried_and_leaves_a_gap(bus: Bus) -> None:
    fed(bus, spec(), [*map(snippet, range(3)), end(3)])
    stage = Poisoned(1)
    poisoned = worker(bus, "features", processor_for=lambda *_: StageProcessor(stage))
    turn_until(lambda: ended(bus), poisoned, worker(bus, "temporal"), worker(bus, "alerting"))
    found = messages_of(bus, "scores")
    assert ids(found) == [("Fused", 0), ("Gap", 1), ("Fused", 2), ("End", 3)]
    assert found[1].cause == "failed"
    ((_, note),) = bus.client.xrange(bus.keys.dead)
    assert note[b"stage"] == b"features:motion"
    assert note[b"id"] == f"{RUN}-1".encode()
    assert b"cannot bear it" in note[b"reason"]
    assert note[b"attempts"] == b"3"
    assert account(bus)["balanced"]
    assert account(bus)["gaps"] == {"failed": FRAMES}


def test_poison_does_not_hold_up_its_neighbours(bus: Bus) -> None:
    for name in ("bad", "good"):
        fed(bus, spec(name), [snippet(n, camera=name) for n in range(4)] + [end(4, camera=name)])
    clock = FakeClock()
    one = worker(bus, "features", clock=clock, processor_for=lambda *_: StageProcessor(Poisoned(0, "bad")))
    turn_until(lambda: ended(bus, "features:motion", "good"), one)
    assert not messages_of(bus, "features:motion", "bad")  # still being retried
    turn_until(lambda: ended(bus, "features:motion", "bad"), one)
    assert ids(messages_of(bus, "features:motion", "bad"))[0] == ("Gap", 0)


def test_a_message_that_kills_the_process_is_buried_by_redis_count(bus: Bus, server: EmbeddedServer) -> None:
    fed(bus, spec(), [*map(snippet, range(3)), end(3)])

    class Deadly(ToyExtractor):
        def process(self, batch):  # type: ignore[no-untyped-def]
            if any(item.seq == 1 for item, _ in batch):
                os._exit(9)
            return super().process(batch)

    def live(name: str) -> None:
        own = Bus(connect(server.url), bus.keys)
        doomed = worker(own, "features", processor_for=lambda *_: StageProcessor(Deadly()), name=name)
        turn_until(lambda: ended(own, "features:motion"), doomed)

    deaths = 0
    while not ended(bus, "features:motion"):
        pid = os.fork()
        if pid == 0:  # a worker in a process of its own, with a connection of its own
            code = 1
            try:
                live(f"child-{deaths}")
                code = 0
            finally:
                os._exit(code)
        deaths += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        free_all_leases(bus)
        assert deaths < 10
    assert deaths == spec().max_deliveries
    assert ids(messages_of(bus, "features:motion")) == [("Features", 0), ("Gap", 1), ("Features", 2), ("End", 3)]
    ((_, note),) = bus.client.xrange(bus.keys.dead)
    assert (note[b"reason"], note[b"attempts"]) == (b"the worker died on it", b"3")


def test_a_stage_that_cannot_bear_its_own_memory_starts_afresh(bus: Bus) -> None:
    fed(bus, spec(), [*map(snippet, range(2)), gap(2), snippet(3), end(4)])

    class Forgetful(ToyExtractor):
        def process(self, batch):  # type: ignore[no-untyped-def]
            return [(out, {"x": np.zeros(1)}) for out, _ in super().process(batch)]

        def finish(self, state: State):  # type: ignore[no-untyped-def]
            raise RuntimeError("my memory is broken")

    one = worker(bus, "features", processor_for=lambda *_: StageProcessor(Forgetful()))
    turn_until(lambda: ended(bus, "features:motion"), one)
    assert ids(messages_of(bus, "features:motion"))[2:] == [("Gap", 2), ("Features", 3), ("End", 4)]


def test_waiting_for_a_slow_model_is_not_held_against_a_message(bus: Bus) -> None:
    """Workers come and go while it waits for its partner; it was never tried, so it is not poison."""
    announce(bus, spec(models=("novelty", "slow")))
    publish(bus, bus.keys.stream("cam", "scores:novelty"), scores(0))
    for n in range(6):
        one = worker(bus, "alerting", name=f"nr{n}")
        for _ in range(3):
            one.turn()
        one.close()
    publish(bus, bus.keys.stream("cam", "scores:slow"), scores(0, model="slow"))
    turn_until(lambda: bool(messages_of(bus, "scores")), worker(bus, "alerting"))
    assert isinstance(messages_of(bus, "scores")[0], Fused)
    assert bus.client.xlen(bus.keys.dead) == 0


def test_what_is_no_message_is_buried_and_the_rest_goes_on(bus: Bus) -> None:
    announce(bus, spec())
    stream = bus.keys.stream("cam", "snippets")
    bus.client.xadd(stream, {"schema": "99", "kind": "snippet"}, id=f"{RUN}-0")
    publish(bus, stream, snippet(1), end(2))
    turn_until(lambda: ended(bus, "features:motion"), worker(bus, "features"))
    assert seqs(messages_of(bus, "features:motion")) == [1, 2]
    ((_, note),) = bus.client.xrange(bus.keys.dead)
    assert b"workers of different versions?" in note[b"reason"]


# -- bounds -----------------------------------------------------------------------------------------------------


def test_an_archive_waits_for_its_readers_and_drops_nothing(bus: Bus) -> None:
    entry = spec(stream_mb=0.004)  # the least bound: 4 entries
    fed(bus, entry, [*map(snippet, range(20)), end(20)])
    first = worker(bus, "features")
    out = bus.keys.stream("cam", "features:motion")
    for _ in range(40):
        first.turn()
    bound = Bound.of(features(0), entry.stream_mb, drop_oldest=entry.live).entries
    assert bus.client.xlen(out) == bound
    read: list[int] = []
    second = worker(bus, "temporal")
    for _ in range(400):
        first.turn()
        second.turn()
        assert bus.client.xlen(out) <= bound
        read = seqs(messages_of(bus, "scores:novelty"))[-1:] or read
        for _, _fields in bus.client.xrange(bus.keys.stream("cam", "scores:novelty")):
            pass
        third_group = bus.client.xreadgroup("alerting", "alerting", {bus.keys.stream("cam", "scores:novelty"): ">"})
        for _, got in third_group or []:
            bus.client.xack(bus.keys.stream("cam", "scores:novelty"), "alerting", *[i for i, _ in got])
        if read == [20]:
            break
    assert read == [20]
    assert bus.client.xinfo_groups(out)[0]["entries-read"] == 21  # every one, none skipped


def test_what_a_camera_loses_downstream_is_accounted_as_behind(bus: Bus) -> None:
    entry = announce(bus, spec(live=True, stream_mb=0.004))
    bound = Bound.of(snippet(0), entry.stream_mb, drop_oldest=entry.live)
    assert bound.drop_oldest
    publish(
        bus, bus.keys.stream("cam", "snippets"), *[snippet(n, live=True) for n in range(bound.entries + 6)], bound=bound
    )
    publish(bus, bus.keys.stream("cam", "snippets"), end(bound.entries + 6, live=True), bound=bound)
    turn_until(lambda: ended(bus), *(worker(bus, s) for s in STAGES))
    found = account(bus)
    assert found["gaps"] == {"behind": 7 * FRAMES}  # the End took the place of one more
    assert found["decoded"] == (bound.entries + 6) * FRAMES
    assert found["balanced"]


# -- runs, look-ahead, joins --------------------------------------------------------------------------------------


def test_a_new_run_without_an_end_closes_the_one_before(bus: Bus) -> None:
    feed = [snippet(0, live=True), snippet(1, live=True)]
    later = RUN + 60_000
    feed += [snippet(n, run_ms=later, live=True, prior=PRIOR) for n in range(2)]
    fed(bus, spec(live=True), feed)
    turn_until(lambda: len(messages_of(bus, "scores")) >= 4, *(worker(bus, s) for s in STAGES))
    models = [m for m in messages_of(bus, "scores:novelty") if isinstance(m, Scores)]
    fresh = ToyModel("novelty").process([(features(0), {})])[0][0][0].raw
    assert np.array_equal(models[2].raw, fresh)  # no memory of the run before
    (closed,) = [json.loads(r) for r in bus.client.lrange(f"{bus.keys.health('cam')}:runs", 0, -1)]
    assert (closed["run_ms"], closed["status"], closed["balanced"]) == (RUN, "ended", True)


def test_a_model_that_looks_ahead_speaks_late_and_completely(bus: Bus) -> None:
    fed(bus, spec(models=("late",)), [*map(snippet, range(5)), gap(5), *map(snippet, (6, 7)), end(8)])
    turn_until(lambda: ended(bus), *(worker(bus, s) for s in STAGES))
    assert seqs(messages_of(bus, "scores:late")) == list(range(9))
    assert account(bus)["gaps"] == {"corrupt": FRAMES}
    assert account(bus)["scored"] == 7 * FRAMES


def test_an_archive_waits_for_every_model(bus: Bus) -> None:
    announce(bus, spec(models=("novelty", "slow")))
    clock = FakeClock()
    one = worker(bus, "alerting", clock=clock)
    publish(bus, bus.keys.stream("cam", "scores:novelty"), scores(0), scores(1))
    for _ in range(20):
        one.turn()
        clock.sleep(10)
    assert messages_of(bus, "scores") == []
    publish(bus, bus.keys.stream("cam", "scores:slow"), scores(0, model="slow"))
    turn_until(lambda: bool(messages_of(bus, "scores")), one)
    assert set(messages_of(bus, "scores")[0].raw) == {"novelty", "slow"}


def test_a_camera_waits_for_a_model_only_so_long(bus: Bus) -> None:
    announce(bus, spec(live=True, models=("novelty", "slow"), join_wait_s=5.0))
    clock = FakeClock()
    one = worker(bus, "alerting", clock=clock)
    publish(bus, bus.keys.stream("cam", "scores:novelty"), scores(0, live=True))
    for _ in range(10):
        one.turn()
    assert messages_of(bus, "scores") == []
    clock.sleep(5.0)
    turn_until(lambda: bool(messages_of(bus, "scores")), one)
    assert set(messages_of(bus, "scores")[0].raw) == {"novelty"}
    # What comes too late is acknowledged and changes nothing.
    slow = bus.keys.stream("cam", "scores:slow")
    publish(bus, slow, scores(0, model="slow", live=True))
    turn_until(lambda: bus.client.xinfo_groups(slow)[0]["lag"] == 0, one)
    one.turn()
    assert bus.client.xpending(slow, "alerting")["pending"] == 0
    assert len(messages_of(bus, "scores")) == 1


def test_a_model_that_does_not_have_an_id_is_not_waited_for(bus: Bus) -> None:
    announce(bus, spec(models=("novelty", "other")))
    publish(bus, bus.keys.stream("cam", "scores:novelty"), scores(0), scores(1), end(2))
    publish(bus, bus.keys.stream("cam", "scores:other"), scores(1, model="other"), end(2))
    turn_until(lambda: ended(bus), worker(bus, "alerting"))
    assert [set(m.raw) for m in messages_of(bus, "scores")[:2]] == [{"novelty"}, {"novelty", "other"}]


def test_alerts_are_written_once_with_their_picture(bus: Bus) -> None:
    announce(bus, spec())
    loud = [scores(n, level=3.0 if 5 <= n < 12 else 0.2, thumb=b"jpeg") for n in range(40)]
    publish(bus, bus.keys.stream("cam", "scores:novelty"), *loud, end(40))
    turn_until(lambda: ended(bus), worker(bus, "alerting"))
    own = bus.client.xrange(bus.keys.stream("cam", "alerts"))
    assert [f[b"phase"] for _, f in own] == [b"open", b"close"]
    assert [f for _, f in bus.client.xrange(bus.keys.alerts)] == [f for _, f in own]
    alert = json.loads(own[-1][1][b"alert"])
    assert bus.client.get(alert["snapshot"]) == b"jpeg"
    assert 0 < bus.client.ttl(alert["snapshot"]) <= 86_400


# -- trouble ----------------------------------------------------------------------------------------------------


def test_a_stage_that_cannot_be_built_is_said_and_tried_again(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    fed(bus, spec(), [snippet(0), end(1)])
    built: list[str] = []

    def processor_for(entry: CameraSpec, stage: str) -> Processor:
        built.append(stage)
        if len(built) < 3:
            raise OddwatchError("weights are not there; run 'oddwatch weights install'")
        return toy_work(entry, stage)

    clock = FakeClock()
    one = worker(bus, "features", clock=clock, processor_for=processor_for)
    for _ in range(30):
        one.turn()
    assert len(built) == 1  # not in a hot loop
    (beat,) = bus.client.hvals(bus.keys.workers)
    assert "weights are not there" in json.loads(beat)["error"]
    for _ in range(3):
        clock.sleep(6)
        one.turn()
    turn_until(lambda: ended(bus, "features:motion"), one)
    assert caplog.text.count("weights are not there") == 1
    clock.sleep(60)
    one.turn()
    (beat,) = bus.client.hvals(bus.keys.workers)
    assert json.loads(beat)["error"] == ""


def test_a_camera_that_is_removed_leaves_no_key_behind(bus: Bus) -> None:
    fed(bus, spec(), [*map(snippet, range(3))])
    workers = [worker(bus, s) for s in STAGES]
    turn_until(lambda: len(messages_of(bus, "scores")) == 2, *workers)
    unregister(bus.client, bus.keys, "cam")
    for _ in range(30):
        for one in workers:
            one.turn()
    assert list(bus.client.scan_iter(match=f"{bus.keys.prefix}:{{cam}}*")) == []


def test_a_server_that_comes_back_empty_is_worked_on_again(server: EmbeddedServer) -> None:
    with EmbeddedServer(binary=server.binary, memory_mb=64) as own:
        bus = Bus(connect(own.url), Keys("own"))
        fed(bus, spec(), [*map(snippet, range(3)), end(3)])
        workers = [worker(bus, s) for s in STAGES]
        turn_until(lambda: bool(messages_of(bus, "scores")), *workers)
        bus.client.flushall()
        for _ in range(5):
            for one in workers:
                one.turn()
        again = RUN + 5000
        fed(bus, spec(run_ms=again), [snippet(0, run_ms=again), end(1, run_ms=again)])
        turn_until(lambda: ended(bus), *workers)
        assert ids(messages_of(bus, "scores")) == [("Fused", 0), ("End", 1)]
        bus.client.close()


@pytest.mark.parametrize("how", ["readonly", "forbidden", "away"])
def test_a_redis_that_refuses_is_waited_for_quietly(
    server: EmbeddedServer, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedServer(binary=server.binary, memory_mb=64) as own:
        admin = connect(own.url)
        admin.execute_command("ACL", "SETUSER", "w", "on", ">w", "~*", "+@all")
        bus = Bus(connect(own.url.replace("unix://", "unix://w:w@")), Keys("own"))
        fed(bus, spec(), [*map(snippet, range(2)), end(2)])
        clock = FakeClock()
        one = worker(bus, "features", clock=clock)
        one.turn()
        if how == "readonly":
            admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        elif how == "forbidden":
            admin.execute_command("ACL", "SETUSER", "w", "-xreadgroup")
        else:
            admin.execute_command("CLIENT", "KILL", "USER", "w", "SKIPME", "yes")
        with caplog.at_level(logging.INFO):
            before_s = clock.now_s
            for _ in range(12):
                one.turn()
            assert len(caplog.records) <= 3
            if how != "away":
                assert clock.now_s - before_s > 12  # with back-off
        admin.execute_command("REPLICAOF", "NO", "ONE")
        admin.execute_command("ACL", "SETUSER", "w", "+xreadgroup")
        turn_until(lambda: ended(bus, "features:motion"), one)
        assert seqs(messages_of(bus, "features:motion")) == [0, 1, 2]
        bus.client.close()
        admin.close()


def test_alert_work_refuses_what_is_no_score(one_bus: Bus) -> None:
    with pytest.raises(ValueError, match="alerting reads scores"):
        AlertingProcessor(spec(), to_all=True).run([({"scores:novelty": features(0)}, {})])


def test_a_gap_of_one_model_does_not_hide_anothers_scores() -> None:
    from pipeline.workers.alerting import join

    joined = join(
        {"scores:a": Gap(**{k: v for k, v in gap(0).header().items()}, cause="failed"), "scores:b": scores(0)}
    )
    assert list(joined.scores) == ["novelty"]
