"""Writes constraints.txt: the newest release of everything that Oddwatch and its tests need, as pip resolves it now.

    make lock    # then run the tests: a constraint says "tested"

Nothing is installed. What another platform would need besides is not in the file, and so not constrained there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = "# The releases that the tests ran with. Written by `make lock`; used by make and the Dockerfile.\n"


def resolved() -> list[str]:
    """`name==version` of every distribution, sorted. Raises CalledProcessError if they do not go together."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*command, ".[dev]"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    return sorted(f"{_name(m['name'])}=={m['version']}" for m in found if m["name"] != "oddwatch")


def _name(written: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", written).lower()


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(HEAD + "".join(f"{line}\n" for line in resolved()))
