"""Arrows run one way, rooms stay small, and no process drags in what it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from house_rules import circles, faults, read_house, rooms
from places import ROOT

HEAVY = ("torch", "torchvision", "av", "cv2", "sklearn", "matplotlib")


def test_the_house_keeps_its_rules() -> None:
    assert faults(ROOT) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert circles(rooms(read_house(ROOT))) == []


SMALL_HOUSE = {
    "scripts/__init__.py": '"""For developers."""\n',
    "scripts/bench.py": "from pipeline.cli.app import main\n",
    "pipeline/__init__.py": '"""Moves messages."""\n\n__version__ = "1"\n',
    "pipeline/cli/__init__.py": '"""Commands."""\n',
    "pipeline/cli/app.py": (
        "from pipeline.loop import turn\n\n\ndef main() -> None:\n    from stages.net import Net\n\n    turn(Net)\n"
    ),
    "pipeline/loop.py": "import redis\n\nfrom stages.messages import End\n\n\ndef turn(net): ...\n",
    "stages/__init__.py": '"""What is done to messages."""\n',
    "stages/messages.py": "class End: ...\n",
    "stages/net.py": "import torch\n\nfrom stages.messages import End\n\n\nclass Net(torch.nn.Module): ...\n",
}


def build(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_small_house_that_keeps_them_has_no_fault(tmp_path: Path) -> None:
    assert faults(build(tmp_path, SMALL_HOUSE)) == []


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("stages/messages.py", "import pipeline.loop", "wrong way: stages.messages -> pipeline.loop"),
        (
            "stages/messages.py",
            "def f():\n    from pipeline import loop",
            "wrong way: stages.messages -> pipeline.loop",
        ),
        ("stages/messages.py", "from redis.exceptions import RedisError", "wrong way: stages.messages -> redis"),
        ("pipeline/loop.py", "from scripts import bench", "wrong way: pipeline.loop -> scripts.bench"),
        ("pipeline/loop.py", "import torch.nn", "at import time: pipeline.loop -> torch"),
        ("pipeline/loop.py", "class A:\n    import av", "at import time: pipeline.loop -> av"),
        ("pipeline/loop.py", "import stages.net", "at import time: pipeline.loop -> stages.net -> torch"),
        ("stages/__init__.py", "import torchvision", "-> stages -> torchvision"),
        ("pipeline/loop.py", "from pipeline.cli import app", "circle: "),
        ("pipeline/loop.py", "def f():\n    from .cli import app", "circle: "),
        ("stages/messages.py", "def f():\n    import stages.net", "circle: "),
        ("pipeline/cli/__init__.py", "from pipeline.cli.app import main", "code in an __init__.py: "),
        ("stages/__init__.py", "PATH = open('x')", "code in an __init__.py: "),
        ("pipeline/loop.py", "\n" * 320, "lines in one file: "),
    ],
)
def test_one_bad_line_is_a_fault(tmp_path: Path, file: str, line: str, said: str) -> None:
    found = faults(build(tmp_path, SMALL_HOUSE | {file: f"{SMALL_HOUSE[file]}{line}\n"}))
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"stages/room/thing.py": ""}, "no __init__.py: "),
        ({"stages/room/__init__.py": ""}, "docstring of 1 to 5 lines wanted: "),
        ({"stages/room/__init__.py": '"""' + "Too much.\n" * 6 + '"""\n'}, "docstring of 1 to 5 lines wanted: "),
        ({f"stages/file{n}.py": "" for n in range(14)}, "16 files in one folder: "),
    ],
)
def test_a_room_without_order_is_a_fault(tmp_path: Path, files: dict[str, str], said: str) -> None:
    (found,) = faults(build(tmp_path, SMALL_HOUSE | files))
    assert found.startswith(said)


def test_rooms_that_import_each_other_are_found(tmp_path: Path) -> None:
    shops = {f"stages/{room}/__init__.py": '"""A room."""\n' for room in "ab"}
    shops |= {"stages/a/one.py": "import stages.b.one\n", "stages/b/one.py": "", "stages/a/two.py": ""}
    assert circles(rooms(read_house(build(tmp_path, SMALL_HOUSE | shops)))) == []
    build(tmp_path, {"stages/b/one.py": "import stages.a.two\n"})
    (ring,) = circles(rooms(read_house(tmp_path)))
    assert ring in ("stages.a -> stages.b -> stages.a", "stages.b -> stages.a -> stages.b")


# -- in a fresh process ---------------------------------------------------------------------------------------------


def imported_with(*modules: str) -> set[str]:
    """All that is in `sys.modules` once these have been imported."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["pipeline.cli", "pipeline.cli.app"])
def test_the_command_comes_up_without_a_model_library(module: str) -> None:
    assert not imported_with(module) & set(HEAVY)


def test_the_whole_runtime_imports_no_model_library() -> None:
    names = [name for name in read_house(ROOT) if name.startswith("pipeline") and not name.endswith("__main__")]
    found = imported_with(*names)
    assert found >= set(names)
    assert not found & set(HEAVY)


@pytest.mark.parametrize(
    "module",
    ["pipeline.workers.loop", "pipeline.workers.alerting", "pipeline.supervisor.supervisor", "pipeline.ingest.file"],
)
def test_a_worker_starts_without_its_stage(module: str) -> None:
    """Each process imports the one stage that it runs."""
    assert not imported_with(module) & {
        "stages.decode.read",
        "stages.features.motion",
        "stages.temporal.novelty.fitted",
    }
