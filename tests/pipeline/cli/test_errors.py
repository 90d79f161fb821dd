"""What a user can get wrong: one clear line that names the file or key and the remedy, and the right exit code."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from e2e import Ended, film, fitted, needs_redis_server, oddwatch, redis_server, rows, summary
from e2e import temporary as temporary
from makers_video import cut, write_audio, write_video

from stages.files.checkpoint import load_checkpoint, save_checkpoint

Maker = Callable[[Path], object]


def one_line(done: Ended, *said: str) -> str:
    """The line on stderr that says all of this; there is no traceback."""
    assert "Traceback" not in done.err, done.err
    assert "Traceback" not in done.out, done.out
    lines = [line for line in done.err.splitlines() if all(s in line for s in said)]
    assert lines, f"no line with {said} in:\n{done.err}"
    return lines[0]


BAD_FILES: dict[str, tuple[Maker, str]] = {
    "void.mp4": (lambda p: p.write_bytes(b""), "empty"),
    "text.mp4": (lambda p: p.write_text("Dear diary,\n" * 500), "not a video"),
    "sound.mka": (lambda p: write_audio(p), "no video"),
    "cut.mp4": (lambda p: cut(write_video(p), 0.5), "moov"),
    "noise.mp4": (lambda p: p.write_bytes(np.random.default_rng(0).bytes(30_000)), "not a video"),
}


@pytest.fixture(scope="module")
def with_bad_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """Every bad file and a good one, scored by one command."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (make, _) in BAD_FILES.items():
        make(folder / name)
    write_video(folder / "good.mp4", 20)
    return folder / "out", oddwatch("score", *sorted(folder.iterdir()), "--out", folder / "out")


def test_bad_files_take_nothing_from_the_good_one(with_bad_files: tuple[Path, Ended]) -> None:
    out, done = with_bad_files
    assert done.code == 1, done.err
    assert f"{len(BAD_FILES)} of {len(BAD_FILES) + 1} need attention" in done.out
    assert len(rows(out / "good.scores.csv")) == 20
    assert [p.name for p in out.glob("*.csv")] == ["good.scores.csv"]


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_its_reason_wherever_a_user_looks(
    name: str, with_bad_files: tuple[Path, Ended]
) -> None:
    out, done = with_bad_files
    said = BAD_FILES[name][1]
    one_line(done, name, said)
    assert any(name in line and said in line for line in done.out.splitlines())
    status = next(f["status"] for f in summary(out)["files"] if Path(f["file"]).name == name)
    assert status.startswith("error: ")
    assert said in status
    assert name in (out / "report.html").read_text()


def test_what_can_be_read_of_a_truncated_file_is_scored_and_it_is_named(tmp_path: Path) -> None:
    cut(write_video(tmp_path / "half.mkv", 100), 0.6)
    done = oddwatch("score", tmp_path / "half.mkv", "--out", tmp_path / "out")
    assert done.code == 1
    one_line(done, "half.mkv", "truncated")
    (found,) = summary(tmp_path / "out")["files"]
    assert 0 < found["decoded"] < 100
    assert (
        len(rows(tmp_path / "out/half.scores.csv")) == found["decoded"] == found["scored"] + sum(found["gaps"].values())
    )


def test_a_video_shorter_than_a_snippet_is_simply_scored(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", 3)
    done = oddwatch("score", tmp_path / "short.mp4", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert all(r["score"] for r in rows(tmp_path / "out/short.scores.csv"))


def test_a_missing_path_is_named_and_the_others_are_scored(tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4", 20)
    done = oddwatch("score", tmp_path / "absent.mp4", tmp_path / "good.mp4", "--out", tmp_path / "out")
    assert done.code == 1
    one_line(done, "absent.mp4", "no such file")
    assert len(rows(tmp_path / "out/good.scores.csv")) == 20


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("absent.mp4", "no such file", id="missing"),
        pytest.param("void", "holds no videos", id="empty folder"),
        pytest.param("void/*.mp4", "matches no video", id="glob"),
        pytest.param("rtsp://u:hidden@10.0.0.1/s", "oddwatch run", id="camera"),
    ],
)
def test_nothing_to_score_is_wrong_usage(path: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    done = oddwatch("score", path if "://" in path else tmp_path / path, "--out", tmp_path / "out")
    assert done.code == 2
    assert "hidden" not in one_line(done, said)
    assert not (tmp_path / "out").exists()


BAD_CONFIGS = [
    pytest.param("alerts: {rise_at: 0.9}", ["alerts.rise_at", "did you mean 'raise_at'"], id="misspelt key"),
    pytest.param("decode: {colour: blue}", ["decode.colour", "known keys: height"], id="unknown key"),
    pytest.param("camera:\n  a: {source: x}", ["camera", "did you mean 'cameras'"], id="misspelt section"),
    pytest.param("decode:\n  height: tall", [":2:", "decode.height", "integer"], id="wrong type"),
    pytest.param("decode: {height: -4}", ["decode.height", "16"], id="out of range"),
    pytest.param("decode: [1, 2", ["not valid YAML"], id="not YAML"),
    pytest.param("models: {n: {kind: magic}}", ["magic", "novelty"], id="unknown model"),
    pytest.param("models: {n: {features: magic}}", ["magic", "motion"], id="unknown extractor"),
    pytest.param("redis: {url: 'redis://${NO_SUCH_VARIABLE}@h'}", ["NO_SUCH_VARIABLE", "export"], id="unset variable"),
]


@pytest.mark.parametrize(("text", "said"), BAD_CONFIGS)
def test_a_wrong_configuration_is_named_by_file_and_key(text: str, said: list[str], tmp_path: Path) -> None:
    config, video = tmp_path / "my.yaml", write_video(tmp_path / "v.mp4", 3)
    config.write_text(text + "\n")
    done = oddwatch("score", video, "--config", config, "--out", tmp_path / "out")
    assert done.code == 2
    line = one_line(done, *said)
    assert "my.yaml" in line or "magic" in line
    assert len(done.err.splitlines()) == 1


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 3)
    done = oddwatch("score", video, "--config", tmp_path / "absent.yaml", "--out", tmp_path / "out")
    assert done.code == 2
    one_line(done, "absent.yaml")


BAD_CHECKPOINTS = [
    pytest.param(lambda p: None, ["cannot read"], id="missing"),
    pytest.param(lambda p: p.write_bytes(b"PK\x03\x04 pickle"), ["safetensors"], id="not a checkpoint"),
    pytest.param(lambda p: p.write_bytes(fitted().read_bytes()[:-500]), ["damaged"], id="cut short"),
    pytest.param(lambda p: _other_features(p), ["motion@00000000"], id="fitted with other features"),
    pytest.param(lambda p: _without_an_array(p), ["missing"], id="an array is missing"),
]


def _other_features(path: Path) -> None:
    checkpoint = load_checkpoint(fitted())
    save_checkpoint(path, replace(checkpoint, meta=checkpoint.meta | {"extractor": "motion@00000000"}))


def _without_an_array(path: Path) -> None:
    checkpoint = load_checkpoint(fitted())
    save_checkpoint(path, replace(checkpoint, arrays=dict(list(checkpoint.arrays.items())[1:])))


@pytest.mark.parametrize(("make", "said"), BAD_CHECKPOINTS)
def test_a_checkpoint_that_does_not_fit_is_named(make: Maker, said: list[str], tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 3)
    make(tmp_path / "my.safetensors")
    done = oddwatch("score", video, "--model", tmp_path / "my.safetensors", "--out", tmp_path / "out")
    assert done.code == 2
    line = one_line(done, "my.safetensors", *said)
    assert len(done.err.splitlines()) == 1, line


def test_redis_that_nobody_serves_is_named(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 3)
    done = oddwatch("score", video, "--out", tmp_path / "out", REDIS_URL="redis://:pa55@127.0.0.1:1/0")
    assert done.code == 1
    assert "pa55" not in one_line(done, "redis://***@127.0.0.1:1/0", "REDIS_URL")
    assert len(done.err.splitlines()) == 1
    done = oddwatch("score", video, "--out", tmp_path / "out", REDIS_URL="localhost:6379")
    one_line(done, "localhost:6379", "not a Redis address", "redis://")


@needs_redis_server
def test_a_wrong_redis_password_is_named(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 3)
    with redis_server("--requirepass", "right") as (_, port):
        for url in (f"redis://127.0.0.1:{port}", f"redis://:wr0ng@127.0.0.1:{port}"):
            done = oddwatch("score", video, "--out", tmp_path / "out", REDIS_URL=url)
            assert done.code == 1
            assert "wr0ng" not in one_line(done, f"127.0.0.1:{port}", "redis://USER:PASSWORD@HOST")


def test_an_out_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", 3)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/.oddwatch").write_text("in the way too")
    for out, said in (
        ("file", "is a file, not a folder"),
        ("file/out", f"the file {tmp_path / 'file'} is in the way"),
        ("used", f"the file {tmp_path / 'used/.oddwatch'} is in the way"),
    ):
        done = oddwatch("score", video, "--out", tmp_path / out)
        assert done.code == 1
        one_line(done, f"oddwatch: {tmp_path / out}: {said}", "choose another --out")
        assert len(done.err.splitlines()) == 1


def test_a_full_disk_is_named_and_freeing_it_lets_the_same_command_finish(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4", 60)
    write_video(tmp_path / "w.mp4", 5)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("v.scores.csv.part", "v.scores.csv"):
        (out / name).symlink_to("/dev/full")
    done = oddwatch("score", tmp_path / "v.mp4", tmp_path / "w.mp4", "--out", out)
    assert done.code == 1
    one_line(done, "v.scores.csv", "No space left")
    for name in ("v.scores.csv.part", "v.scores.csv"):
        (out / name).unlink(missing_ok=True)
    assert oddwatch("score", tmp_path / "v.mp4", tmp_path / "w.mp4", "--out", out).code == 0
    assert len(rows(out / "v.scores.csv")) == 60


def test_fit_names_what_it_cannot_use(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    still = write_video(tmp_path / "few.mp4", 8)
    for normal, said in (
        (tmp_path / "bad.mp4", "bad.mp4"),
        (tmp_path / "no.mp4", "no such file"),
        (still, "too little"),
    ):
        done = oddwatch("fit", "--normal", normal, "--out", tmp_path / "x.safetensors")
        assert done.code in (1, 2)
        one_line(done, said)
        assert not (tmp_path / "x.safetensors").exists()


def test_wrong_options_are_wrong_usage_without_a_traceback(tmp_path: Path) -> None:
    for arguments in (
        ["scroe"],
        ["score"],
        ["score", "x.mp4"],
        ["score", "x.mp4", "--out"],
        ["run"],
        ["run", "no.yaml"],
    ):
        done = oddwatch(*arguments)
        assert done.code == 2, arguments
        assert "Traceback" not in done.err


def test_run_and_check_name_what_is_wrong_with_a_camera(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("cameras:\n  yard: {source: 'not-an-address'}\n")
    for command in ("run", "check"):
        done = oddwatch(command, config)
        assert done.code in (1, 2)
        assert "yard" in done.err + done.out
        assert "Traceback" not in done.err + done.out
    config.write_text("decode: {open_timeout_s: 1}\ncameras:\n  yard: {source: 'rtsp://u:t0psecret@127.0.0.1:9/s'}\n")
    done = oddwatch("check", config)
    assert done.code == 1
    assert re.search(r"FAILED camera yard: rtsp://\*\*\*@127.0.0.1:9/s: cannot be opened", done.out)
    assert "t0psecret" not in done.out + done.err
    config.write_text("frames: {transport: shared}\ncameras: {}\n")
    assert "FAILED frames: /nowhere is missing" in oddwatch("check", config, ODDWATCH_SHM="/nowhere").out
    assert re.search(r"ok +frames: through shared memory", oddwatch("check", config).out)
    config.write_text("cameras: {}\n")
    done = oddwatch("run", config)
    assert done.code == 2
    one_line(done, "no camera to watch", "cameras:")


def test_status_and_alerts_say_when_nothing_runs(temporary: Path) -> None:
    for command in ("status", "alerts"):
        done = oddwatch(command, TMPDIR=str(temporary))
        assert done.code == 2
        one_line(done, "REDIS_URL", "oddwatch run")
    done = oddwatch("alerts", "--since", "yesterday", REDIS_URL="redis://127.0.0.1:1")
    assert done.code in (1, 2)
    assert "Traceback" not in done.err
