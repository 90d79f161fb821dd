"""Cameras: a real RTSP server, a black hole, a dead port. Takes about 15 s, most of it real time."""

import itertools
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rtsp_server
from makers_video import write_video
from places import absent

from stages.decode.read import DecodeSettings, read_live
from stages.decode.snippets import DecodeOutput
from stages.decode.source import live_source
from stages.errors import SourceError
from stages.messages import End, Gap, Prior, Snippet

QUICK = DecodeSettings(height=48, snippet_frames=8, open_timeout_s=5, read_timeout_s=1)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


@pytest.fixture(params=["tcp", "udp"])
def transport(request: pytest.FixtureRequest) -> str:
    if missing := rtsp_server.missing(request.param):
        absent(missing)
    return str(request.param)


def settings(transport: str) -> DecodeSettings:
    return DecodeSettings(height=48, snippet_frames=8, open_timeout_s=5, read_timeout_s=1, transport=transport)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_camera_that_says_nothing_is_given_up(black_hole: int, scheme: str) -> None:
    beats = []
    camera = live_source(f"{scheme}://me:hunter2@127.0.0.1:{black_hole}/stream", "door")
    patient = DecodeSettings(open_timeout_s=0.5, read_timeout_s=0.5)
    with pytest.raises(SourceError, match=r"no answer within 0\.5 s") as refusal:
        list(read_live(camera, patient, 1000, time.time, lambda: beats.append(1)))

    assert "hunter2" not in str(refusal.value)
    assert beats


@pytest.mark.parametrize(
    "uri", ["rtsp://me:hunter2@127.0.0.1:{0}/x", "http://me:hunter2@127.0.0.1:{0}/x", "/dev/video99"]
)
def test_a_camera_that_is_not_there_is_an_error(uri: str) -> None:
    camera = live_source(uri.format(rtsp_server.free_port()), "door")
    with pytest.raises(SourceError, match="cannot be opened") as refusal:
        list(read_live(camera, QUICK, 1000, time.time))

    assert "hunter2" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_camera_that_sends_what_cannot_be_decoded_is_told_of(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 40, codec="mpeg4", options={"movflags": "faststart"})
    data = bytearray(video.read_bytes())
    pictures = data.index(b"mdat") + 4
    data[pictures:] = np.random.default_rng(0).bytes(len(data) - pictures)

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever).start()
        camera = live_source(f"http://127.0.0.1:{server.server_port}/stream.mp4", "door")
        seconds = itertools.count()
        reader = read_live(camera, settings("tcp"), 1000, time.time, monotonic=lambda: float(next(seconds)))
        messages, error = read_until_it_fails(reader, 99, lambda: None)
        server.shutdown()

    assert "sends data, but for 1 s no picture in it can be decoded" in error
    assert [type(m) for m in messages] == [End]


def read_until_it_fails(
    reader: Iterator[DecodeOutput], after: int, then: Callable[[], None]
) -> tuple[list[DecodeOutput], str]:
    """The messages of a run, and its error; calls `then` when there are `after` of them."""
    messages = []
    try:
        for message in reader:
            messages.append(message)
            if len(messages) == after:
                then()
    except SourceError as error:
        return messages, str(error)
    raise AssertionError("the run ended without an error")


def test_a_camera_is_read_until_it_dies_and_again_when_it_is_back(tmp_path: Path, transport: str) -> None:
    video = write_video(tmp_path / "a.mp4", 40, fps=20, gop=10)
    port = rtsp_server.free_port()
    camera = live_source(f"rtsp://me:hunter2@127.0.0.1:{port}/stream", "door")
    prior = Prior(run_ms=500, frames=9, down_s=2.0)
    for _ in range(2):
        server = rtsp_server.start(video, port, transport)
        beats: list[int] = []
        reader = read_live(camera, settings(transport), 1000, time.time, lambda b=beats: b.append(1), prior=prior)
        messages, error = read_until_it_fails(reader, 3, server.kill)
        server.wait()

        assert error.startswith(f"rtsp://***@127.0.0.1:{port}/stream: ")
        assert isinstance(messages[0], Snippet)
        assert messages[0].pixels.shape == (8, 48, 64, 3)
        assert all(m.live and m.prior == prior for m in messages)
        assert [m.first_frame for m in messages[1:]] == [m.next_frame for m in messages[:-1]]
        assert not any(isinstance(m, Gap) for m in messages)
        assert isinstance(messages[-1], End)
        assert messages[-1].status.startswith("disconnected: ")
        times_s = np.concatenate([m.times_s for m in messages])
        assert np.all(np.diff(times_s) >= 0)
        assert times_s[0] > 0
        assert len(beats) > messages[-1].first_frame


def test_a_camera_that_stops_sending_is_given_up(tmp_path: Path, transport: str) -> None:
    if not hasattr(signal, "SIGSTOP"):
        pytest.skip("no SIGSTOP here")
    video = write_video(tmp_path / "a.mp4", 40, fps=20, gop=10)
    port = rtsp_server.free_port()
    server = rtsp_server.start(video, port, transport)
    try:
        camera = live_source(f"rtsp://127.0.0.1:{port}/stream", "door")
        reader = read_live(camera, settings(transport), 1000, time.time)
        messages, error = read_until_it_fails(reader, 1, lambda: server.send_signal(signal.SIGSTOP))
    finally:
        server.kill()
        server.wait()

    assert "nothing received for 1 s" in error or "connection lost" in error
    assert isinstance(messages[-1], End)


def test_stopping_ends_the_run_without_an_error(tmp_path: Path, transport: str) -> None:
    video = write_video(tmp_path / "a.mp4", 40, fps=20, gop=10)
    port = rtsp_server.free_port()
    server = rtsp_server.start(video, port, transport)
    try:
        camera = live_source(f"rtsp://127.0.0.1:{port}/stream", "door")
        messages: list[DecodeOutput] = []
        for message in read_live(camera, settings(transport), 1000, time.time, stopping=lambda: len(messages) >= 2):
            messages.append(message)
    finally:
        server.kill()
        server.wait()

    assert isinstance(messages[-1], End)
    assert messages[-1].status == "stopped"
    assert messages[-1].first_frame >= 16
