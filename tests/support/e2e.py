"""Runs the `oddwatch` command as a user does, and looks at the processes and the Redis behind it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import pytest
import redis
from places import IN_CI, ROOT
from private import made_once

REDIS_SERVER = shutil.which("redis-server")
REDIS_CLI = shutil.which("redis-cli")
COMMAND = [sys.executable, "-m", "pipeline.cli"]
LIMIT_S = 90.0
needs_redis_server = pytest.mark.skipif(not REDIS_SERVER and not IN_CI, reason="redis-server is not installed")

Env = dict[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


def environment(**extra: str) -> Env:
    """This process' environment without anything that would change what the command does."""
    kept = {k: v for k, v in os.environ.items() if k not in ("REDIS_URL", "COLUMNS")}
    return kept | {"PYTHONPATH": str(ROOT)} | extra


def oddwatch(*arguments: object, **env: str) -> Ended:
    """Run a command to its end."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], env=environment(**env), capture_output=True, text=True, timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def started(log: Path, *arguments: object, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, its output in `log`; killed with all it started when the block ends."""
    with log.open("w") as f:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], env=environment(**env), stdout=f, stderr=subprocess.STDOUT, text=True,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        for pid in [*family(process.pid), process.pid]:
            kill(pid)
        process.wait()


def kill(pid: int, signum: int = signal.SIGKILL) -> bool:
    """Whether there was still something to kill."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def wait_for(what: str, look: Callable[[], T], limit_s: float = LIMIT_S, pause_s: float = 0.05) -> T:
    """The first true answer. Fails the test if there is none. Give a pause where looking is itself work."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(pause_s)
    raise AssertionError(f"{what}: not within {limit_s:g} s")


# -- processes ----------------------------------------------------------------------------------------------------


def family(pid: int) -> dict[int, str]:
    """All descendants that run, with their titles."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        state, parent = text.rpartition(")")[2].split()[:2]
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found: dict[int, str] = {}
    front = {pid}
    while front:
        front = {child for child, parent in parents.items() if parent in front}
        found |= {child: title(child) for child in front}
    return found


def title(pid: int) -> str:
    """The process title as `ps` shows it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def members(pid: int, name: str) -> list[int]:
    """Descendants whose title begins with `oddwatch <name>`."""
    return sorted(p for p, t in family(pid).items() if t.startswith(f"oddwatch {name}"))


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A $TMPDIR of a test's own, short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="ow-") as folder:
        yield Path(folder)


# -- footage --------------------------------------------------------------------------------------------------------


def film(path: Path, frames: int, *, odd: range = range(0), size: tuple[int, int] = (160, 120), seed: int = 0) -> Path:
    """People-sized squares that stroll over a textured ground; in `odd` frames a big one races through."""
    width, height = size
    rng = np.random.default_rng(seed)
    ground = np.clip(rng.normal(110, 25, (height // 4, width // 4, 1)), 30, 200).repeat(4, 0).repeat(4, 1)
    skins = rng.integers(20, 235, (4, 16, 10, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 12
        for index in range(frames):
            picture = np.repeat(ground, 3, 2) + rng.normal(0, 2, (height, width, 1))
            for n, skin in enumerate(skins):
                left = int(20 * n + (index + 60 * n) * (1 if n % 2 else -1)) % (width - 10)
                picture[18 + 24 * n : 34 + 24 * n, left : left + 10] = skin
            if index in odd:
                left = (index - odd.start) * 9 % (width - 40)
                picture[40:90, left : left + 40] = rng.integers(0, 255, (10, 8, 3)).repeat(5, 0).repeat(5, 1)
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def fitted() -> Path:
    """A checkpoint fitted on normal footage; made once for all tests."""
    return made_once("fitted", _fit) / "squares.safetensors"


def _fit(folder: Path) -> None:
    film(folder / "normal.mp4", 250, seed=5)
    done = oddwatch("fit", "--normal", folder / "normal.mp4", "--out", folder / "squares.safetensors")
    assert done.code == 0, done.err


# -- what a score leaves --------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


def score_files_in(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of every scores file."""
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.scores.csv"))}


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


# -- Redis ----------------------------------------------------------------------------------------------------------


@contextmanager
def redis_server(*options: str) -> Iterator[tuple[Path, int]]:
    """Debian's redis-server, on a socket and on a port of its own."""
    from rtsp_server import free_port

    assert REDIS_SERVER
    folder = Path(tempfile.mkdtemp(prefix="ow-"))
    socket, port = folder / "redis.sock", free_port()
    command = [
        REDIS_SERVER, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(socket), "--dir", str(folder),
        "--save", "", "--maxmemory", "300mb", "--maxmemory-policy", "noeviction", *options,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for("redis-server", socket.exists, 20)
        yield socket, port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def everything_in(client: redis.Redis) -> bytes:
    """All keys and values, end to end."""
    reads = {
        b"string": client.get, b"hash": client.hgetall, b"stream": client.xrange, b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1), b"none": lambda key: b"",
    }  # fmt: skip
    return b"\n".join(repr((key, reads[client.type(key)](key))).encode() for key in client.scan_iter())
