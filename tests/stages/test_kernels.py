"""The numeric tests under every kind of kernel that this processor runs: OpenBLAS chooses by the processor it finds."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest
from places import ROOT

pytestmark = pytest.mark.slow
NUMERIC = [f"tests/stages/{room}" for room in ("alerting", "evaluation", "temporal", "training")]
COMMANDS = "tests/stages/training/test_train_future_frame.py"
"""Starts processes, and computes with torch, which has kernels of its own."""
KINDS = ("Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX", "Cooperlake", "Sapphirerapids")
"""From SSE 4.2 by way of AVX and AVX2 to AVX-512 and its additions."""
PROBE = """
import numpy, scipy.linalg, threadpoolctl
x = numpy.random.default_rng(0).random((65, 65), numpy.float32)
assert numpy.allclose(x @ x, numpy.einsum("ij,jk->ik", x, x), rtol=1e-4)
scipy.linalg.svd(x)
print(*sorted({p["architecture"] for p in threadpoolctl.threadpool_info() if p.get("internal_api") == "openblas"}))
"""


def environment(kind: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "OPENBLAS_CORETYPE"))}
    # Threads of two processes of tests would wait for each other.
    alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return kept | alone | ({"OPENBLAS_CORETYPE": kind} if kind else {})


@cache
def kernels(kind: str) -> str:
    """What numpy and scipy compute with when a kind is asked for, or on their own; empty if this processor cannot."""
    done = subprocess.run([sys.executable, "-c", PROBE], env=environment(kind), capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def test_there_is_more_than_one_kind_to_try() -> None:
    assert len({kernels(kind) for kind in KINDS} - {""}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_do_not_depend_on_the_kind_of_kernel(kind: str) -> None:
    used = kernels(kind)
    if not used:
        pytest.skip("this processor does not run it")
    if used in [kernels(other) for other in ("", *KINDS[: KINDS.index(kind)])]:
        pytest.skip(f"it means {used} here, which is tried already")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--ignore", COMMANDS]
    done = subprocess.run([*command, *NUMERIC], cwd=ROOT, env=environment(kind), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
