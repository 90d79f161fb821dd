"""Following alerts: with `redis-cli`, with plain `redis` as the README shows, and with `oddwatch alerts`."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from e2e import REDIS_CLI, environment, film, fitted, needs_redis_server, oddwatch, redis_server, started, wait_for
from places import ROOT

pytestmark = needs_redis_server


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, list[dict]]]:
    """Redis' address, the log of a `--follow --json` that listened from before, and the alerts of two scored films."""
    folder = tmp_path_factory.mktemp("alerts")
    for name, seed in (("gate", 40), ("yard", 41)):
        film(folder / "in" / f"{name}.mp4", 180, odd=range(90, 140), seed=seed)
    with redis_server() as (socket, _):
        url = f"unix://{socket}"
        log = folder / "follow.log"
        with started(log, "alerts", "--follow", "--json", REDIS_URL=url) as follower:
            time.sleep(2)
            done = oddwatch("score", folder / "in", "--model", fitted(), "--out", folder / "out", REDIS_URL=url)
            assert done.code == 0, done.err
            alerts = [json.loads(line) for line in (folder / "out/alerts.jsonl").read_text().splitlines()]
            assert len({a["camera"] for a in alerts}) == 2
            wait_for("the last alert", lambda: len(log.read_text().splitlines()) >= len(alerts), 20)
            follower.send_signal(signal.SIGINT)
            follower.wait(20)
        yield url, log, alerts


def phases(alerts: list[dict]) -> list[tuple[str, str]]:
    return sorted((a["id"], a["phase"]) for a in alerts)


def test_follow_prints_each_alert_once_as_a_line_of_json(followed: tuple[str, Path, list[dict]]) -> None:
    _, log, alerts = followed
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    assert phases([json.loads(line) for line in lines]) == phases(alerts)
    assert "Traceback" not in log.read_text()


@needs_redis_server
def test_redis_cli_alone_can_read_them(followed: tuple[str, Path, list[dict]]) -> None:
    url, _, alerts = followed
    command = [
        str(REDIS_CLI),
        "-s",
        url.removeprefix("unix://"),
        "xread",
        "block",
        "1000",
        "streams",
        "oddwatch:alerts",
        "0",
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    for alert in alerts:
        assert alert["id"] in said
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert phases(found) == phases(alerts)


def test_the_ten_lines_of_the_readme_follow_them(followed: tuple[str, Path, list[dict]], tmp_path: Path) -> None:
    url, _, alerts = followed
    block = re.search(r"<!-- subscriber -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block
    assert len(block[1].splitlines()) <= 10
    log = tmp_path / "log"
    with log.open("w") as f:
        process = subprocess.Popen([sys.executable, "-c", block[1]], env=environment(REDIS_URL=url), stdout=f, stderr=f)
    try:
        wait_for("all alerts", lambda: len(log.read_text().splitlines()) >= len(alerts), 20)
    finally:
        process.kill()
        process.wait()
    assert sum(line.startswith("open ") for line in log.read_text().splitlines()) == sum(
        a["phase"] == "open" for a in alerts
    )


def test_they_can_be_read_later_by_camera_and_since(followed: tuple[str, Path, list[dict]]) -> None:
    url, _, alerts = followed
    camera = alerts[0]["camera"]

    def ask(*arguments: str) -> list[dict]:
        done = oddwatch("alerts", "--json", *arguments, REDIS_URL=url)
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]

    assert phases(ask()) == phases(alerts)
    assert phases(ask("--camera", camera)) == phases([a for a in alerts if a["camera"] == camera])
    assert phases(ask("--since", "1h")) == phases(alerts)
    assert ask("--since", "2099-01-01T00:00") == []
    assert ask("--camera", "nobody") == []


def test_a_person_reads_when_where_and_how_odd(followed: tuple[str, Path, list[dict]]) -> None:
    url, _, alerts = followed
    lines = oddwatch("alerts", REDIS_URL=url).out.splitlines()
    assert len(lines) == len(alerts)
    close = next(a for a in alerts if a["phase"] == "close")
    assert any(
        line.startswith("close") and close["camera"] in line and close["severity"] in line and "peak" in line
        for line in lines
    )


def test_a_follower_says_that_its_redis_is_gone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ExitStack() as until_the_end:
        with redis_server() as (socket, _):
            process = until_the_end.enter_context(started(log, "alerts", "--follow", REDIS_URL=f"unix://{socket}"))
            time.sleep(2.5)
        wait_for("a word", lambda: "Redis does not answer" in log.read_text(), 20)
        assert process.poll() is None
        assert log.read_text().count("\n") == 1
