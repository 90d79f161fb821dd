"""A terminal that closes sends SIGHUP: `run` drains and stops, as after Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from e2e import started, wait_for
from rtsp_server import free_port


@pytest.mark.parametrize("signals", [[signal.SIGHUP], [signal.SIGHUP, signal.SIGHUP], [signal.SIGTERM]])
def test_run_drains_and_says_what_became_of_the_frames(tmp_path: Path, signals: list[int]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"decode: {{open_timeout_s: 1}}\ncameras:\n  door: {{source: 'rtsp://127.0.0.1:{free_port()}/s'}}\n"
    )
    log = tmp_path / "log"
    with started(log, "run", config) as process:
        wait_for("a try", lambda: "trying again" in log.read_text())
        for signum in signals:
            process.send_signal(signum)
        assert process.wait(60) == 0, log.read_text()
    assert "stopping: the stages finish what was decoded" in log.read_text()
    assert "door: 0 frames decoded = 0 scored + 0 in gaps" in log.read_text()
