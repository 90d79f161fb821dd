"""What lies behind a video, what else is in it, and what cannot be read without a key."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from makers_video import cut, picture, write_video

from stages.decode.containers.encrypted import is_encrypted
from stages.decode.containers.left_out import left_out
from stages.decode.containers.wholeness import bytes_missing
from stages.decode.read import DecodeSettings, open_recording
from stages.decode.source import expand
from stages.errors import SourceError

KEY = {"encryption_key": "76a6c65c5ea762046bd749a2e632ccbb", "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}


@pytest.mark.parametrize("behind", [b"text text " * 50, b"\xff" * 900, b"GPS1GPS2" * 90, b"\0" * 900], ids=repr)
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.asf"])
def test_what_lies_behind_a_video_does_not_make_it_truncated(tmp_path: Path, name: str, behind: bytes) -> None:
    path = write_video(tmp_path / name, 20, codec="mpeg4")
    path.write_bytes(path.read_bytes() + behind)
    assert bytes_missing(path) == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.asf"])
def test_a_cut_video_still_is(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    assert bytes_missing(cut(write_video(tmp_path / name, 40, codec="mpeg4", options=options), 0.7)) > 0


@pytest.mark.parametrize("scheme", ["mp4", "mov", "ts"])
def test_an_encrypted_video_is_called_that(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / f"a.{scheme}"
    if scheme == "ts":
        data = bytearray(write_video(path, 40).read_bytes())
        for at in range(0, len(data), 188):
            pid = int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF
            data[at + 3] |= 0x80 if pid == 256 else 0
        path.write_bytes(data)
    else:
        write_video(path, 40, options={"encryption_scheme": "cenc-aes-ctr", **KEY})
    assert is_encrypted(path)
    (source,) = expand([str(path)])
    with pytest.raises(SourceError, match=r"is encrypted"):
        next(open_recording(source, DecodeSettings(height=48)).pictures())


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_a_plain_one_is_not(tmp_path: Path, name: str) -> None:
    assert not is_encrypted(write_video(tmp_path / name, 20))


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
def test_further_video_streams_are_named(tmp_path: Path, name: str) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for number, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 64 << number, 48 << number, "yuv420p"
        for index in range(10):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture(index, stream.width, stream.height), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    assert left_out(str(tmp_path / name)).startswith("1 more video stream in it (")
    assert left_out(str(write_video(tmp_path / f"one{name}", 5))) == ""
