"""The same file gives the same bytes on any server, in one process group or as separate workers."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from e2e import film, fitted, needs_redis_server, oddwatch, redis_server, score_files_in, started, wait_for

pytestmark = needs_redis_server
STAGES = ("decode", "features", "temporal", "alerting")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module") / "footage"
    folder.mkdir()
    film(folder / "race.mp4", 120, odd=range(60, 90), seed=7)
    film(folder / "calm.mp4", 70, seed=8)
    film(folder / "short.mp4", 9, seed=9)
    return folder


@pytest.fixture(scope="module")
def models(footage: Path) -> list[str]:
    """A fitted model and one that learns from the footage, together."""
    config = footage.parent / "models.yaml"
    config.write_text(f"models:\n  fitted: {{checkpoint: {fitted()}}}\n  adaptive: {{}}\n")
    return ["--config", str(config)]


@pytest.fixture(scope="module")
def embedded(footage: Path, models: list[str]) -> dict[str, bytes]:
    done = oddwatch("score", footage, *models, "--out", footage.parent / "embedded")
    assert done.code == 0, done.err
    found = score_files_in(footage.parent / "embedded")
    assert len(found) == 3
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Path, int]]:
    rights = ["on", ">l1llA~", "~oddwatch:*", "resetchannels", "+@all", "-@admin", "-@dangerous", "+info"]
    with redis_server("--requirepass", "s3cret", "--user", "alice", *rights) as found:
        yield found


def test_a_second_run_gives_the_same_bytes(
    footage: Path, models: list[str], embedded: dict[str, bytes], tmp_path: Path
) -> None:
    assert oddwatch("score", footage, *models, "--out", tmp_path).code == 0
    assert score_files_in(tmp_path) == embedded


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("unix://:s3cret@{socket}", id="unix socket", marks=pytest.mark.slow),
        pytest.param("redis://:s3cret@127.0.0.1:{port}/0", id="password", marks=pytest.mark.slow),
        pytest.param("redis://alice:l1llA~@127.0.0.1:{port}/0", id="ACL user who may only touch oddwatch:*"),
    ],
)
def test_redis_server_gives_the_same_bytes(
    url: str, server: tuple[Path, int], footage: Path, models: list[str], embedded: dict[str, bytes], tmp_path: Path
) -> None:
    socket, port = server
    done = oddwatch("score", footage, *models, "--out", tmp_path, REDIS_URL=url.format(socket=socket, port=port))
    assert done.code == 0, done.err
    assert score_files_in(tmp_path) == embedded
    assert "s3cret" not in done.err + done.out
    assert "l1llA~" not in done.err + done.out


def test_separate_workers_two_of_each_stage_give_the_same_bytes(
    footage: Path, models: list[str], embedded: dict[str, bytes], tmp_path: Path
) -> None:
    with redis_server() as (socket, _), ExitStack() as stack:
        url = f"unix://{socket}"
        for stage in STAGES:
            for n in range(2):
                stack.enter_context(started(tmp_path / f"{stage}{n}.log", "worker", stage, REDIS_URL=url))
        done = oddwatch("score", "--no-workers", footage, *models, "--out", tmp_path / "out", REDIS_URL=url)
        assert done.code == 0, done.err
        time.sleep(1)
        left = [k for k in redis.Redis.from_url(url).scan_iter() if b"{" in k]
    assert score_files_in(tmp_path / "out") == embedded
    assert not left, "a finished file leaves nothing in Redis"


def test_without_workers_it_says_which_are_missing_and_goes_on_when_they_come(footage: Path, tmp_path: Path) -> None:
    clip = footage / "short.mp4"
    with redis_server() as (socket, _), ExitStack() as stack:
        url = f"unix://{socket}"
        for stage in STAGES[:2]:
            stack.enter_context(started(tmp_path / f"{stage}.log", "worker", stage, REDIS_URL=url))
        log = tmp_path / "score.log"
        score = stack.enter_context(
            started(log, "score", "--no-workers", clip, "--out", tmp_path / "out", REDIS_URL=url)
        )
        wait_for("a word about it", lambda: "no worker for temporal, alerting" in log.read_text(), 60)
        time.sleep(0.5)
        assert score.poll() is None
        for stage in STAGES[2:]:
            stack.enter_context(started(tmp_path / f"{stage}.log", "worker", stage, REDIS_URL=url))
        assert score.wait(60) == 0
    assert "9 of 9 frames scored" in log.read_text()


def test_no_workers_needs_a_redis_to_share(footage: Path, tmp_path: Path) -> None:
    done = oddwatch("score", "--no-workers", footage, "--out", tmp_path)
    assert done.code == 2
    assert "set REDIS_URL" in done.err


def test_a_worker_without_redis_says_how_to_get_one() -> None:
    done = oddwatch("worker", "features")
    assert done.code == 2
    assert "set REDIS_URL" in done.err
    done = oddwatch("worker", "featurs", REDIS_URL="redis://127.0.0.1:1")
    assert done.code == 2
    assert "decode, features, temporal, alerting" in done.err
