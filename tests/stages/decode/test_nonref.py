"""Sub-sampling that does not decode what it drops: the same messages, sooner. Takes about 8 s."""

from pathlib import Path

import av
import pytest
from makers_video import scribble, write_video

import stages.decode.sources.video_file
from pipeline.bus.codec import encode
from stages.decode.nonref import NonRefSkipper
from stages.decode.read import DecodeSettings, read_messages
from stages.decode.snippets import DecodeOutput
from stages.decode.source import Source


def read(path: Path, settings: DecodeSettings) -> list[DecodeOutput]:
    source = Source(kind="file", uri=str(path), redacted=str(path), camera="clip")
    return list(read_messages(source, settings, 1000, lambda: 5.0))


def with_pyramid(path: Path, frames: int = 90, **options: object) -> Path:
    """B-frames in two levels: many pictures are built upon by none."""
    return write_video(path, frames, (160, 120), b_frames=3, gop=25, **options)  # type: ignore[arg-type]


class Counted:
    """Counts what is skipped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packets = self.skipped = 0
        skips = NonRefSkipper.skips

        def counting(skipper: NonRefSkipper, packet: av.Packet) -> bool:
            skipped = skips(skipper, packet)
            self.packets, self.skipped = self.packets + 1, self.skipped + skipped
            return skipped

        monkeypatch.setattr(NonRefSkipper, "skips", counting)


def all_decoded(path: Path, settings: DecodeSettings, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    with monkeypatch.context() as patch:
        patch.setattr(stages.decode.sources.video_file, "nonref_skipper", lambda stream, fps: None)
        return [encode(m) for m in read(path, settings)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("fps", [1.0, 6.0, 11.0])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_what_is_skipped_changes_nothing(
    tmp_path: Path, name: str, fps: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_pyramid(tmp_path / name)
    settings = DecodeSettings(height=48, fps=fps, threads=threads)
    whole = all_decoded(path, settings, monkeypatch)
    counted = Counted(monkeypatch)

    assert [encode(m) for m in read(path, settings)] == whole
    if name in ("a.mp4", "a.mkv", "a.ts"):
        assert counted.skipped > 0.2 * counted.packets


def test_a_variable_frame_rate_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times_s = [0.5 + 0.04 * i + (2.5 if i > 30 else 0) + 0.013 * (i % 3) for i in range(90)]
    path = with_pyramid(tmp_path / "a.mp4", times_s=times_s)
    settings = DecodeSettings(height=48, fps=7)
    whole = all_decoded(path, settings, monkeypatch)
    counted = Counted(monkeypatch)

    assert [encode(m) for m in read(path, settings)] == whole
    assert counted.skipped > 10


def test_pictures_that_others_build_on_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 60)  # no B-frames
    counted = Counted(monkeypatch)
    read(path, DecodeSettings(height=48, fps=2))

    assert (counted.packets, counted.skipped) == (60, 0)


def test_a_clock_that_starts_again_is_read_as_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = with_pyramid(tmp_path / "a.ts"), with_pyramid(tmp_path / "b.ts", 60)
    first.write_bytes(first.read_bytes() + second.read_bytes())
    settings = DecodeSettings(height=48, fps=5)
    whole = all_decoded(first, settings, monkeypatch)

    assert [encode(m) for m in read(first, settings)] == whole


@pytest.mark.parametrize("seed", range(4))
def test_damage_does_not_depend_on_threads(tmp_path: Path, seed: int) -> None:
    path = scribble(with_pyramid(tmp_path / "a.ts"), 0.3 + 0.1 * seed, 700, seed)
    one, three = (read(path, DecodeSettings(height=48, fps=5, threads=n)) for n in (1, 3))

    assert [encode(m) for m in one] == [encode(m) for m in three]


def test_a_recording_that_begins_in_the_middle_is_read_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_pyramid(tmp_path / "a.ts", 120)
    data = path.read_bytes()
    path.write_bytes(data[188 * (len(data) // 188 // 5) :])
    settings = DecodeSettings(height=48, fps=5)

    assert [encode(m) for m in read(path, settings)] == all_decoded(path, settings, monkeypatch)
