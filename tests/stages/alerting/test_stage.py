"""The alerting stage as a whole: any stream of items, any kill, any split into snippets."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from alerting_makers import (
    LOUD,
    QUIET,
    end,
    gap,
    model_scores,
    play,
    prior,
    published,
    replayed,
    scores,
    wire_bytes,
)

from stages.alerting.alert import Alert
from stages.alerting.settings import AlertSettings
from stages.alerting.stage import AlertingStage, Joined, read_account
from stages.messages import End, Fused, Gap
from stages.stage import State

EVENT = [QUIET] * 5 + [LOUD] * 10 + [QUIET] * 30


def two_models(a: list[float], b: list[float], **more: object) -> Joined:
    return Joined(scores={n: model_scores(raw, model=n, **more) for n, raw in {"a": a, "b": b}.items()})


def test_a_fused_message_has_every_decoded_frame_and_every_model() -> None:
    # decoded 0 1 2 3 4, kept 1 and 3
    kept = {"times_s": np.arange(5) / 10, "picked": np.array([1, 3], np.int32)}
    alone = scores([QUIET, LOUD], seq=1, first_frame=5, model="a", **(kept | {"times_s": np.arange(5, 10) / 10}))
    outcome, _ = play([two_models([QUIET, LOUD], [1.0, 1.0], **kept), alone])
    both, one = (published(m) for m in outcome.messages)
    assert isinstance(both, Fused)
    assert isinstance(one, Fused)
    assert both.raw["a"] == pytest.approx([QUIET, QUIET, QUIET, LOUD, LOUD])
    assert both.calibrated["b"] == pytest.approx([0.5] * 5)
    assert both.score[0] < both.score[-1] < both.calibrated["a"][-1]
    assert np.isnan(one.raw["b"]).all()
    assert np.array_equal(one.score, one.calibrated["a"])


def test_the_score_of_one_model_is_its_calibrated_score_to_the_bit() -> None:
    raw = np.random.default_rng(0).normal(0.5, 1, 200)
    fused = play([scores(raw)])[0].messages[0]
    assert isinstance(fused, Fused)
    assert np.array_equal(fused.score, fused.calibrated["m"])
    assert np.array_equal(np.argsort(fused.score, kind="stable"), np.argsort(fused.raw["m"], kind="stable"))


def test_an_alert_of_a_live_camera_tells_when_what_and_by_whom() -> None:
    outcome, _ = play([scores(EVENT, live=True, run_ms=1_767_225_600_000, thumb=b"jpeg")])
    opened, closed = outcome.alerts
    assert [a.phase for a in outcome.alerts] == ["open", "close"]
    assert opened.id == closed.id == "cam-1767225600000-5"
    assert (closed.start_frame, closed.end_frame, closed.start_s, closed.end_s) == (5, 14, 0.5, 1.4)
    assert (closed.started_at, closed.ended_at) == ("2026-01-01T00:00:00.500Z", "2026-01-01T00:00:01.400Z")
    assert opened.ended_at is None
    assert (closed.peak, closed.severity, closed.models) == (0.833333, "high", {"m": 0.833333})
    assert (closed.config_hash, closed.model_hashes) == ("config", {"m": "hash of m"})
    assert opened.thumb == closed.thumb == b"jpeg"
    assert Alert.from_json(closed.to_json()) == closed


def test_the_wall_clock_of_a_file_is_not_known() -> None:
    outcome, _ = play([scores(EVENT)])
    assert {(a.started_at, a.ended_at) for a in outcome.alerts} == {(None, None)}


def test_the_picture_is_of_the_snippet_with_the_peak() -> None:
    raws = [[QUIET] * 4, [LOUD] * 4, [LOUD + 1] * 4, [LOUD] * 4, [QUIET] * 40, [QUIET] * 40, [LOUD] * 9]
    items, first = [], 0
    for seq, raw in enumerate(raws):
        items.append(scores(raw, seq=seq, first_frame=first, thumb=b"%d" % seq, live=True))
        first += len(raw)
    outcome, _ = play(items, AlertSettings(update_every_s=0.3))
    first, second = outcome.alerts[0].id, outcome.alerts[-1].id
    assert first != second
    assert outcome.alerts[0].thumb == b"1"  # the peak so far
    assert {a.thumb for a in outcome.alerts[1:] if a.id == first} == {b"2"}
    assert {a.thumb for a in outcome.alerts if a.id == second} == {b"6"}


def test_a_picture_of_what_comes_after_an_event_is_not_its_own() -> None:
    raws = [([LOUD] * 8, b"0"), ([LOUD + 9] * 8, b"1")]
    first, second = (scores(raw, seq=i, first_frame=8 * i, thumb=thumb) for i, (raw, thumb) in enumerate(raws))
    late = {n: replace(s, times_s=s.times_s + 60) for n, s in second.scores.items()}
    outcome, _ = play([first, Joined(scores=late)])
    assert [(a.phase, a.thumb) for a in outcome.alerts] == [("open", b"0"), ("close", b"0"), ("open", b"1")]


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(end(15, seq=1), id="the run's end"),
        pytest.param(scores([QUIET], run_ms=60_000, live=True), id="a new run without an end"),
        pytest.param(gap(30, seq=1, first_frame=15), id="a long gap"),
        pytest.param(scores([QUIET], seq=9, first_frame=45), id="long lost frames"),
    ],
)
def test_an_open_alert_is_closed_at_its_last_frame_by(last: Joined) -> None:
    outcome, _ = play([scores(EVENT[:15], live=True), last])
    assert [(a.phase, a.run_ms, a.end_frame) for a in outcome.alerts] == [("open", 1000, 9 - 1), ("close", 1000, 14)]


def test_a_model_in_its_warm_up_does_not_blind_the_camera() -> None:
    warm, sure = model_scores(EVENT, model="warm", provisional=True), model_scores(EVENT, model="sure")
    quiet = model_scores([QUIET] * len(EVENT), model="sure")
    both, _ = play([Joined(scores={"warm": warm, "sure": sure})])
    assert [a.phase for a in both.alerts] == ["open", "close"]
    assert not both.messages[0].provisional  # type: ignore[union-attr]
    assert play([Joined(scores={"warm": warm, "sure": quiet})])[0].alerts == []
    alone, _ = play([Joined(scores={"warm": warm})])
    assert alone.alerts == []
    assert alone.messages[0].provisional  # type: ignore[union-attr]


def test_a_model_without_weight_is_shown_but_decides_nothing() -> None:
    settings = AlertSettings(weights={"shadow": 0})
    shown = Joined(scores={"m": model_scores([QUIET] * 45), "shadow": model_scores(EVENT, model="shadow")})
    outcome, _ = play([shown], settings)
    assert outcome.alerts == []
    assert outcome.messages[0].calibrated["shadow"].max() > 0.8  # type: ignore[union-attr]
    alone, state = play([Joined(scores={"shadow": shown.scores["shadow"]})], settings)
    assert alone.messages[0].cause == "failed"  # type: ignore[union-attr]
    assert read_account(state).balanced  # type: ignore[union-attr]


def test_a_camera_that_reconnects_stays_in_its_cooldown() -> None:
    def again(run_ms: int) -> list[Joined]:
        header = {"run_ms": run_ms, "live": True, "prior": prior(1000, frames=15, down_s=0.1)}
        return [scores(EVENT[:15], live=True), scores(EVENT[:15], **header)]  # type: ignore[arg-type]

    soon, later = 3000, 10_000  # the event ends at 1000 + 1400 ms, its cool-down 5 s after
    assert [a.run_ms for a in play(again(soon))[0].alerts] == [1000, 1000]
    assert [a.run_ms for a in play(again(later))[0].alerts] == [1000, 1000, 10_000]


def test_the_state_stays_small() -> None:
    items = [scores([LOUD, QUIET] * 8, seq=i, first_frame=16 * i, thumb=bytes(5000), live=True) for i in range(300)]
    _, state = play(items)
    assert sum(a.nbytes for a in state.values()) < 10_000


def random_camera(seed: int) -> list[Joined]:
    """Items of several runs: losses, gaps, damage, warm-ups, two models, reconnects with and without a word on it."""
    rng = random.Random(seed)
    items: list[Joined] = []
    run_ms, before = 1000, None
    for _ in range(rng.randint(1, 4)):
        seq = frame = 0
        fps = rng.choice([10.0, 25.0])
        header = {"run_ms": run_ms, "live": True, "prior": before, "fps": fps}
        loud, arrived = False, 0
        for _ in range(rng.randint(1, 25)):
            n = rng.randint(1, 20)
            at = {"seq": seq, "first_frame": frame}
            lost = rng.random() < 0.2
            kind = rng.random()
            if kind < 0.15:
                item = gap(n, cause=rng.choice(["behind", "corrupt"]), **at, **header)  # type: ignore[arg-type]
            else:
                loud = loud ^ (rng.random() < 0.3)
                raw = np.array([LOUD if loud else QUIET] * n) + np.array([rng.gauss(0, 0.5) for _ in range(n)])
                raw[[i for i in range(n) if rng.random() < 0.02]] = np.nan
                warm = rng.random() < 0.1
                more = {"thumb": b"%d" % seq, "provisional": warm, **at, **header}
                names = rng.choice([["a"], ["b"], ["a", "b"], ["a", "b"]])
                item = Joined(scores={m: model_scores(raw, model=m, **more) for m in names})  # type: ignore[arg-type]
            if not lost:
                items.append(item)
                arrived += 1
            seq, frame = seq + 1, frame + n
        if rng.random() < 0.4:
            items.append(end(frame, seq=seq, run_ms=run_ms, live=True, prior=before))  # type: ignore[arg-type]
        before = prior(run_ms, frames=frame, down_s=rng.choice([0.0, 3.0])) if rng.random() < 0.9 else None
        run_ms += rng.choice([3000, 60_000])
    return items


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_is_lost_every_decoded_frame_is_told_of_exactly_once(seed: int) -> None:
    items = random_camera(seed)
    outcome, state = play(items)
    ids = [(m.run_ms, m.seq) for m in outcome.messages]
    assert ids == sorted(set(ids))
    told: dict[int, list[int]] = {}
    for message in outcome.messages:
        frames = told.setdefault(message.run_ms, [])
        frames += range(message.first_frame, message.next_frame)
        assert np.all(np.diff(message.times_s) >= 0)
        assert isinstance(published(message), Fused | Gap | End)
    current = read_account(state)
    assert current is not None
    accounts = {a.run_ms: a for a in [*outcome.closed, current]}
    assert set(accounts) >= set(told)
    for run_ms, account in accounts.items():
        assert account.balanced, account
        assert told.get(run_ms, []) == list(range(account.decoded))
    finite = {r: 0 for r in accounts}
    for message in outcome.messages:
        if isinstance(message, Fused):
            finite[message.run_ms] += int(np.isfinite(message.score).sum())
    assert finite == {r: a.scored for r, a in accounts.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_killed_after_any_item_changes_no_byte(seed: int) -> None:
    items = random_camera(seed)
    stage, state = AlertingStage(AlertSettings(), "config"), State()
    rng = random.Random(seed)
    unbroken: list[object] = []
    for item in items:
        before = {k: v.tobytes() for k, v in state.items()}
        outcome, after = stage.process(item, state)
        if rng.random() < 0.3:  # killed before the transaction: done again, by another worker
            again, _ = AlertingStage(AlertSettings(), "config").process(item, replayed(state))
            assert wire_bytes(again) == wire_bytes(outcome)
        assert {k: v.tobytes() for k, v in state.items()} == before
        unbroken += wire_bytes(outcome)
        state = after
    killed, last = play(items)
    fused_and_alerts = wire_bytes(killed)
    key = repr
    assert sorted(map(key, fused_and_alerts)) == sorted(map(key, unbroken))
    assert {k: v.tobytes() for k, v in last.items()} == {k: v.tobytes() for k, v in state.items()}


def split(rng: random.Random, raw: np.ndarray, kinds: str, most: int) -> list[Joined]:
    """The same frames as snippets of at most so many: `s` scored, `g` gap, `p` provisional; no snippet mixes them."""
    items: list[Joined] = []
    at = 0
    while at < len(raw):
        n = rng.randint(1, most)
        n = next((i for i in range(1, n) if at + i >= len(raw) or kinds[at + i] != kinds[at]), n)
        n = min(n, len(raw) - at)
        where = {"seq": len(items), "first_frame": at, "live": True}
        if kinds[at] == "g":
            items.append(gap(n, **where))  # type: ignore[arg-type]
        else:
            items.append(scores(raw[at : at + n], provisional=kinds[at] == "p", **where))  # type: ignore[arg-type]
        at += n
    return [*items, end(len(raw), seq=len(items), live=True)]


@pytest.mark.parametrize("seed", range(8))
def test_the_split_into_snippets_does_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    raw = np.concatenate([np.full(rng.randint(1, 40), rng.choice([QUIET, 1.06, LOUD])) for _ in range(20)])
    raw += np.random.default_rng(seed).normal(0, 0.3, len(raw))
    raw[np.random.default_rng(seed).random(len(raw)) < 0.02] = np.nan
    kinds = "".join(rng.choices("sgp", [20, 2, 1])[0] * rng.randint(1, 40) for _ in range(100))[: len(raw)]
    settings = AlertSettings(cooldown_s=rng.choice([0, 1]), merge_gap_s=rng.choice([0.2, 2]), update_every_s=0.7)
    results = []
    for most in (1, 7, 16, 500):
        outcome, state = play(split(rng, raw, kinds, most), settings)
        account = read_account(state)
        assert account is not None
        results.append(([a.to_json() for a in outcome.alerts], replace(account, gap_counts={})))
    assert results[0][0]
    assert all(result == results[0] for result in results[1:])
