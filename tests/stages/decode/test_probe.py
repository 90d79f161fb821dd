"""What a file says of itself before it is decoded. Takes about 1 s."""

from pathlib import Path

import pytest
from makers_video import cut, write_audio, write_video

from stages.decode.containers.boxes import top_boxes, tracks
from stages.decode.containers.probe import frames_promised
from stages.decode.containers.wholeness import bytes_missing, lacks_index


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_file_says_how_many_frames_it_has(tmp_path: Path, name: str, b_frames: int) -> None:
    assert frames_promised(str(write_video(tmp_path / name, 30, b_frames=b_frames))) == 30


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}])
def test_an_mp4_is_not_opened_for_it(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    (track,) = tracks(write_video(tmp_path / name, 30, options=options))
    assert (track.kind, track.samples) == (b"vide", 30)


def test_an_mp4_in_fragments_says_nothing_and_that_is_no_mistake(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30, options={"movflags": "frag_keyframe+empty_moov"})
    assert tracks(path) == []
    assert frames_promised(str(path)) >= 0


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.avi"])
def test_other_files_are_no_mp4(tmp_path: Path, name: str) -> None:
    assert tracks(write_video(tmp_path / name, 5)) == []


def test_sound_has_no_frames(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mov")
    assert [track.kind for track in tracks(path)] == [b"soun"]
    assert frames_promised(str(path)) == 0


def test_whatever_a_broken_file_holds_is_read_in_peace(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", 30).read_bytes()
    index = whole.index(b"moov")
    for size in (0, 3, 9, index, index + 4, *range(index + 20, len(whole), 29)):
        path = tmp_path / "b.mp4"
        path.write_bytes(whole[:size])
        assert frames_promised(str(path)) in (0, 30)
    path.write_bytes(whole[:index] + bytes(len(whole) - index))
    assert frames_promised(str(path)) == 0


def test_a_file_that_is_not_there_promises_nothing(tmp_path: Path) -> None:
    assert frames_promised(str(tmp_path / "none.mp4")) == 0
    assert frames_promised(str(cut(write_video(tmp_path / "a.mp4"), 0.0))) == 0


def test_a_last_box_without_a_length_extends_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\0mdat" + b"pictures")
    with path.open("rb") as f:
        assert [(box.kind, box.end) for box in top_boxes(f)] == [(b"ftyp", 16), (b"mdat", 32)]
    assert lacks_index(path)
    assert bytes_missing(path) == 0
