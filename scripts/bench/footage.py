"""Footage for the benchmark: made once, nothing is fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

import av

from stages.costs.sample import make_sample
from stages.demo.footage import make_demo

NORMAL_S = 24.0
"""Seconds of the film that the model learns from."""


def checkpoint(work: Path) -> Path:
    """`novelty` on `motion`, fitted on a film of the demo's courtyard."""
    from pipeline.cli.fit import fit_checkpoint

    path = work / "novelty.safetensors"
    if not path.exists():
        film = make_demo(work / "footage", normal_s=NORMAL_S, kinds=())
        fit_checkpoint([str(film.normal[0])], path, "motion")
    return path


def camera(work: Path, frames: int) -> Path:
    """426x240 H.264, the size at which pictures are analysed: features cost most, decoding little."""
    return _sample(work, "camera", 240, 0.5, frames)


def full_hd(work: Path, frames: int) -> Path:
    """1080p H.264, 25 frames per second, 4 Mbit/s, as a camera sends it."""
    return _sample(work, "hd", 1080, 4.0, frames)


def peer(work: Path, frames: int) -> Path:
    """1280x720 H.264, 2 Mbit/s: what peers decode and then reduce."""
    return _sample(work, "peer", 720, 2.0, frames)


def tiny(work: Path, frames: int) -> Path:
    """96x54 H.264: decoding costs next to nothing."""
    return _sample(work, "tiny", 54, 0.1, frames)


def _sample(work: Path, name: str, height: int, mbit: float, frames: int) -> Path:
    short, path = work / f"{name}.mp4", work / f"{name}_{frames}.mp4"
    if not short.exists():
        make_sample(short, codec="h264", height=height, fps=25, mbit=mbit)
    return path if path.exists() else excerpt(short, path, frames)


def copies(path: Path, folder: Path, count: int) -> list[Path]:
    """The file several times, under names of its own each."""
    folder.mkdir(exist_ok=True)
    made = [folder / f"{path.stem}_{i}{path.suffix}" for i in range(count)]
    for copy in made:
        if not copy.exists():
            shutil.copyfile(path, copy)
    return made


def excerpt(source: Path, path: Path, frames: int) -> Path:
    """The first `frames` frames of a video without B-frames; it begins again when it is over. Nothing is encoded."""
    part = path.with_suffix(".part" + path.suffix)
    with av.open(str(part), "w") as out:
        stream, written, offset = None, 0, 0
        while written < frames:
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                last = 0
                for packet in container.demux(video):
                    if packet.size == 0 or written == frames:
                        break
                    last = (packet.pts or 0) + packet.duration
                    packet.pts, packet.dts = offset + (packet.pts or 0), offset + (packet.dts or 0)
                    packet.stream = stream
                    out.mux(packet)
                    written += 1
                offset += last
    return part.replace(path)
