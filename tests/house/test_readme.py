"""What the README says is so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.streams import connect
from pipeline.config.load import load_config

README = (ROOT / "README.md").read_text()
SILENCE_S = 8.0
"""Longer than the 5 s that redis-py waits for an answer, with room for the start of a process."""


def oddwatch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pipeline.cli", *arguments], capture_output=True, text=True, cwd=ROOT)


def test_every_command_of_the_readme_exists() -> None:
    commands = sorted(set(re.findall(r"^(?:\s*|.*`)oddwatch ([a-z]+)", README, flags=re.MULTILINE)))
    assert {"score", "fit", "run", "alerts", "status", "check", "evaluate"} <= set(commands)
    helped = oddwatch("--help").stdout
    assert all(f" {command} " in helped for command in commands)


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL))
def test_the_configurations_of_the_readme_load(tmp_path: Path, block: str) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(block)
    assert load_config(path, {"DOOR_LOGIN": "viewer:secret"}).cameras


def test_the_ten_lines_of_python_outlive_a_silence_and_then_tell_the_alert() -> None:
    """A client of redis gives up a read after 5 s; a camera may have nothing to say for days."""
    (block,) = re.findall(r"<!-- subscriber -->\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(block.strip().splitlines()) <= 10
    alert = {"phase": "open", "camera": "door", "start_s": 1.5, "severity": "high"}
    with EmbeddedServer(memory_mb=64) as server:
        subscriber = subprocess.Popen(
            [sys.executable, "-c", block], env=os.environ | {"REDIS_URL": server.url}, stdout=subprocess.PIPE, text=True
        )
        assert subscriber.stdout is not None
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                subscriber.wait(SILENCE_S)
            connect(server.url).xadd("oddwatch:alerts", {"alert": json.dumps(alert)})
            assert subscriber.stdout.readline() == "open door 1.5 high\n"
        finally:
            subscriber.kill()
            subscriber.wait()
            subscriber.stdout.close()
