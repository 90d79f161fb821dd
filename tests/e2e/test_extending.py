"""The package of docs/extending.md, exactly as it stands there, built, installed and at work. About 40 s.

A fresh environment is made; what Oddwatch depends on is borrowed from this one.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from email import message_from_bytes
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from places import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE))
ODD = range(300, 350)
LONGEST = 60


def test_each_part_is_whole_and_short() -> None:
    assert {Path(name).name for name in FILES} == {
        "pyproject.toml", "__init__.py", "tones.py", "drift.py", "maildir.py", "example.yaml",
    }  # fmt: skip
    assert {name: n for name, text in FILES.items() if (n := text.count("\n")) >= LONGEST} == {}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package's files, a film, and an environment in which it and Oddwatch are installed."""
    folder = tmp_path_factory.mktemp("extending")
    for name, text in FILES.items():
        path = folder / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.move(folder / "package" / "example.yaml", folder)
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, folder / "oddwatch" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "oddwatch")
    venv.create(folder / "venv", symlinks=True)
    borrowed = folder / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / "borrowed.pth"
    # Where packages lie, not this one's metadata of Oddwatch: that is found in the new environment first.
    borrowed.write_text(f"{Path(yaml.__file__).parents[1]}\n")
    python = folder / "venv" / "bin" / "python"
    offline = ["install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    for package in ("oddwatch", "package"):
        run([python, "-m", "pip", *offline, folder / package], folder)
    film(folder / "clip.mp4")
    line = {"video": "clip.mp4", "anomalies": [[ODD[0], ODD[-1]]]}
    (folder / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def run(command: list, folder: Path) -> str:
    told = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "REDIS_URL")}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def oddwatch(folder: Path, *arguments: str) -> str:
    return run([folder / "venv" / "bin" / "oddwatch", *arguments], folder)


def film(path: Path) -> None:
    """Noise, and for two seconds a light."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(450):
            pixels = rng.integers(60, 90, (48, 64, 3), np.uint8)
            if n in ODD:
                pixels[:24, :32] = 240
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.slow
def test_the_package_scores_delivers_and_is_evaluated(place: Path) -> None:
    where = [place / "venv" / "bin" / "python", "-c", "import pipeline, oddwatch_example; print(pipeline.__file__)"]
    assert Path(run(where, place).strip()).is_relative_to(place / "venv")
    score = ("score", "clip.mp4", "--config", "example.yaml", "--out", "scores")
    mails = place / "mail" / "new"

    oddwatch(place, *score)
    rows = list(csv.DictReader((place / "scores" / "clip.scores.csv").read_text().splitlines()))
    drift = np.array([float(row["drift"]) for row in rows])
    assert len(drift) == 450
    assert drift[list(ODD)].mean() > 3 * np.delete(drift, list(ODD))[150:].mean()
    alerts = [json.loads(line) for line in (place / "scores" / "alerts.jsonl").read_text().splitlines()]
    assert any(alert["phase"] == "open" for alert in alerts)
    assert not mails.exists(), "told without --deliver"

    oddwatch(place, *score, "--deliver")
    told = sorted(mails.iterdir())
    assert len(told) == len(alerts)
    mail = message_from_bytes(told[0].read_bytes())
    assert mail["To"] == "guard@example.org"
    assert any(part.get_content_type() == "image/jpeg" for part in mail.walk())
    for path in told:
        path.unlink()
    oddwatch(place, *score, "--deliver")
    assert list(mails.iterdir()) == [], "a finished file was told again"

    oddwatch(place, "evaluate", "--manifest", "manifest.jsonl", "--config", "example.yaml", "--out", "evaluation")
    assert json.loads((place / "evaluation" / "metrics.json").read_text())["roc_auc"] > 0.9
