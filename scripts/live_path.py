"""Which files a live snippet crosses: every project file with a line executed from packet to alert, in all processes.

    python -m scripts.live_path [--seconds 15] [--tree CHECKOUT] [--json FILE]

A made film plays as a live camera at a low threshold, `oddwatch run` watches it under a tracer, and what is executed
once all is running is written down. Work that no snippet causes (heartbeats, leases, sweeping, supervising) is told
apart by the functions it begins with. `--tree` traces another checkout of the project, to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.bench import footage

ROOT = Path(__file__).parents[1]
START_S = 40.0
"""Until every worker runs, the camera is open, and the first snippets have passed."""
UPKEEP = (
    "Worker._upkeep", "Assignment.turn", "Assignment.rebalance", "Holdings.turn", "Renewer._run", "Keeper._run",
    "DecodeWorker.run", "DecodeWorker.turn", "Supervisor.run", "LocalWorkers.check",
    "Transport.look", "PixelRoute.look", "drained", "LastKnown.look",
    "EmbeddedServer.revive",
)  # fmt: skip
"""Functions that a clock calls, whether or not a picture comes."""
BEGINS = ("DecodeWorker._decode", "run_worker")
"""What a process is forked to do: its own work again, though a function of UPKEEP forked it."""
SETTINGS = """
models: {{novelty: {{checkpoint: {checkpoint}}}}}
alerts: {{raise_at: 0.02, clear_at: 0.01, min_length_s: 0.1, cooldown_s: 0, max_length_s: 2, update_every_s: 1}}
output: {{folder: {folder}, log_level: warning}}
cameras: {{door: {{source: "http://127.0.0.1:{port}/0"}}}}
"""
TRACER = """
import os, sys, threading, time
root, folder, begin = os.environ["TRACE_ROOT"], os.environ["TRACE_OUT"], float(os.environ["TRACE_FROM"])
ours = tuple(root + package for package in ("pipeline/", "stages/"))
upkeep, begins = {upkeep!r}, {begins!r}
seen, own = set(), threading.local()

def note(code):
    if time.time() >= begin:
        kind = "upkeep" if getattr(own, "upkeep", 0) else "path"
        key = kind, code.co_filename[len(root):], os.getpid()
        if key not in seen:
            seen.add(key)
            with open(os.path.join(folder, str(os.getpid())), "a") as f:
                f.write(kind + " " + key[1] + " " + code.co_qualname + chr(10))

def trace(frame, event, arg):
    code = frame.f_code
    if not code.co_filename.startswith(ours):
        return None
    name = code.co_qualname
    if name in begins:
        own.upkeep = 0
    if name in upkeep:
        own.upkeep = getattr(own, "upkeep", 0) + 1
        def leaving(frame, event, arg):
            note(code)
            if event == "return":
                own.upkeep = max(0, own.upkeep - 1)
            return leaving
        return leaving
    note(code)  # a generator that is resumed within another runs no line of its own
    def lines(frame, event, arg):
        if event == "line":
            note(code)
        return lines
    return lines

threading.settrace(trace)
sys.settrace(trace)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to watch (%(default)s)")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout to trace (this one)")
    parser.add_argument("--json", type=Path, help="write the lists")
    arguments = parser.parse_args()
    found = traced(arguments.tree.resolve(), arguments.seconds)
    on_path, told = found["path"], sorted(set(found["told"]) - set(found["path"]))
    upkeep = sorted(set(found["upkeep"]) - set(on_path) - set(told))
    for name in on_path:
        print(f"{_lines(arguments.tree, name):5} {name}")
    longest = max(_lines(arguments.tree, name) for name in on_path)
    print(f"{len(on_path)} files from packet to alert, the longest {longest} lines")
    print(f"{len(told)} more tell of it: {', '.join(told)}")
    print(f"besides, on time and not on the path: {', '.join(upkeep)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"path": on_path, "told": told, "upkeep": upkeep}, indent=1) + "\n")


def traced(tree: Path, seconds: float) -> dict[str, list[str]]:
    """Files with a line executed once all ran: `path`, `told` (in `run` itself: alerts delivered, shown) and `upkeep`.

    Raises RuntimeError if no alert came.
    """
    with TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "seen").mkdir()
        checkpoint, video = footage.checkpoint(work), footage.camera(work, 1500)
        (work / "sitecustomize.py").write_text(TRACER.format(upkeep=UPKEEP, begins=BEGINS))
        environment = {k: v for k, v in os.environ.items() if k != "REDIS_URL"} | {
            "PYTHONPATH": os.pathsep.join([str(work), str(tree)]),
            "TRACE_ROOT": f"{tree}/",
            "TRACE_OUT": str(work / "seen"),
            "TRACE_FROM": str(time.time() + START_S),
        }
        with _camera(video) as port:
            config = work / "run.yaml"
            config.write_text(SETTINGS.format(checkpoint=checkpoint, folder=work / "alerts", port=port))
            command = [sys.executable, "-m", "pipeline.cli", "run", str(config)]
            with (work / "log").open("w") as log:
                run = subprocess.Popen(command, cwd=tree, env=environment, stdout=log, stderr=log)
            time.sleep(START_S + seconds)
            found: dict[str, set[str]] = {"path": set(), "told": set(), "upkeep": set()}
            for file in (work / "seen").iterdir():
                for line in file.read_text().splitlines():
                    kind, name, _ = line.split(" ", 2)
                    found["told" if kind == "path" and file.name == str(run.pid) else kind].add(name)
            run.send_signal(signal.SIGINT)
            run.wait(60)
        alerts = work / "alerts" / "alerts.jsonl"
        if not alerts.exists() or not alerts.read_text().strip():
            raise RuntimeError(f"no alert came: {(work / 'log').read_text()[-2000:]}")
    return {kind: sorted(names) for kind, names in found.items()}


@contextmanager
def _camera(video: Path) -> Iterator[int]:
    """A port at which the video plays as a live camera, at 5 frames per second: a tracer is slow."""
    command = [sys.executable, "-m", "scripts.bench.live", str(video), "5"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.wait()


def _lines(tree: Path, name: str) -> int:
    return (tree / name).read_text().count("\n")


if __name__ == "__main__":
    main()
