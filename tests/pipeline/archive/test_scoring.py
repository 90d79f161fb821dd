"""`score` writes down what the stages publish, whatever happens to its connection or its predecessors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from pipeline.archive.claims import reap
from pipeline.archive.job import FileToScore
from pipeline.archive.records import FileResult, csv_owners, file_sha256, read_record, write_record
from pipeline.archive.run import ScoreRun
from pipeline.archive.summary import Summaries
from pipeline.bus.codec import Bound
from pipeline.bus.streams import Bus
from pipeline.cameras.registry import Registry
from pipeline.cameras.spec import make_spec
from pipeline.cli.score.files import files_to_score, hints
from pipeline.config.schema import Config
from stages.alerting.alert import Alert
from stages.errors import OddwatchError
from stages.messages import End, Fused

FRAMES = 16


class Nobody:
    """Watches, and says nothing."""

    def started(self, *_: object) -> None: ...
    def scored(self, *_: object) -> None: ...
    def alert(self, *_: object) -> None: ...
    def finished(self, *_: object) -> None: ...


def file() -> FileToScore:
    return FileToScore(make_spec(Config(), camera="c", source="/x/c.mp4", kind="file"), "c.mp4", "c.scores.csv")


def publish(bus: Bus, run: ScoreRun, snippets: int = 3) -> None:
    """What alerting would write for the only job: `snippets` of scores, and the end."""
    (job,) = run._jobs.values()
    bus.client.set("test:lease:" + job.stream, "token")
    zeros = np.zeros(FRAMES, np.float32)
    header: dict[str, Any] = {"camera": "c", "run_ms": job.spec.run_ms}
    messages: list[Fused | End] = [
        Fused(
            **header, seq=n, first_frame=FRAMES * n, times_s=np.arange(FRAMES * n, FRAMES * (n + 1)) / 25, score=zeros,
            raw={"novelty": zeros}, calibrated={"novelty": zeros},
        )
        for n in range(snippets)
    ]  # fmt: skip
    messages.append(End(**header, seq=snippets, first_frame=FRAMES * snippets, times_s=np.empty(0)))
    lease = ("test:lease:" + job.stream, "token")
    bus.commit(lease, outputs=[(job.stream, m, Bound(99, False)) for m in messages])
    bus.client.delete(lease[0])


@pytest.mark.parametrize("failing", [1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, *range(3, 8)))])
@pytest.mark.parametrize("command", ["xrange", "xread", "xtrim"])
def test_a_connection_lost_at_any_moment_loses_no_row(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, failing: int
) -> None:
    run = ScoreRun(bus, [file()], tmp_path, Nobody(), window=1)
    run.turn()
    publish(bus, run)
    real, calls = getattr(bus.client, command), [0]

    def flaky(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == failing:
            raise redis.ConnectionError("connection reset")
        return real(*arguments, **options)

    monkeypatch.setattr(bus.client, command, flaky)
    for _ in range(20):
        try:
            run.turn()
        except redis.ConnectionError:
            continue
    assert run.done
    result = run.results["c"]
    assert (result.status, result.decoded, result.scored) == ("complete", 3 * FRAMES, 3 * FRAMES)
    assert len((tmp_path / "c.scores.csv").read_text().splitlines()) == 1 + 3 * FRAMES


def test_a_redis_that_came_back_empty_makes_the_file_start_again(bus: Bus, tmp_path: Path) -> None:
    now_s = [0.0]
    run = ScoreRun(bus, [file()], tmp_path, Nobody(), window=1, clock=lambda: now_s[0])
    run.turn()
    for key in bus.client.scan_iter(match=f"{bus.keys.prefix}*"):
        bus.client.delete(key)
    now_s[0] = 60.0
    run.turn()
    publish(bus, run)
    run.turn()
    assert run.results["c"].scored == 3 * FRAMES


def test_a_file_that_another_score_has_taken_is_let_go(bus: Bus, tmp_path: Path) -> None:
    now_s = [0.0]
    run = ScoreRun(bus, [file()], tmp_path, Nobody(), window=1, clock=lambda: now_s[0])
    run.turn()
    bus.client.set(bus.keys.claim("c"), "elsewhere:1")
    now_s[0] = 60.0
    with pytest.raises(OddwatchError, match=r"c\.mp4: is now being scored by elsewhere:1"):
        run.turn()
    run.abandon()
    assert bus.client.get(bus.keys.claim("c")) == b"elsewhere:1"


def test_what_a_dead_score_left_is_removed_and_a_living_ones_work_is_not(bus: Bus, tmp_path: Path) -> None:
    run = ScoreRun(bus, [file()], tmp_path, Nobody(), window=1)
    run.turn()
    registry = Registry(bus.client, bus.keys)
    old = run._jobs["c"].spec.model_copy(update={"run_ms": 1})
    bus.client.hset(bus.keys.cameras, "c", old.model_dump_json())
    reap(bus)
    registry.refresh()
    assert "c" in registry.specs
    bus.client.delete(bus.keys.claim("c"))
    reap(bus)
    assert not bus.client.hexists(bus.keys.cameras, "c")
    run.abandon()


def test_an_alert_that_an_interrupted_run_left_open_is_closed_for_its_followers(bus: Bus, tmp_path: Path) -> None:
    alert = Alert(
        id="c-1-0", phase="open", camera="c", run_ms=1, start_frame=0, end_frame=5, started_at=None, ended_at=None,
        start_s=0.0, end_s=0.2, peak=0.7, severity="medium", models={}, config_hash="x", model_hashes={},
    )  # fmt: skip
    bus.client.xadd(bus.keys.stream("c", "alerts"), {"alert": alert.to_json()})
    run = ScoreRun(bus, [file()], tmp_path, Nobody(), window=1)
    run.turn()
    run.abandon()
    (entry,) = bus.client.xrange(bus.keys.alerts)
    assert json.loads(entry[1][b"alert"])["phase"] == "close"


def test_resume_never_takes_another_files_scores_for_its_own(tmp_path: Path) -> None:
    (tmp_path / "cam.scores.csv").write_text("frame,time_s,score\n")
    result = FileResult(
        file="day1/cam.mp4", camera="cam-1", config_hash="h", csv="cam.scores.csv", models=[], status="complete",
        csv_sha256=file_sha256(tmp_path / "cam.scores.csv"),
    )  # fmt: skip
    write_record(tmp_path, result)
    assert read_record(tmp_path, "cam-1", "h") == result
    assert csv_owners(tmp_path) == {"cam.scores.csv": "cam-1"}
    (tmp_path / "cam.scores.csv").write_text("frame,time_s,score\n0,0.0,0.5\n")
    assert read_record(tmp_path, "cam-1", "h") is None


def test_a_file_that_failed_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("")
    write_record(
        tmp_path,
        FileResult(
            file="c", camera="c", config_hash="h", csv="c.csv", models=[], status="error: its decoder died 5 times",
            csv_sha256=file_sha256(tmp_path / "c.csv"),
        ),
    )  # fmt: skip
    assert read_record(tmp_path, "c", "h") is None


def test_a_web_address_with_a_login_is_refused_because_it_would_be_kept_in_redis(tmp_path: Path) -> None:
    files, missing = files_to_score(["https://viewer:secret@example.org/night.mp4"], Config(), tmp_path)
    assert files == []
    assert "secret" not in missing[0]
    assert "login" in missing[0]


@pytest.mark.parametrize("error", [redis.OutOfMemoryError("used memory"), redis.ConnectionError("reset")], ids=str)
@pytest.mark.parametrize("command", ["hset", "xgroup_create", "set"])
def test_a_file_that_could_not_be_begun_is_begun_later(
    one_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, error: redis.RedisError
) -> None:
    real, calls = getattr(one_bus.client, command), [0]

    def refused_once(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(one_bus.client, command, refused_once)
    run = ScoreRun(one_bus, [file()], tmp_path, Nobody(), window=1)
    with pytest.raises(type(error)):
        run.turn()
    assert not run.done
    assert not list(tmp_path.glob("*.part"))
    run.turn()
    publish(one_bus, run)
    while not run.done:
        run.turn()
    assert run.results["c"].scored == 3 * FRAMES


def test_a_full_redis_keeps_a_finished_file_only_until_there_is_room(
    one_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ScoreRun(one_bus, [file()], tmp_path, Nobody(), window=1)
    run.turn()
    publish(one_bus, run)

    def full(*_: object) -> None:
        raise redis.OutOfMemoryError("used memory")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.archive.run.unregister", full)
        with pytest.raises(redis.OutOfMemoryError):
            run.turn()
    assert run.results["c"].scored == 3 * FRAMES
    assert not run.done
    assert not one_bus.client.exists(one_bus.keys.stream("c", "scores")), "it must make room"
    while not run.done:
        run.turn()
    assert not one_bus.client.hexists(one_bus.keys.cameras, "c")


@pytest.mark.parametrize(("write_s", "most"), [(0.001, 110), (0.1, 400), (2.0, 40)])
def test_summaries_take_a_bounded_share_however_many_files_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_s: float, most: int
) -> None:
    """A thousand files, one a second, of which each summary takes `write_s`."""
    now_s, written = [0.0], []

    def write(out: Path, results: list, models: list, config_hash: str) -> None:
        now_s[0] += write_s
        written.append(len(results))

    monkeypatch.setattr("pipeline.archive.summary.write_summary", write)
    spec = file().spec
    files = [FileToScore(spec.model_copy(update={"camera": f"c{n}"}), f"{n}.mp4", f"{n}.csv") for n in range(1000)]
    summaries = Summaries(tmp_path, files, ["novelty"], clock=lambda: now_s[0])
    results: dict[str, FileResult] = {}
    for n in range(1000):
        now_s[0] += 1.0 if write_s > 0.01 else 0.1
        results[f"c{n}"] = FileResult(
            file=f"{n}.mp4", camera=f"c{n}", config_hash="h", csv=None, models=[], status="complete"
        )
        summaries.update(results)
    assert [r.camera for r in summaries.write(results)] == list(results)
    assert written[-1] == 1000
    assert len(written) <= most


def hinted(folder: Path, *names: str, named: bool = False) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
    paths = [str(folder / name) for name in names] if named else [str(folder)]
    return hints(paths, files_to_score(paths, Config(), folder / "out")[0])


@pytest.mark.parametrize("video", ["thumb.gif", "a.mp4", "deep/a.mkv"])
def test_pictures_beside_a_video_are_said_to_be_left_out(tmp_path: Path, video: str) -> None:
    pictures = [str(Path(video).parent / f"{n}.jpg") for n in range(3)]
    (line,) = hinted(tmp_path, video, *pictures)
    assert f"3 pictures beside {Path(video).name} left out" in line


def test_a_thumbnail_of_a_video_and_a_folder_of_pictures_need_no_word(tmp_path: Path) -> None:
    assert hinted(tmp_path, "a.mp4", "a.jpg", "stills/1.jpg", "stills/2.jpg") == []


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_pictures_named_one_by_one_are_said_to_be_a_video_each(tmp_path: Path, suffix: str) -> None:
    (line,) = hinted(tmp_path, f"1.{suffix}", f"2.{suffix}", named=True)
    assert "2 pictures are named one by one" in line
    assert hinted(tmp_path, f"1.{suffix}", named=True) == []
