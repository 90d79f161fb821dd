"""`oddwatch score` killed outright and given again: it resumes, and nobody can tell from its files."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import redis
from e2e import (
    family,
    film,
    fitted,
    kill,
    needs_redis_server,
    oddwatch,
    redis_server,
    score_files_in,
    started,
    summary,
    wait_for,
)
from e2e import temporary as temporary


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module") / "footage"
    folder.mkdir()
    for n in range(4):
        film(folder / f"clip{n}.mp4", 60 + 30 * n, seed=n)
    return folder


@pytest.fixture(scope="module")
def undisturbed(footage: Path) -> dict[str, bytes]:
    out = footage.parent / "undisturbed"
    done = oddwatch("score", footage, "--out", out)
    assert done.code == 0, done.err
    return score_files_in(out)


def killed(out: Path, footage: Path, after_s: float, **env: str) -> list[str]:
    """Kill a `score` some time after its first finished file, wait until nothing of it runs; what it finished."""
    with started(out.parent / "log", "score", footage, "--out", out, **env) as process:
        wait_for("a first file", lambda: score_files_in(out) or process.poll() is not None)
        time.sleep(after_s)
        pids = [*family(process.pid), process.pid]
        kill(process.pid)
        process.wait()
        wait_for("the end of all it started", lambda: not any(Path(f"/proc/{p}").exists() and alive(p) for p in pids))
    return list(score_files_in(out))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_score_resumes_where_it_was(
    footage: Path, undisturbed: dict[str, bytes], tmp_path: Path, temporary: Path
) -> None:
    out = tmp_path / "out"
    env = {"TMPDIR": str(temporary)}
    finished = killed(out, footage, random.Random(1).uniform(0, 0.6), **env)
    assert list(temporary.glob("oddwatch-redis-*")), "a killed command cannot clean up; the next one does"
    before = {name: (out / name).stat().st_mtime_ns for name in finished}
    done = oddwatch("score", footage, "--out", out, **env)
    assert done.code == 0, done.err
    assert done.err.count("done before") == len(finished) > 0
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == before, "scored again"
    assert score_files_in(out) == undisturbed
    assert summary(out)["decoded"] == summary(footage.parent / "undisturbed")["decoded"]
    assert not list(temporary.glob("oddwatch-redis-*"))
    assert not list(out.rglob("*.part"))


@needs_redis_server
def test_it_resumes_at_once_on_a_redis_that_remembers_the_killed_one(
    footage: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    with redis_server() as (socket, _):
        url = f"unix://{socket}"
        killed(tmp_path / "out", footage, random.Random(2).uniform(0, 0.5), REDIS_URL=url)
        done = oddwatch("score", footage, "--out", tmp_path / "out", REDIS_URL=url)
    assert done.code == 0, done.err
    assert score_files_in(tmp_path / "out") == undisturbed


def test_nothing_is_kept_with_no_resume_nor_under_other_settings(tmp_path: Path) -> None:
    clip, config = film(tmp_path / "clip.mp4", 20), tmp_path / "c.yaml"
    assert oddwatch("score", clip, "--out", tmp_path / "out").code == 0
    again = oddwatch("score", clip, "--out", tmp_path / "out")
    assert "done before" in again.err
    assert "(1 of 1 file done before)" in again.out
    assert "last run only: 0 of 1 video<" in (tmp_path / "out/report.html").read_text()
    assert "done before" not in oddwatch("score", clip, "--out", tmp_path / "out", "--no-resume").err
    config.write_text("alerts: {raise_at: 0.97}\n")
    assert "done before" not in oddwatch("score", clip, "--out", tmp_path / "out", "--config", config).err


def test_scores_of_another_model_are_told_of_before_they_are_replaced_and_never_removed(tmp_path: Path) -> None:
    first, second, out = film(tmp_path / "a.mp4", 20), film(tmp_path / "b.mp4", 20, seed=2), tmp_path / "out"
    assert "other models" not in oddwatch("score", first, second, "--out", out).err
    left = (out / "a.scores.csv").read_bytes()
    done = oddwatch("score", second, "--model", fitted(), "--out", out)
    assert done.code == 0, done.err
    assert f"{out}: holds scores of other models or settings: 1 to be replaced, 1 to stay (a.scores.csv)" in done.err
    assert "not of these models and settings, and not in summary.json: a.scores.csv" in done.out
    assert (out / "a.scores.csv").read_bytes() == left
    again = oddwatch("score", first, "--model", fitted(), "--out", out)
    assert "1 to be replaced, 0 to stay;" in again.err
    assert "not of these models" not in again.out
    assert "other models" not in oddwatch("score", first, second, "--model", fitted(), "--out", out).err


def test_a_file_is_scored_by_one_command_at_a_time(footage: Path, tmp_path: Path, temporary: Path) -> None:
    with started(tmp_path / "log", "score", footage, "--out", tmp_path / "a", TMPDIR=str(temporary)) as process:
        socket = wait_for("its server", lambda: next(temporary.glob("oddwatch-redis-*/redis.sock"), None))
        url = f"unix://{socket}"
        client = redis.Redis.from_url(url)
        wait_for("its claim", lambda: list(client.scan_iter("*claim*")))
        os.kill(process.pid, signal.SIGSTOP)  # or it is done before the other begins, on a fast machine
        done = oddwatch("score", footage, "--out", tmp_path / "b", REDIS_URL=url)
    assert done.code == 1
    assert "is being scored by" in done.err
    assert "Traceback" not in done.err


def test_control_c_stops_quickly_and_leaves_nothing_behind(footage: Path, tmp_path: Path, temporary: Path) -> None:
    with started(tmp_path / "log", "score", footage, "--out", tmp_path / "out", TMPDIR=str(temporary)) as process:
        wait_for("a first file", lambda: score_files_in(tmp_path / "out"))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert not family(process.pid)
    said = (tmp_path / "log").read_text()
    assert "oddwatch: interrupted; give the same command again" in said
    assert "Traceback" not in said
    assert "WARNING" not in said
    assert not list(temporary.glob("oddwatch-redis-*"))
