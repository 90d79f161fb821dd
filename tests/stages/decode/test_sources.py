"""What paths and addresses mean, what they are called, and that no password gets out. Takes about 1 s."""

import os
from pathlib import Path

import pytest

from stages.decode.natural_order import natural_key
from stages.decode.redact import redact
from stages.decode.source import camera_name, expand, live_source
from stages.errors import UsageError
from stages.messages import CAMERA_NAME


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def found(*paths: Path | str) -> list[tuple[str, str]]:
    return [(s.kind, Path(s.uri).name) for s in expand([str(p) for p in paths])]


def test_a_folder_is_searched_to_the_bottom_in_natural_order(tmp_path: Path) -> None:
    make(tmp_path, "b/clip10.mp4", "b/clip2.MP4", "a/z.avi", "notes.txt", "top.mkv")

    assert found(tmp_path) == [("file", n) for n in ("z.avi", "clip2.MP4", "clip10.mp4", "top.mkv")]


def test_a_folder_of_pictures_is_one_source(tmp_path: Path) -> None:
    make(tmp_path, "T1/001.tif", "T1/002.tif", "T1/readme.txt", "T2/1.png", "clips/a.mp4", "clips/a.jpg")

    assert found(tmp_path) == [("file", "a.mp4"), ("images", "T1"), ("images", "T2")]
    assert found(tmp_path / "T1") == [("images", "T1")]


def test_files_named_outright_are_taken_whatever_their_extension(tmp_path: Path) -> None:
    make(tmp_path, "recording.0001", "x[1].mp4")

    assert found(tmp_path / "recording.0001") == [("file", "recording.0001")]
    assert found(tmp_path / "x[1].mp4") == [("file", "x[1].mp4")]
    assert found(f"file://{tmp_path}/x[1].mp4") == [("file", "x[1].mp4")]


def test_globs_match_videos_or_what_they_ask_for(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "a/2.mp4", "a/n.txt", "b/3.mp4", "b/c/4.dat")

    assert found(tmp_path / "a" / "*") == [("file", "1.mp4"), ("file", "2.mp4")]
    assert found(tmp_path / "*") == [("file", "1.mp4"), ("file", "2.mp4"), ("file", "3.mp4")]
    assert found(tmp_path / "**" / "*.dat") == [("file", "4.dat")]


def test_the_same_file_is_taken_once(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "b.mp4")

    assert found(tmp_path / "b.mp4", tmp_path, tmp_path / "*.mp4") == [("file", "b.mp4"), ("file", "a.mp4")]


def test_link_loops_and_hidden_files_do_no_harm(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", ".trash/2.mp4", "a/._1.mp4", "a/.hidden.mp4")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")

    # The broken link is a lost recording: whoever opens it reports it.
    assert found(tmp_path) == [("file", "1.mp4"), ("file", "gone.mp4")]


@pytest.mark.parametrize(
    ("argument", "what"),
    [
        pytest.param("{0}/nowhere.mp4", "no such file or folder", id="missing"),
        pytest.param("{0}/empty", "holds no videos", id="empty folder"),
        pytest.param("{0}/*.mp4", "matches no video", id="empty glob"),
        pytest.param("{0}/pipe", "neither a file nor a folder", id="named pipe"),
        pytest.param("gopher://host/x", "not a camera", id="unknown scheme"),
        pytest.param("rtsp://host/a b", "space", id="space in address"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(tmp_path: Path, argument: str, what: str) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=what) as refusal:
        expand([argument.format(tmp_path)])
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith((str(tmp_path), "gopher://", "rtsp://"))


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("rtsp://user:pw@cam/stream", "live"),
        ("rtsps://cam/stream", "live"),
        ("http://cam/video.mjpg", "live"),
        ("https://host/live/index.m3u8", "live"),
        ("https://host/archive/clip.mp4?token=abc", "file"),
        ("/dev/video0", "live"),
    ],
)
def test_addresses_are_live_unless_they_name_a_video_file(uri: str, kind: str) -> None:
    (source,) = expand([uri])

    assert source.kind == kind
    assert source.uri == uri
    assert CAMERA_NAME.match(source.camera)
    for text in (source.redacted, source.camera, repr(source)):
        assert "pw" not in text
        assert "abc" not in text


def test_a_refused_address_does_not_tell_its_password() -> None:
    for uri in ("rtsp://me:hunter2@host/a b", "rtp+x://me:hunter2@host/", "rtsp://me:hunter 2@host/"):
        with pytest.raises(UsageError) as refusal:
            live_source(uri, "door")
        assert "hunter" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("rtsp://me:pw@host:554/a", "rtsp://***@host:554/a"),
        ("rtsp://me:p%40w@host/a", "rtsp://***@host/a"),
        ("rtsp://me:p@w@host/a", "rtsp://***@host/a"),
        ("rtsp://me:p'w@host/a", "rtsp://***@host/a"),
        ("rtsp://me:p/w@host/a", "rtsp://***@host/a"),
        ("rtsp://me:p?w#@host/a", "rtsp://***@host/a"),
        ("rtsp://me@host/a", "rtsp://***@host/a"),
        ("RTSP://me:pw@[::1]:554/a", "RTSP://***@[::1]:554/a"),
        ("http://host/?src=rtsp%3A%2F%2Fme%3Apw%40cam%2Fa&n=1", "http://host/?src=***&n=1"),
        ("http://host/v?user=me&password=pw&n=1", "http://host/v?user=***&password=***&n=1"),
        ("http://host/v?loginuse=me&loginpas=pw", "http://host/v?loginuse=***&loginpas=***"),
        ("rtsp://host/user=me_password=pw_channel=1.sdp", "rtsp://host/user=***"),
        ("cannot open rtsp://me:pw@host/a, then http://x:pw@y", "cannot open rtsp://***@host/a, then http://***@y"),
        ("rtsp://host/a, ask admin@example.org", "rtsp://host/a, ask admin@example.org"),
        ("/videos/key.mp4", "/videos/key.mp4"),
    ],
)
def test_redacts(text: str, redacted: str) -> None:
    assert redact(text) == redacted
    assert redact(redacted) == redacted


def test_a_file_keeps_its_camera_name_wherever_it_lies(tmp_path: Path) -> None:
    make(tmp_path, "a/clip.mp4", "b/other.mp4")
    name = camera_name(tmp_path / "a" / "clip.mp4")
    moved = (tmp_path / "a" / "clip.mp4").rename(tmp_path / "b" / "clip.mp4")

    assert camera_name(moved) == name
    assert name.startswith("clip-")
    moved.write_bytes(b"other content")
    assert camera_name(moved) != name


def test_head_middle_and_tail_of_a_large_file_count(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    names = set()
    for at in (None, 0, 4 << 20, (8 << 20) - 1):
        data = bytearray(8 << 20)
        if at is not None:
            data[at] = 1
        path.write_bytes(data)
        names.add(camera_name(path))

    assert len(names) == 4


def test_the_name_of_a_picture_folder_depends_on_its_pictures(tmp_path: Path) -> None:
    make(tmp_path, "cam.1/1.png", "cam.1/2.png")
    name = camera_name(tmp_path / "cam.1")
    make(tmp_path, "cam.1/notes.txt")
    assert camera_name(tmp_path / "cam.1") == name
    make(tmp_path, "cam.1/3.png")

    assert camera_name(tmp_path / "cam.1") != name
    assert name.startswith("cam.1-")


@pytest.mark.parametrize(
    ("stem", "start"),
    [
        ("Entrée nord", "Entree-nord-"),
        ("監視カメラ", "video-"),
        ("x" * 200, "x" * 55 + "-"),
        ("..", "video-"),
        ("a/../b", "b-"),
    ],
)
def test_camera_names_are_plain(tmp_path: Path, stem: str, start: str) -> None:
    make(tmp_path, "a/x", f"{stem}.mp4")
    name = camera_name(tmp_path / f"{stem}.mp4")

    assert CAMERA_NAME.match(name)
    assert name.startswith(start)


def test_numbers_sort_by_value() -> None:
    names = ["c10.mp4", "c9.mp4", "C1.mp4", "c09/2.mp4", "b.mp4", "7.mp4"]

    assert sorted(names, key=natural_key) == ["7.mp4", "b.mp4", "C1.mp4", "c09/2.mp4", "c9.mp4", "c10.mp4"]
