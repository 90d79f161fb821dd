"""Packets of which no picture comes are gaps in their places. Takes about 8 s."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import av
import numpy as np
import pytest
from makers_video import write_video

from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import Source
from stages.messages import End, Gap


def read(path: Path, fps: float | None = None, threads: int = 0) -> tuple[np.ndarray, list[int], str]:
    """Times, frames in gaps, status."""
    source = Source(kind="file", uri=str(path), redacted=str(path), camera="clip")
    settings = DecodeSettings(height=48, fps=fps, threads=threads)
    messages = list(read_messages(source, settings, 1000, lambda: 5.0))
    assert isinstance(messages[-1], End)
    gaps = [m for m in messages if isinstance(m, Gap)]
    return (
        np.concatenate([m.times_s for m in messages]),
        [frame for m in gaps for frame in range(m.first_frame, m.next_frame)],
        messages[-1].status,
    )


def without(sound: Path, path: Path, lost: Collection[int] = (), half: Collection[int] = ()) -> Path:
    """The same packets, but for some that are lost, and some of which half is lost."""
    with av.open(str(sound)) as given, av.open(str(path), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for index, packet in enumerate(p for p in given.demux(given.streams.video[0]) if p.size):
            if index in half:
                cut = av.Packet(bytes(packet)[: packet.size // 2])
                cut.pts, cut.dts, cut.time_base = packet.pts, packet.dts, packet.time_base
                cut.is_keyframe = packet.is_keyframe
                packet = cut
            if index not in lost:
                packet.stream = stream
                made.mux(packet)
    return path


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("lost", "gaps"),
    [
        pytest.param(range(15), range(5), id="begins within a group"),
        pytest.param([20], range(20, 39), id="a keyframe is lost"),
        pytest.param([20, 40], range(20, 58), id="two keyframes are lost"),
    ],
)
def test_pictures_that_hevc_drops_are_gaps(tmp_path: Path, lost: Collection[int], gaps: range, threads: int) -> None:
    sound = write_video(tmp_path / "sound.mkv", 80, (160, 120), codec="libx265", gop=20)
    times_s, found, status = read(without(sound, tmp_path / "a.mkv", lost), threads=threads)

    left = np.array([i for i in range(80) if i not in lost]) / 25
    assert times_s == pytest.approx(left - left[0], abs=0.0011)
    assert found == list(gaps)
    assert status.startswith(f"damaged: {len(gaps)} packets cannot be decoded")


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mov"])
@pytest.mark.parametrize("half", [[7], range(20, 30), [0, 38]])
def test_half_a_motion_jpeg_picture_is_a_gap(tmp_path: Path, name: str, half: Collection[int]) -> None:
    sound = write_video(tmp_path / f"sound-{name}", 40, (160, 120), codec="mjpeg", pixel_format="yuvj420p")
    assert read(sound)[1:] == ([], "complete")
    times_s, found, status = read(without(sound, tmp_path / name, half=half))

    assert (len(times_s), found) == (40, sorted(half))
    assert status.startswith("damaged: ")


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "mpeg4"), ("a.mkv", "mpeg4"), ("a.mkv", "mpeg2video"), ("a.flv", "flv")]
)
def test_nothing_is_scored_before_the_first_keyframe(tmp_path: Path, name: str, codec: str) -> None:
    sound = write_video(tmp_path / f"sound-{name}", 60, (160, 120), codec=codec, gop=20)
    assert read(sound)[1:] == ([], "complete")
    _, found, status = read(without(sound, tmp_path / name, range(12)))

    assert found == list(range(8))
    assert status.startswith("damaged: ")


@pytest.mark.parametrize("b_frames", [0, 3])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_nothing_is_missing_from_a_sound_file(tmp_path: Path, name: str, codec: str, b_frames: int) -> None:
    if codec == "libx265" and name == "a.avi":
        pytest.skip("AVI holds no HEVC")
    times_s, found, status = read(write_video(tmp_path / name, 60, codec=codec, gop=20, b_frames=b_frames))

    assert (len(times_s), found, status) == (60, [], "complete")


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("frames", [25, 40])
def test_what_is_left_out_of_joined_fragments_is_named(tmp_path: Path, frames: int, parts: int) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    part = write_video(tmp_path / "part.mp4", frames, options=fragments).read_bytes()
    (tmp_path / "a.mp4").write_bytes(part * parts)
    times_s, _, status = read(tmp_path / "a.mp4")

    left_out = parts * frames - len(times_s)
    assert left_out > 0
    assert status.startswith(f"incomplete: {left_out} packets of a second recording")
