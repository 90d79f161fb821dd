"""Eight sources through Oddwatch, a plain OpenCV loop, vidgear and Roboflow's InferencePipeline; the same model."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from scripts.bench import footage
from scripts.bench.row import Row, side_by_side
from scripts.bench.score import ROOT, environment, score

SOURCES = 8
PEERS = {
    "opencv": ("opencv-python-headless", "a plain OpenCV loop"),
    "vidgear": ("vidgear", "vidgear's CamGear"),
    "inference": ("inference-cpu", "Roboflow's InferencePipeline"),
}
"""Name in bench_peer -> its package, and what to call it."""
INSTALL_S, RUN_S = 600, 600
QUIET = {
    # Roboflow's server models, which are not used; and no reports home.
    "TELEMETRY_OPT_OUT": "True", "METRICS_ENABLED": "False", "DISABLE_VERSION_CHECK": "True",
    **{f"CORE_MODEL_{m}_ENABLED": "False" for m in ("SAM", "SAM2", "SAM3", "GAZE", "YOLO_WORLD", "CLIP", "DOCTR")},
    "PYTHONWARNINGS": "ignore",
}  # fmt: skip


def measure(work: Path, quick: bool) -> list[Row]:
    """Frames per second of Oddwatch (its start taken off) against each peer's, all in turn."""
    checkpoint = footage.checkpoint(work)
    files = footage.copies(footage.peer(work, 48 if quick else 160), work / "peers_eight", SOURCES)
    start_s = score([footage.camera(work, 16)], work / "out", "--model", checkpoint).seconds
    missing = {peer: why for peer in PEERS if (why := _install(work, peer))}
    there = [peer for peer in PEERS if peer not in missing]

    def ours() -> float:
        run = score(files, work / "out", "--model", checkpoint)
        return run.frames / (run.seconds - start_s)

    mine, *others = side_by_side(
        1 if quick else 3, ours, *(lambda p=peer: _frames_per_s(work, p, checkpoint, files) for peer in there)
    )
    theirs = dict(zip(there, others, strict=True))
    return [_row(peer, mine, theirs.get(peer, []), missing.get(peer, "")) for peer in PEERS]


def _row(peer: str, mine: list[float], theirs: list[float], missing: str) -> Row:
    figure, against = f"frames per second with {SOURCES} sources, 1280x720 H.264", PEERS[peer][1]
    if missing or 0.0 in theirs:
        return Row(figure=figure, against=against, target=1.0, skipped=missing or "it did not finish")
    return Row(
        figure=figure, against=against, values=[a / b for a, b in zip(mine, theirs, strict=True)], target=1.0,
        detail={"frames_per_s": mine, "peer_frames_per_s": theirs}, limit="the features, which cost the same in both",
    )  # fmt: skip


def _frames_per_s(work: Path, peer: str, checkpoint: Path, files: list[Path]) -> float:
    """0 if it fails, or loses frames."""
    command = [*map(str, (_python(work), ROOT / "scripts" / "bench" / "peer.py", peer, checkpoint)), *map(str, files)]
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment(**QUIET), timeout=RUN_S, cwd=work
        )
        said = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        sys.stderr.write(f"bench: {peer}: {_last_line(error)}\n")
        return 0.0
    return float(said["frames"] / said["seconds"])


def _last_line(error: Exception) -> str:
    return (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1][:200]


def _python(work: Path) -> Path:
    return work.parent / "peers" / "bin" / "python"


def _install(work: Path, peer: str) -> str:
    """Into the peers' own environment, where what Oddwatch has installed is seen too; why not, if it cannot be."""
    package, _ = PEERS[peer]
    folder = work.parent / "peers"
    done = folder / f"{package}.installed"
    if done.exists():
        return ""
    sys.stderr.write(f"bench: installing {package} into {folder}\n")
    command = [str(_python(work)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
    try:
        if not _python(work).exists():
            venv.create(folder, with_pip=True)
            (site,) = folder.glob("lib/python*/site-packages")
            (site / "oddwatch.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{package} cannot be installed: {_last_line(error)}"
    done.touch()
    return ""
