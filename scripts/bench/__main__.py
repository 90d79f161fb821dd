"""What Oddwatch costs, each figure measured beside what it is compared with, in this run.

    python -m scripts.bench [--quick] [--only ROW]... [--work DIR] [--json FILE] [--markdown FILE]

Footage is made; only the peers are fetched (from PyPI, into an environment of their own under --work, which is kept).
On a quiet machine of two cores the whole takes under twenty minutes; one-core, streaming, long and openvino only
come when asked for. --quick measures little, once: for trying it out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.processes.this_process import single_thread_libraries

single_thread_libraries()

from scripts.bench.row import Row, as_markdown, cores  # noqa: E402

FIGURES = {
    "pipeline": "pipeline",
    "decode": "decode",
    "handoff": "handoff",
    "cameras": "cameras",
    "memory": "memory",
    "latency": "latency",
    "peers": "peers",
    "gpu": "gpu",
}
WHEN_ASKED = {
    "one-core": "one_core", "streaming": "streaming", "long": "long", "openvino": "openvino",
}  # fmt: skip
"""Take minutes each, for what is not part of every run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*FIGURES, *WHEN_ASKED]
    parser.add_argument("--only", action="append", choices=names, metavar="ROW", help=f"one of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="little footage, one repeat")
    parser.add_argument("--work", type=Path, default=_cache(), help="where footage and peers are kept (%(default)s)")
    parser.add_argument("--json", type=Path, help="write all that was measured")
    parser.add_argument("--markdown", type=Path, help="write the table, as in docs/benchmarks.md")
    arguments = parser.parse_args()
    work = arguments.work / ("quick" if arguments.quick else "full")
    work.mkdir(parents=True, exist_ok=True)
    begun_s = time.monotonic()
    load = os.getloadavg()[0]
    rows: list[Row] = []
    for name in arguments.only or FIGURES:
        rows += _measured(name, work, arguments.quick)
    about = _about(arguments.quick, load, time.monotonic() - begun_s)
    table = f"{about['line']}\n\n{as_markdown(rows)}"
    print(f"\n{table}", end="")
    if arguments.json:
        arguments.json.write_text(json.dumps({"about": about, "rows": [r.as_json() for r in rows]}, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(table)


def _measured(name: str, work: Path, quick: bool) -> list[Row]:
    """The rows of one figure; a row that says why where it could not be measured."""
    begun_s = time.monotonic()
    print(f"{name} ...", end=" ", flush=True)
    try:
        rows: list[Row] = importlib.import_module(f"scripts.bench.rows.{(FIGURES | WHEN_ASKED)[name]}").measure(
            work, quick
        )
    except Exception as error:  # one figure that fails must not take the others with it
        rows = [Row(figure=name, against="", skipped=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")]
    if quick:
        rows = [replace(row, target=None, limit="") for row in rows]
    print(f"{time.monotonic() - begun_s:.0f} s", flush=True)
    for row in rows:
        print("  " + " | ".join(cell for cell in row.cells() if cell), flush=True)
    return rows


def _about(quick: bool, load: float, took_s: float) -> dict[str, Any]:
    line = (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {cores()} cores ({_processor()}), Python "
        f"{platform.python_version()}, load {load:.1f} at the start, {took_s / 60:.0f} minutes"
        f"{', --quick (no judgement)' if quick else ''}."
    )
    return {"line": line, "quick": quick, "cores": cores(), "load": load, "seconds": took_s}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oddwatch-bench"


if __name__ == "__main__":
    main()
