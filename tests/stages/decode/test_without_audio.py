"""A film without its sound is the same film. Takes about 2 s."""

import io
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from makers_video import cut, picture, scribble, write_audio, write_video

from pipeline.bus.codec import encode
from stages.decode.containers.without_audio import WithoutAudio, without_audio
from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import Source


def write_film(path: Path, frames: int = 30, b_frames: int = 0, late_s: float = 0.0, **options: str) -> Path:
    """Pictures, and a sound that begins `late_s` after them."""
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.max_b_frames = b_frames
        audio = container.add_stream("aac", rate=8000, layout="mono")
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, 64, 48), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.time_base = 8000, Fraction(1, 8000)
            sound.pts = round(late_s * 8000) + 320 * index
            container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())
    return path


def elsewhere(do: Callable[[], object]) -> None:
    """In a thread, where no signal interrupts."""
    problems: list[BaseException] = []

    def safely() -> None:
        try:
            do()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=safely)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


def hushed(path: Path) -> WithoutAudio | None:
    found: list[WithoutAudio | None] = []
    elsewhere(lambda: found.append(without_audio(path)))
    return found[0]


def packets(file: WithoutAudio | str) -> list[tuple]:
    with av.open(file) as container:
        video = container.streams.video[0]
        told = (video.time_base, video.average_rate, video.guessed_rate, video.frames, video.codec_context.extradata)
        return [told, *((p.pts, p.dts, p.duration, p.is_keyframe, bytes(p)) for p in container.demux(video))]


def messages(path: Path) -> list[dict]:
    source = Source(kind="file", uri=str(path), redacted=str(path), camera="clip")
    return [encode(m) for m in read_messages(source, DecodeSettings(height=48), 1, lambda: 0.0)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize(
    "film", [{}, {"b_frames": 2}, {"late_s": 0.5}, {"movflags": "faststart"}, {"b_frames": 2, "use_editlist": "0"}]
)
def test_the_pictures_are_those_of_the_whole_film(tmp_path: Path, name: str, film: dict) -> None:
    path = write_film(tmp_path / name, **film)
    silent = hushed(path)
    assert silent is not None
    with av.open(silent) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    silent = hushed(path)
    assert silent is not None
    assert packets(silent) == packets(str(path))
    assert len(packets(str(path))) == 32


@pytest.mark.parametrize("harm", [None, lambda path: scribble(path, 0.5, 400), lambda path: cut(path, 0.7)])
def test_what_is_read_without_sound_is_what_is_read_with_it(
    tmp_path: Path, harm: Callable[[Path], Path] | None
) -> None:
    path = write_film(tmp_path / "a.mp4", b_frames=2, movflags="faststart")
    if harm:
        harm(path)
    loud, silent = messages(path), list[dict]()
    elsewhere(lambda: silent.extend(messages(path)))
    assert silent == loud


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    assert hushed(write_video(tmp_path / "a.mp4")) is None
    assert hushed(write_film(tmp_path / "a.mkv")) is None
    assert hushed(write_audio(tmp_path / "a.mov")) is None
    assert hushed(write_film(tmp_path / "b.mp4", movflags="frag_keyframe")) is None
    assert hushed(cut(write_film(tmp_path / "c.mp4"), 0.5)) is None


def test_where_ctrl_c_may_come_in_between_ffmpeg_reads_itself(tmp_path: Path) -> None:
    assert without_audio(write_film(tmp_path / "a.mp4")) is None


def test_every_way_of_reading_finds_the_names_changed_and_nothing_else(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4")
    data = path.read_bytes()
    at = data.rindex(b"trak")
    changed = data[:at] + b"free" + data[at + 4 :]
    for size in (1, 2, 3, 5, 4096, len(data)):
        silent = hushed(path)
        assert silent is not None
        silent.seek(at - 9)
        read = b"".join(iter(lambda n=size, s=silent: s.read(n), b""))  # type: ignore[misc]
        assert read == changed[at - 9 :]
        assert silent.tell() == len(data)


def test_a_disk_that_fails_is_an_error_of_ffmpegs() -> None:
    silent = WithoutAudio(io.FileIO("/proc/self/mem"), [])  # nothing can be read at its beginning
    with pytest.raises(av.FFmpegError, match="Input/output error"):
        silent.read(10)
    with pytest.raises(av.FFmpegError, match="Input/output error"), av.open(silent):
        pass
