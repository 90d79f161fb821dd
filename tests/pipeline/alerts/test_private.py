"""What is nobody else's business is not to be read by others, and what others put in the way is not trusted."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.alerts.folder import FolderSink
from pipeline.bus.embedded import FOLDER_PREFIX, EmbeddedServer, running_servers
from pipeline.config.schema import OutputConfig
from pipeline.observe.metrics import serve_metrics
from stages.errors import OddwatchError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o002])
def test_alerts_and_pictures_are_for_their_user_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        sink = FolderSink(tmp_path / "out")
        sink.deliver({"id": "c-1-0", "phase": "open", "entry": "1-1"}, b"jpeg")
        sink.close()
    finally:
        os.umask(before)
    found = {str(p.relative_to(tmp_path)): mode(p) for p in sorted(tmp_path.rglob("*"))}
    assert found == {"out": 0o700, "out/alerts.jsonl": 0o600, "out/snapshots": 0o700, "out/snapshots/c-1-0.jpg": 0o600}


def test_metrics_are_served_on_this_machine_alone_unless_told_otherwise() -> None:
    assert OutputConfig().metrics_host == "127.0.0.1"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    for host, elsewhere in (("127.0.0.1", False), ("127.0.0.2", False), ("0.0.0.0", True)):
        server = serve_metrics(port, dict, host) if host != "127.0.0.1" else serve_metrics(port, dict)
        with socket.socket() as client:
            assert (client.connect_ex(("127.0.0.3", port)) == 0) == elsewhere
        server.shutdown()
        server.server_close()
    with pytest.raises(OddwatchError, match=r"output\.metrics_host"):
        serve_metrics(port, dict, "192.0.2.1")


def group_may_enter(folder: Path) -> None:
    folder.chmod(0o750)


def everybody_may_write(folder: Path) -> None:
    folder.chmod(0o777)


def of_another_user(folder: Path) -> None:
    os.chown(folder, 12345, 12345)


def socket_of_another_user(folder: Path) -> None:
    os.chown(folder / "redis.sock", 12345, 12345)


def a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def no_socket(folder: Path) -> None:
    (folder / "redis.sock").unlink()
    (folder / "redis.sock").write_text("")


@pytest.mark.parametrize(
    "spoil", [group_may_enter, everybody_may_write, of_another_user, socket_of_another_user, a_link, no_socket]
)
def test_a_socket_that_others_may_have_put_there_is_not_joined(
    spoil: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Path(tempfile.mkdtemp(prefix="ow"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    folder = short / f"{FOLDER_PREFIX}{os.getpid()}-planted"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(folder / "redis.sock"))
        assert running_servers() == [f"unix://{folder}/redis.sock"]
        if spoil in (of_another_user, socket_of_another_user) and os.getuid():
            pytest.skip("only root can give a file away")
        spoil(folder)
        assert running_servers() == []
    with EmbeddedServer(memory_mb=64) as server:
        assert running_servers() == [server.url]
