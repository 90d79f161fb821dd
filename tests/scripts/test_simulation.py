"""The simulation with synthetic cameras, small: what it says must be so. Some 40 s."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

SMALL = ("--fps", "8", "--servers", "embedded", "--cells", "50", "--thumb-bytes", "500", "--state-bytes", "2000")


def simulated(tmp_path: Path, *arguments: str) -> dict:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "scripts.simulate", *arguments, *SMALL, "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    [row] = json.loads(file.read_text())
    return row


@pytest.mark.parametrize(
    ("cameras", "seconds"), [(10, 1), pytest.param(50, 5, marks=pytest.mark.slow)], ids=["ten", "fifty"]
)
def test_cameras_go_through_all_stages(tmp_path: Path, cameras: int, seconds: int) -> None:
    row = simulated(tmp_path, "--cameras", str(cameras), "--seconds", str(seconds))
    assert row["tasks"] == {"features": [cameras], "temporal": [cameras], "alerting": [cameras]}
    assert row["offered_per_s"] == cameras / 2
    assert row["published_per_s"] > 0
    assert row["done_per_s"] > 0
    assert 0 <= row["p50_ms"] <= row["p99_ms"]
    assert row["server_ms"] > 0
    assert min(row["client_ms"].values()) > 0
    assert row["commands_per_snippet"] >= 8, "four stages commit, three read"
    assert row["servers_end_at"] > 0


@pytest.mark.slow
def test_a_dead_workers_cameras_go_to_the_others_evenly(tmp_path: Path) -> None:
    row = simulated(tmp_path, "--cameras", "12", "--death", "--lease-s", "2")
    assert row["before"] == [4, 4, 4]
    assert sorted(row["after"]) == [6, 6]
    assert row["taken_s"] > 0, "until its leases ran out, nobody could take them"
