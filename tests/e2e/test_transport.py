"""However pixels travel and batches are made, the scores are the same; whatever is killed, no memory stays behind."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from e2e import film, kill, members, needs_redis_server, oddwatch, redis_server, score_files_in, started, wait_for

ROUNDS = int(os.environ.get("ODDWATCH_KILL_ROUNDS", "1"))
KILLS = 3
VICTIMS = ["decoder", "worker decode", "worker features", "supervisor"]


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module") / "footage"
    for n in range(3):
        film(folder / f"clip{n}.mp4", 60 + 20 * n, odd=range(30, 50), seed=40 + n)
    return folder


def config(footage: Path, name: str, text: str) -> Path:
    path = footage.parent / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def inline(footage: Path) -> dict[str, bytes]:
    path = config(footage, "inline", "frames: {transport: inline}\nworkers: {batch: 1}\n")
    done = oddwatch("score", footage, "--config", path, "--out", footage.parent / "inline")
    assert done.code == 0, done.err
    return score_files_in(footage.parent / "inline")


@pytest.fixture
def shm(tmp_path: Path) -> Path:
    path = tmp_path / "shm"
    path.mkdir()
    return path


def rings(shm: Path) -> list[Path]:
    return sorted(shm.rglob("*.ring"))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("frames: {transport: shared}\nworkers: {batch: 1}\n", id="shared, one at a time"),
        pytest.param(
            "workers: {features: 3, temporal: 3, alerting: 2, batch: 32, batch_wait_ms: 5}\n",
            id="auto, three workers with batches that wait",
        ),
        pytest.param("workers: {batch: 32, batch_wait_ms: 5}\n", id="auto, batches that wait", marks=pytest.mark.slow),
        pytest.param(
            "workers: {features: 3, temporal: 3, alerting: 2}\n", id="auto, three workers", marks=pytest.mark.slow
        ),
    ],
)
def test_the_scores_do_not_depend_on_how_frames_travel(
    footage: Path, inline: dict[str, bytes], shm: Path, tmp_path: Path, text: str
) -> None:
    log = tmp_path / "log"
    path = config(footage, "other", text)
    with started(log, "score", footage, "--config", path, "--out", tmp_path / "out", ODDWATCH_SHM=str(shm)) as process:
        wait_for("a ring", lambda: rings(shm) or process.poll() is not None)
        assert process.wait(90) == 0, log.read_text()
    assert score_files_in(tmp_path / "out") == inline
    assert list(shm.iterdir()) == []


def test_without_room_the_scores_are_the_same(footage: Path, inline: dict[str, bytes], tmp_path: Path) -> None:
    done = oddwatch("score", footage, "--out", tmp_path, ODDWATCH_SHM="/proc/self")  # nobody can write there
    assert done.code == 0, done.err
    assert score_files_in(tmp_path) == inline


@pytest.mark.parametrize(
    "victim", ["decoder", *(pytest.param(victim, marks=pytest.mark.slow) for victim in VICTIMS if victim != "decoder")]
)
def test_kills_change_no_score_and_leave_no_memory(
    footage: Path, inline: dict[str, bytes], shm: Path, tmp_path: Path, victim: str
) -> None:
    rng, killed, log = random.Random(victim), 0, tmp_path / "log"
    path = config(footage, "small", "runtime: {lease_s: 2}\nredis: {stream_mb: 10}\n")
    with started(log, "score", footage, "--config", path, "--out", tmp_path / "out", ODDWATCH_SHM=str(shm)) as process:
        while killed < KILLS and process.poll() is None:
            wait_for("a ring", lambda: rings(shm) or process.poll() is not None)
            if killed:  # the first at sight: a fast machine is done soon
                time.sleep(rng.uniform(0, 0.3))
            alive = members(process.pid, victim)
            killed += bool(alive) and kill(rng.choice(alive))
        assert process.wait(90) == 0, log.read_text()
    assert killed
    assert score_files_in(tmp_path / "out") == inline
    assert list(shm.iterdir()) == []


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_killed_command_leaves_no_memory_after_the_next_one(
    footage: Path, shm: Path, tmp_path: Path, seed: int
) -> None:
    rng, log = random.Random(seed), tmp_path / "log"
    command = ["score", footage, "--out", tmp_path / "out"]
    with started(log, *command, ODDWATCH_SHM=str(shm)) as process:
        wait_for("a ring", lambda: rings(shm))
        time.sleep(rng.uniform(0, 0.3))
        workers = members(process.pid, "")
        kill(process.pid)
        wait_for("the end of all", lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert rings(shm)
    done = oddwatch("score", footage / "clip0.mp4", "--out", tmp_path / "next", ODDWATCH_SHM=str(shm))
    assert done.code == 0, done.err
    assert list(shm.iterdir()) == []


@pytest.mark.slow
@needs_redis_server
def test_a_killed_command_on_a_redis_of_its_own_leaves_no_memory_after_the_next(
    footage: Path, inline: dict[str, bytes], shm: Path, tmp_path: Path
) -> None:
    with redis_server() as (socket, _):
        env = {"ODDWATCH_SHM": str(shm), "REDIS_URL": f"unix://{socket}"}
        command = ["score", footage, "--out", tmp_path / "out"]
        with started(tmp_path / "log", *command, **env) as process:
            wait_for("a ring", lambda: rings(shm))
            kill(process.pid)
            time.sleep(0.5)
        assert rings(shm)
        done = oddwatch(*command, **env)
        assert done.code == 0, done.err
    assert score_files_in(tmp_path / "out") == inline
    assert list(shm.iterdir()) == []
