"""Live cameras for the benchmark: a video sent over HTTP in real time, and `oddwatch run` that watches it.

python scripts/bench/live.py VIDEO FPS    # prints its port; every connection gets the video from its beginning
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import redis

from scripts.bench.score import environment

START_S = 90.0
STAGGER_S = 0.13
"""From one camera to the next: real ones do not send in step."""


@contextmanager
def watched(work: Path, video: Path, fps: float, cameras: int, settings: str) -> Iterator[tuple[int, redis.Redis]]:
    """(process of `oddwatch run`, its Redis) while it watches `cameras` cameras that send the video at `fps`."""
    server = subprocess.Popen(
        [sys.executable, "-m", "scripts.bench.live", str(video), str(fps)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    log = work / "run.log"
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        config = work / "run.yaml"
        names = "".join(f"  cam{i}: {{source: 'http://127.0.0.1:{port}/{i}'}}\n" for i in range(cameras))
        config.write_text(f"{settings}\ncameras:\n{names}")
        with log.open("w") as f:
            run = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "run", str(config)], stdout=f, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, env=environment(),
            )  # fmt: skip
        try:
            yield run.pid, redis.Redis.from_url(_url(run, log), socket_timeout=10)
        finally:
            run.send_signal(signal.SIGINT)
            run.wait(60)
    finally:
        server.kill()
        server.wait()


def _url(run: subprocess.Popen[bytes], log: Path) -> str:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and run.poll() is None:
        if found := re.search(r"REDIS_URL=(\S+)", log.read_text()):
            return found[1].strip("'\"")
        time.sleep(0.1)
    raise RuntimeError(f"oddwatch run did not start: {log.read_text()[-2000:]}")


class _Parts:
    """What a muxer writes, one part for each picture."""

    def __init__(self) -> None:
        self.parts: list[bytes] = [b""]

    def write(self, data: bytes) -> int:
        self.parts[-1] += bytes(data)
        return len(data)


def as_transport_stream(video: Path) -> list[bytes]:
    """The bytes of each picture in MPEG-TS; nothing is encoded again."""
    parts = _Parts()
    with av.open(str(video)) as source, av.open(parts, "w", format="mpegts", options={"flush_packets": "1"}) as out:
        stream = source.streams.video[0]
        to = out.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = to
                out.mux(packet)
                parts.parts.append(b"")
    return [part for part in parts.parts if part]


def serve(pictures: list[bytes], fps: float) -> None:
    """Send them to whoever connects, one every 1 / fps seconds.

    Plain sockets and threads: a camera takes nothing of the machine that watches it, and this one should take little.
    """

    def send(to: socket.socket) -> None:
        with to, suppress(ConnectionError):
            number = int(to.recv(4096).split()[1].strip(b"/") or b"0")
            to.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n")
            begun_s = time.monotonic() + STAGGER_S * number
            for index, picture in enumerate(pictures):
                time.sleep(max(0.0, begun_s + index / fps - time.monotonic()))
                to.sendall(picture)

    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=send, args=(server.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    serve(as_transport_stream(Path(sys.argv[1])), float(sys.argv[2]))
