"""What every registered kind of source promises. A new kind adds a sample of itself here."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from makers_video import write_video

from stages.decode.read import open_recording, read_live, read_messages
from stages.decode.settings import DecodeSettings
from stages.decode.source import Source, expand, live_source
from stages.decode.sources.registry import SOURCES
from stages.errors import SourceError
from stages.messages import End, Snippet

FRAMES = 20
SETTINGS = DecodeSettings(height=32, snippet_frames=8)


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for n in range(FRAMES):
        pixels = np.full((48, 64, 3), 10 * n, np.uint8)
        av.VideoFrame.from_ndarray(pixels, format="rgb24").save(str(folder / f"{n}.png"))
    return folder


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "file": lambda folder: write_video(folder / "clip.mp4", FRAMES),
    "images": lambda folder: pictures(folder / "clip"),
}
each_recording = pytest.mark.parametrize("name", [kind.name for kind in SOURCES.all() if not kind.live])


@pytest.fixture
def source(name: str, tmp_path: Path) -> Source:
    (found,) = expand([str(SAMPLES[name](tmp_path))])
    return found


def test_there_are_those_that_the_documentation_names() -> None:
    assert {"file", "images", "live"} <= {*SOURCES.names()}


@each_recording
def test_a_sample_is_found_by_name_and_by_search_as_its_kind(name: str, source: Source) -> None:
    assert source.kind == name
    assert not source.live
    (searched,) = expand([str(Path(source.uri).parent)])
    assert searched == source


@each_recording
def test_its_pictures_rise_in_time_at_analysis_height_and_its_status_says_how_it_was(source: Source) -> None:
    reader = open_recording(source, SETTINGS)
    times_s = []
    for picture in reader.pictures():
        times_s.append(picture.time_s)
        assert picture.fault == ""
        pixels = picture.pixels()
        assert (pixels.dtype, pixels.shape[0], pixels.shape[2]) == (np.uint8, 32, 3)
    assert len(times_s) == FRAMES
    assert times_s == sorted(set(times_s))
    assert reader.status == "complete"


@each_recording
def test_read_again_it_gives_the_same_messages_and_its_beats_are_heard(source: Source) -> None:
    beats: list[int] = []
    first, second = (list(read_messages(source, SETTINGS, 1, lambda: 0.0, lambda: beats.append(1))) for _ in range(2))
    assert [type(m) for m in first] == [Snippet, Snippet, Snippet, End]
    for one, other in zip(first, second, strict=True):
        assert one.header().keys() == other.header().keys()
        assert isinstance(one, End) or one.pixels.tobytes() == other.pixels.tobytes()  # type: ignore[union-attr]
    assert len(beats) >= 2 * FRAMES


@each_recording
def test_it_can_be_left_in_the_middle(source: Source) -> None:
    messages = read_messages(source, SETTINGS, 1, lambda: 0.0)
    next(messages)
    messages.close()


@each_recording
def test_what_has_gone_is_told_as_such(name: str, tmp_path: Path) -> None:
    gone = Source(kind=name, uri=str(tmp_path / "gone"), redacted="gone", camera="clip")
    with pytest.raises(SourceError, match="gone"):
        list(read_messages(gone, SETTINGS, 1, lambda: 0.0))


@pytest.mark.parametrize("name", [kind.name for kind in SOURCES.all() if kind.live])
def test_a_live_one_is_read_as_such_and_says_when_it_cannot_be_opened(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there any more
    camera = live_source(f"rtsp://me:secret@127.0.0.1:{port}/x", "door")
    assert (camera.kind, camera.live) == (name, True)
    with pytest.raises(ValueError, match="is live"):
        next(read_messages(camera, SETTINGS, 1, lambda: 0.0))
    with pytest.raises(SourceError, match=r"door|127") as caught:
        next(read_live(camera, DecodeSettings(open_timeout_s=5, read_timeout_s=5), 1, time.time))
    assert "secret" not in str(caught.value)
