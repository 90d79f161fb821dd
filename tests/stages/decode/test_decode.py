"""Files and folders of pictures to messages, whole and broken ones. Takes about 10 s."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from makers_video import cut, picture, scribble, write_audio, write_video
from places import shared

from pipeline.bus.codec import encode
from stages.decode.containers.wholeness import bytes_missing
from stages.decode.frames import analysis_size
from stages.decode.read import DecodeSettings, read_messages
from stages.decode.snippets import DecodeOutput
from stages.decode.source import Source, expand
from stages.errors import SourceError
from stages.messages import End, Gap, Snippet

SMALL = DecodeSettings(height=48)


def source(path: Path) -> Source:
    return Source(kind="images" if path.is_dir() else "file", uri=str(path), redacted=str(path), camera="clip")


def read(path: Path, settings: DecodeSettings = SMALL, skip: int = 0) -> list[DecodeOutput]:
    messages = list(read_messages(source(path), settings, 1000, lambda: 5.0, skip_until_seq=skip))
    assert [m.next_frame for m in messages[:-1]] == [m.first_frame for m in messages[1:]]
    assert isinstance(messages[-1], End)
    return messages


def frames_of(messages: list[DecodeOutput]) -> int:
    return messages[-1].first_frame


def status_of(messages: list[DecodeOutput]) -> str:
    assert isinstance(messages[-1], End)
    return messages[-1].status


def pixels_of(messages: list[DecodeOutput]) -> np.ndarray:
    return np.concatenate([m.pixels for m in messages if isinstance(m, Snippet)])


def times_of(messages: list[DecodeOutput]) -> np.ndarray:
    return np.concatenate([m.times_s for m in messages])


def looks_like(pixels: np.ndarray) -> int:
    """Which of the pictures that were written these pixels show."""
    gray = pixels.mean(axis=2)
    return int(np.argmin([np.abs(gray - picture(i, 64, 48).mean(axis=2)).mean() for i in range(40)]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("a.mp4", {}, id="h264"),
        pytest.param("a.mp4", {"b_frames": 2}, id="h264 with B-frames"),
        pytest.param("a.mkv", {"codec": "libx265"}, id="hevc"),
        pytest.param("a.mkv", {"codec": "libx264", "pixel_format": "yuv420p10le"}, id="10 bit"),
        pytest.param("a.mkv", {"codec": "ffv1", "pixel_format": "gray"}, id="gray"),
        pytest.param("a.mkv", {"codec": "ffv1", "pixel_format": "bgr0"}, id="RGB"),
        pytest.param("a.avi", {"codec": "mpeg4"}, id="mpeg4"),
        pytest.param("a.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}, id="mjpeg"),
        pytest.param("a.ts", {"codec": "mpeg2video"}, id="mpeg2 in a transport stream"),
        pytest.param("a.h264", {}, id="bare h264"),
        pytest.param("a.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}, id="fragmented mp4"),
    ],
)
def test_every_frame_of_a_whole_file_is_read(tmp_path: Path, name: str, options: dict) -> None:
    messages = read(write_video(tmp_path / name, 40, **options))

    assert [len(m.times_s) for m in messages] == [16, 16, 8, 0]
    assert status_of(messages) == "complete"
    assert times_of(messages) == pytest.approx(np.arange(40) / 25, abs=0.0011)
    pixels = pixels_of(messages)
    assert pixels.shape == (40, 48, 64, 3)
    for index in (0, 17, 39):
        assert looks_like(pixels[index]) == index
    red, _, blue = pixels[0, 4, 4].astype(int)
    assert red - blue > 100 or options.get("pixel_format") == "gray"


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times_s = [0.0, 0.04, 0.2, 0.21, 1.5, 1.6]
    messages = read(write_video(tmp_path / "a.mp4", 6, times_s=[0.5 + t for t in times_s]))

    assert times_of(messages) == pytest.approx(times_s, abs=0.001)


@pytest.mark.parametrize(
    ("width", "height", "aspect", "size"),
    [
        pytest.param(1920, 1080, None, (426, 240), id="wide"),
        pytest.param(353, 239, None, (352, 239), id="odd and small: not enlarged"),
        pytest.param(704, 576, Fraction(16, 11), (426, 240), id="D1 with wide pixels"),
        pytest.param(352, 576, Fraction(24, 11), (320, 240), id="half D1"),
        pytest.param(720, 1280, Fraction(1, 1), (136, 240), id="upright"),
        pytest.param(640, 480, Fraction(100, 1), (320, 240), id="absurd aspect"),
        pytest.param(1, 2000, None, (2, 240), id="a line"),
    ],
)
def test_pictures_keep_their_shape_and_are_never_enlarged(
    width: int, height: int, aspect: Fraction | None, size: tuple[int, int]
) -> None:
    assert analysis_size(width, height, aspect, 240) == size


def test_pixel_aspect_is_applied(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 2, (64, 96), aspect=Fraction(2, 1))

    assert pixels_of(read(path)).shape == (2, 48, 64, 3)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_is_applied(tmp_path: Path, rotation: int, turns: int) -> None:
    plain = pixels_of(read(write_video(tmp_path / "plain.mp4", 3, (64, 48)), DecodeSettings(height=64)))
    turned = pixels_of(
        read(write_video(tmp_path / "turned.mp4", 3, (64, 48), rotation=rotation), DecodeSettings(height=64))
    )

    assert np.array_equal(turned, np.rot90(plain, turns, axes=(1, 2)))


def test_a_change_of_resolution_keeps_the_analysis_size(tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    small, large = write_video(tmp_path / "s.h264", 20), write_video(tmp_path / "l.h264", 20, (128, 96))
    path.write_bytes(small.read_bytes() + large.read_bytes())
    messages = read(path, DecodeSettings(height=96))

    assert frames_of(messages) == 40
    assert pixels_of(messages).shape == (40, 48, 64, 3)
    assert [looks_like(p) for p in pixels_of(messages)[[19, 20, 39]]] == [19, 0, 19]
    # The size is that of the first frame even if only the last ones are wanted.
    assert np.array_equal(pixels_of(read(path, DecodeSettings(height=96), skip=2)), pixels_of(messages)[32:])


def test_reading_again_gives_the_same_bytes_and_can_start_anywhere(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 40, b_frames=2)
    whole = [encode(m) for m in read(path)]

    assert len(whole) == 4
    for skip in range(4):
        assert [encode(m) for m in read(path, skip=skip)] == whole[skip:]


def test_sub_sampling_counts_every_frame(tmp_path: Path) -> None:
    messages = read(write_video(tmp_path / "a.mp4", 50), DecodeSettings(height=48, fps=5, snippet_frames=4))

    assert frames_of(messages) == 50
    assert [len(m.picked) for m in messages if isinstance(m, Snippet)] == [4, 4, 3]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_cut_file_is_read_to_the_cut_and_said_to_be_truncated(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    codec = "mjpeg" if name == "a.avi" else "libx264"
    form = "yuvj420p" if name == "a.avi" else "yuv420p"
    path = write_video(tmp_path / name, 60, (160, 120), codec=codec, pixel_format=form, options=options)
    assert bytes_missing(path) == 0
    messages = read(cut(path, 0.7))

    assert status_of(messages).startswith("truncated: the file ends ")
    assert 25 <= frames_of(messages) < 60


def test_a_file_that_ends_within_a_group_of_pictures_is_complete(tmp_path: Path) -> None:
    messages = read(write_video(tmp_path / "a.mp4", 31, gop=12, b_frames=2))

    assert (frames_of(messages), status_of(messages)) == (31, "complete")


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_damage_is_a_gap_and_the_rest_is_read_whatever_the_threads(tmp_path: Path, b_frames: int, seed: int) -> None:
    path = write_video(tmp_path / "a.ts", 60, (160, 120), gop=15, b_frames=b_frames)
    sound = read(path)
    scribble(path, 0.4, 600, seed)
    one, three = (read(path, DecodeSettings(height=48, threads=n)) for n in (1, 3))

    assert [encode(m) for m in one] == [encode(m) for m in three]
    assert status_of(one).startswith("damaged: ")
    assert sum(len(m.times_s) for m in one if isinstance(m, Gap)) >= 1
    assert frames_of(one) >= 50
    assert np.array_equal(pixels_of(one)[:10], pixels_of(sound)[:10])
    assert np.array_equal(pixels_of(one)[-10:], pixels_of(sound)[-10:])


def test_the_end_of_a_damaged_file_is_not_lost_in_the_decoder(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 40, codec="mjpeg", pixel_format="yuvj420p")
    data = bytearray(path.read_bytes())
    pictures = [i for i in range(len(data) - 1) if data[i : i + 4] == b"00dc" and data[i + 8 : i + 10] == b"\xff\xd8"]
    data[pictures[37] + 8 : pictures[38]] = bytes(pictures[38] - pictures[37] - 8)
    path.write_bytes(data)
    one, four = (read(path, DecodeSettings(height=48, threads=n)) for n in (1, 4))

    assert frames_of(one) == frames_of(four) == 40
    assert status_of(one).startswith("damaged: 1 packet cannot")


def text(path: Path) -> Path:
    path.write_text("This is not a video.\n" * 50)
    return path


def without_index(path: Path) -> Path:
    return cut(write_video(path, 40, (160, 120)), 0.5)


def without_frames(path: Path) -> Path:
    data = write_video(path, options={"movflags": "frag_keyframe+empty_moov"}).read_bytes()
    path.write_bytes(data[: data.index(b"moof") - 4])
    return path


@pytest.mark.parametrize(
    ("make", "what"),
    [
        pytest.param(lambda p: p / "gone.mp4", "no such file", id="missing"),
        pytest.param(lambda p: text(p / "a.mp4"), "not a video", id="text named mp4"),
        pytest.param(lambda p: text(p / "a.txt"), "not a video|is a text", id="text"),
        pytest.param(lambda p: write_audio(p / "a.wav"), "holds no video .only audio", id="audio only"),
        pytest.param(lambda p: without_index(p / "a.mp4"), "moov. is missing", id="mp4 without its index"),
        pytest.param(lambda p: cut(write_video(p / "a.mp4"), 0), "is empty", id="empty"),
        pytest.param(lambda p: without_frames(p / "a.mp4"), "not one picture", id="no frames"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_one_line(tmp_path: Path, make: Callable[[Path], Path], what: str) -> None:
    path = make(tmp_path)
    with pytest.raises(SourceError, match=what) as refusal:
        list(read_messages(source(path), SMALL, 1000, lambda: 5.0))
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_a_folder_named_as_a_file_is_not_opened(tmp_path: Path) -> None:
    named = Source(kind="file", uri=str(tmp_path), redacted="a.mp4", camera="clip")
    with pytest.raises(SourceError, match="is a folder"):
        list(read_messages(named, SMALL, 1000, lambda: 5.0))


def test_a_locked_file_is_an_error(tmp_path: Path) -> None:
    locked = write_video(tmp_path / "b.mp4", 2)
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(SourceError, match="may not be read"):
        read(locked)


def test_a_file_that_grows_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    # Longer than what FFmpeg reads ahead.
    path = write_video(tmp_path / "a.ts", 200, (320, 240), codec="mpeg2video", gop=1)
    more = path.read_bytes()
    messages = []
    for message in read_messages(source(path), DecodeSettings(height=48, threads=1), 1000, lambda: 5.0):
        if not messages:
            with path.open("ab") as f:
                f.write(more)
        messages.append(message)

    assert status_of(messages).startswith("growing: ")
    assert frames_of(messages) >= 200


def test_closing_the_messages_closes_the_file(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("/proc is needed to see open files")
    path = write_video(tmp_path / "a.mp4", 40)

    def is_open() -> bool:
        return any(str(path) == str(p.resolve()) for p in descriptors.iterdir())

    messages = read_messages(source(path), SMALL, 1000, lambda: 5.0)
    next(messages)
    assert is_open()
    messages.close()
    assert not is_open()


def write_pictures(path: Path, count: int, suffix: str = ".png") -> Path:
    path.mkdir()
    for index in range(count):
        cv2.imwrite(str(path / f"{index + 1}{suffix}"), picture(index, 64, 48)[:, :, ::-1])
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_a_folder_of_pictures_is_read_as_one_video(tmp_path: Path, suffix: str) -> None:
    path = write_pictures(tmp_path / "clip", 20, suffix)
    (found,) = expand([str(path)])
    messages = list(read_messages(found, DecodeSettings(height=48, image_fps=10), 1000, lambda: 5.0))

    assert [len(m.times_s) for m in messages] == [16, 4, 0]
    assert status_of(messages) == "complete"
    assert times_of(messages) == pytest.approx(np.arange(20) / 10)
    expected = np.stack([picture(i, 64, 48) for i in range(20)]).astype(int)
    assert np.abs(pixels_of(messages) - expected).mean() < (4 if suffix == ".jpg" else 0.01)


def test_a_picture_that_cannot_be_read_is_a_gap(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "clip", 20, ".jpg")
    cut(path / "4.jpg", 0.6)
    (path / "5.jpg").write_bytes(b"")
    messages = read(path)

    assert [(type(m).__name__, len(m.times_s)) for m in messages[:3]] == [("Snippet", 3), ("Gap", 2), ("Snippet", 15)]
    assert status_of(messages) == "damaged: 2 of 20 pictures cannot be read, first 4.jpg"


def test_a_folder_without_a_readable_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="none of 1 picture can"):
        read(cut(write_pictures(tmp_path / "clip", 1) / "1.png", 0.3).parent)


def test_whoever_reads_is_heard_while_nothing_comes_of_it(tmp_path: Path) -> None:
    """A decoder that passes over what its predecessor published, or reads damage once more, does not hang."""
    video, folder = write_video(tmp_path / "a.mp4", 40), write_pictures(tmp_path / "clip", 20)
    for path, frames in ((video, 40), (folder, 20)):
        beats: list[int] = []
        messages = read_messages(source(path), SMALL, 1000, lambda: 5.0, lambda b=beats: b.append(1), skip_until_seq=9)
        assert list(messages) == []
        assert len(beats) >= frames

    passes: list[int] = []
    damaged = source(scribble(video, 0.8, 300))
    several = DecodeSettings(height=48, threads=4)
    frames = frames_of(list(read_messages(damaged, several, 1000, lambda: 5.0, lambda: passes.append(1))))
    assert len(passes) > 1.2 * frames, "the second reading is not heard"


@pytest.mark.parametrize(
    "settings", [{"height": 1}, {"fps": 0}, {"snippet_frames": 0}, {"transport": "smoke"}, {"threads": -1}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        DecodeSettings(**settings)


def opencv_count(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


def shared_videos() -> list[Path]:
    ped2 = sorted(shared("data/ucsd_ped2").glob("test*/*.mp4"))[:4]
    fights = sorted(shared("data/cctv_fights").glob("*/*.mp4"))[::12]
    return [*ped2, *fights, shared("data/videos/vtest.avi")]


def test_real_recordings_have_the_frames_that_opencv_counts() -> None:
    for path in shared_videos():
        messages = read(path)
        assert (frames_of(messages), status_of(messages)) == (opencv_count(path), "complete"), path
