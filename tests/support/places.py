"""Where things lie: the repository, the tests' small data, and what lies beside a developer's checkout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
IN_CI = os.environ.get("ODDWATCH_CI") == "1"
"""There, what is not installed fails its tests instead of skipping them."""
SHARED_REQUIRED = os.environ.get("ODDWATCH_SHARED") == "required"
"""There, a test that needs `../shared` fails where it is absent."""


def shared(name: str, beside: Path = ROOT.parent) -> Path:
    """`../shared/NAME`, data too large for the repository. Absent: the test skips, or fails where it is required."""
    path = beside / "shared" / name
    if not path.exists():
        absent(f"needs ../shared/{name}", SHARED_REQUIRED)
    return path


def absent(reason: str, required: bool = IN_CI) -> NoReturn:
    """End a test that lacks something: a failure where that is required, else a skip."""
    if required:
        pytest.fail(reason)
    pytest.skip(reason)
