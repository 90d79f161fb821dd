"""Eight sources through Oddwatch, a plain OpenCV loop, vidgear and Roboflow's InferencePipeline; the same model."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import bench_footage
from bench_row import Row, side_by_side
from bench_score import ROOT, environment, score

SOURCES = 8
PACKAGES = {"opencv": "opencv-python-headless", "vidgear": "vidgear", "inference": "inference-cpu"}
INSTALL_S, RUN_S = 900, 600
QUIET = {
    # Roboflow's server models, which are not used; and no reports home.
    "TELEMETRY_OPT_OUT": "True", "METRICS_ENABLED": "False", "DISABLE_VERSION_CHECK": "True",
    **{f"CORE_MODEL_{m}_ENABLED": "False" for m in ("SAM", "SAM2", "SAM3", "GAZE", "YOLO_WORLD", "CLIP", "DOCTR")},
    "PYTHONWARNINGS": "ignore",
}  # fmt: skip


def measure(work: Path, quick: bool) -> list[Row]:
    """Frames per second of Oddwatch (its start taken off) against each peer's."""
    checkpoint = bench_footage.checkpoint(work)
    files = bench_footage.copies(bench_footage.peer(work, 80 if quick else 400), work / "peers_eight", SOURCES)
    start_s = score([bench_footage.camera(work, 16)], work / "out", "--model", checkpoint).seconds
    return [_against(work, peer, checkpoint, files, start_s, 1 if quick else 3) for peer in PACKAGES]


def _against(work: Path, peer: str, checkpoint: Path, files: list[Path], start_s: float, repeats: int) -> Row:
    figure = f"frames per second with {SOURCES} sources, 1280x720 H.264"
    against = {"opencv": "a plain OpenCV loop", "vidgear": "vidgear", "inference": "roboflow InferencePipeline"}[peer]
    command = [*map(str, (_python(work), ROOT / "scripts" / "bench_peer.py", peer, checkpoint)), *map(str, files)]

    def ours() -> float:
        run = score(files, work / "out", "--model", checkpoint)
        return run.frames / (run.seconds - start_s)

    def theirs() -> float:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment(**QUIET), timeout=RUN_S, cwd=work
        )
        said = json.loads(done.stdout.splitlines()[-1])
        frames.append(said["frames"])
        return float(said["frames"] / said["seconds"])

    frames: list[int] = []
    try:
        _install(work, PACKAGES[peer])
        mine, other = side_by_side(repeats, ours, theirs)
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return Row(figure=figure, against=against, target=1.0, skipped=f"{PACKAGES[peer]}: {said[-1][:200]}")
    return Row(
        figure=figure, against=against, values=[a / b for a, b in zip(mine, other, strict=True)], target=1.0,
        detail={"frames_per_s": mine, "peer_frames_per_s": other, "peer_frames": frames},
        limit="features cost the same in both",
    )  # fmt: skip


def _python(work: Path) -> Path:
    return work.parent / "peers" / "bin" / "python"


def _install(work: Path, package: str) -> None:
    """Into the peers' own environment, where what Oddwatch has installed is seen too (it is not fetched twice)."""
    folder = work.parent / "peers"
    if not _python(work).exists():
        venv.create(folder, with_pip=True)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "oddwatch.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = folder / f"{package}.installed"
    if not done.exists():
        sys.stderr.write(f"bench: installing {package} into {folder}\n")
        command = [str(_python(work)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
        done.touch()
