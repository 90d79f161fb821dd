"""A camera to test against: serves a video's H.264 over RTSP, over and over, in real time, until killed.

    python tests/support/rtsp_server.py VIDEO PORT [tcp|udp]    # rtsp://127.0.0.1:PORT/stream; prints `ready`

`udp` is rtsp-rs, from the package index. `tcp` is GStreamer's server (which does both), when Debian's
gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good and -bad, and python3-gi are installed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

SYSTEM_PYTHON = "/usr/bin/python3"
GST_SERVER = Path(__file__).with_name("rtsp_server_gst.py")


def missing(transport: str) -> str:
    """What is not installed that serving over `transport` needs; empty if nothing."""
    if transport == "udp":
        try:
            import rtsp  # noqa: F401
        except ImportError:
            return "rtsp-rs is not installed"
        return ""
    check = [SYSTEM_PYTHON, str(GST_SERVER), "check"]
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run(check, capture_output=True).returncode:
        return "Debian's gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-{good,bad} are not installed"
    return ""


def start(video: Path, port: int, transport: str) -> subprocess.Popen[str]:
    """A server process that accepts connections; end it with `.kill()`."""
    command = [sys.executable, __file__, str(video), str(port), transport]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as said:
        ready = said.readline() == "ready\n"
    if not ready:
        process.kill()
        raise RuntimeError(f"{' '.join(command)} did not start")
    return process


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def access_units(video: Path) -> tuple[float, list[bytes]]:
    """(frames per second, H.264 pictures with start codes) of a video without B-frames."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        to_annex_b = BitStreamFilterContext("h264_mp4toannexb", stream)
        units = [bytes(out) for packet in container.demux(stream) if packet.size for out in to_annex_b.filter(packet)]
        return float(stream.average_rate or 25), units


def serve_udp(fps: float, units: list[bytes], port: int) -> None:
    """Serve with rtsp-rs."""
    import rtsp

    server = rtsp.Server(f"127.0.0.1:{port}")
    server.start()
    print("ready", flush=True)
    began_s, sent = time.monotonic(), 0
    while True:
        server.send_frame(units[sent % len(units)], round(90_000 / fps))
        sent += 1
        time.sleep(max(0.0, began_s + sent / fps - time.monotonic()))


def serve_tcp(fps: float, units: list[bytes], port: int) -> None:
    """Become Debian's Python with GStreamer: the same process, so that killing it kills the server."""
    with tempfile.TemporaryFile() as f:
        for unit in units:
            f.write(len(unit).to_bytes(4, "big") + unit)
        f.flush()
        os.set_inheritable(f.fileno(), True)
        os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, str(GST_SERVER), str(f.fileno()), str(fps), str(port)])


if __name__ == "__main__":
    rate, pictures = access_units(Path(sys.argv[1]))
    (serve_udp if sys.argv[3:] == ["udp"] else serve_tcp)(rate, pictures, int(sys.argv[2]))
