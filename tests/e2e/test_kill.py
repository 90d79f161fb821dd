"""`kill -9` of any one process while a folder is scored: the run ends by itself with the same bytes."""

import os
import random
import time
from pathlib import Path

import pytest
from e2e import film, fitted, kill, members, oddwatch, score_files_in, started, summary, wait_for

VICTIMS = ["worker decode", "decoder", "worker features", "worker temporal", "worker alerting", "supervisor"]
KILLS = 3
ROUNDS = int(os.environ.get("ODDWATCH_KILL_ROUNDS", "1"))
"""Each with other moments; more of them for a long soak."""


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module") / "footage"
    folder.mkdir()
    for n in range(4):
        film(folder / f"clip{n}.mp4", 80 + 30 * n, odd=range(40, 75), seed=20 + n)
    return folder


@pytest.fixture(scope="module")
def command(footage: Path) -> list[str]:
    """Two models; leases short, so that a killed supervisor's run out soon; streams small, so that decoders live."""
    config = footage.parent / "models.yaml"
    models = f"models:\n  fitted: {{checkpoint: {fitted()}}}\n  adaptive: {{}}\n"
    config.write_text(models + "runtime: {lease_s: 2}\nredis: {stream_mb: 10}\n")
    return ["score", str(footage), "--config", str(config), "--out"]


@pytest.fixture(scope="module")
def undisturbed(footage: Path, command: list[str]) -> Path:
    out = footage.parent / "undisturbed"
    done = oddwatch(*command, out)
    assert done.code == 0, done.err
    assert summary(out)["decoded"] == 500
    return out


def test_one_kill_of_each_at_sight_changes_nothing(command: list[str], undisturbed: Path, tmp_path: Path) -> None:
    killed = []
    log = tmp_path / "log"
    with started(log, *command, tmp_path / "out") as process:
        # The decoder first, while there is one; a supervisor takes all its workers with it.
        for victim in (
            "decoder",
            "worker features",
            "worker temporal",
            "supervisor",
            "worker decode",
            "worker alerting",
        ):
            alive = wait_for("a victim", lambda v=victim: members(process.pid, v) or process.poll() is not None)
            if alive is not True and kill(alive[0]):
                killed.append(victim)
        assert process.wait(90) == 0, log.read_text()
    assert sorted(killed) == sorted(VICTIMS)
    assert "Traceback" not in log.read_text()
    assert score_files_in(tmp_path / "out") == score_files_in(undisturbed)
    assert _accounts(tmp_path / "out") == _accounts(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("victim", VICTIMS)
def test_killing_it_again_and_again_changes_nothing(
    victim: str, seed: int, command: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    rng = random.Random(f"{victim} {seed}")
    killed = 0
    log = tmp_path / "log"
    with started(log, *command, tmp_path / "out") as process:
        while killed < KILLS and process.poll() is None:
            wait_for("a victim", lambda: members(process.pid, victim) or process.poll() is not None)
            # A decoder of a short clip is soon done: the first must be killed at sight.
            if victim != "decoder":
                time.sleep(rng.uniform(0, 1.0))
            elif killed:
                time.sleep(rng.uniform(0, 0.2))
            alive = members(process.pid, victim)
            killed += bool(alive) and kill(rng.choice(alive))
        assert process.wait(90) == 0, log.read_text()
    assert killed > 0
    assert "Traceback" not in log.read_text()
    assert score_files_in(tmp_path / "out") == score_files_in(undisturbed), f"after {killed} kills"
    assert _accounts(tmp_path / "out") == _accounts(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killing_whatever_comes_to_hand_changes_nothing(
    seed: int, command: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    killed = []
    log = tmp_path / "log"
    with started(log, *command, tmp_path / "out") as process:
        wait_for("all workers", lambda: len(members(process.pid, "worker")) == 4)
        while len(killed) < 8 and process.poll() is None:
            time.sleep(rng.uniform(0.05, 0.8))
            victim = rng.choice(VICTIMS[:-1])
            if (alive := members(process.pid, victim)) and kill(rng.choice(alive)):
                killed.append(victim)
        assert process.wait(90) == 0, log.read_text()
    assert len(set(killed)) > 2
    assert score_files_in(tmp_path / "out") == score_files_in(undisturbed), f"after killing {killed}"
    assert _accounts(tmp_path / "out") == _accounts(undisturbed)


def _accounts(out: Path) -> list[tuple]:
    return [(f["csv"], f["status"], f["decoded"], f["scored"], f["gaps"], f["alerts"]) for f in summary(out)["files"]]
