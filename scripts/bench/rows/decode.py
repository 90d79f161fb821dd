"""Decoding 1080p to snippets, against `ffmpeg` doing the same into nothing."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from pathlib import Path

from scripts.bench import footage
from scripts.bench.row import Row, side_by_side
from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import expand
from stages.decode.sources.video_file import FILE_THREADS

FLAGS = "area+accurate_rnd+bitexact"
"""The same scaling as ours."""


def measure(work: Path, quick: bool) -> list[Row]:
    """One row: frames per second of both, taking turns."""
    figure = "decode to snippets, 1080p H.264 to 240 lines"
    against = f"ffmpeg -threads {FILE_THREADS}, same scaling, into null"
    program = shutil.which("ffmpeg")
    if program is None:
        return [Row(figure=figure, against=against, target=0.9, skipped="ffmpeg is not installed")]
    frames = 200 if quick else 800
    path = footage.full_hd(work, frames)

    cpu_ms: dict[str, list[float]] = {"ours": [], "same": [], "usual": []}

    def ours() -> float:
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        read = sum(len(m.times_s) for m in read_messages(expand([str(path)])[0], DecodeSettings(), 0, time.time))
        assert read == frames
        cpu_ms["ours"].append(1000 * (time.process_time() - cpu_s) / frames)
        return frames / (time.perf_counter() - begun_s)

    def theirs(name: str, scale: str) -> float:
        begun_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [program, "-v", "error", "-nostdin", "-threads", str(FILE_THREADS), "-i", str(path), "-vf", scale,
             "-pix_fmt", "rgb24", "-f", "null", "-"],
            check=True,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        cpu_ms[name].append(1000 * cpu_s / frames)
        return frames / (time.perf_counter() - begun_s)

    mine, same, usual = side_by_side(
        2 if quick else 5,
        ours,
        lambda: theirs("same", f"scale=-2:240:flags={FLAGS}"),
        lambda: theirs("usual", "scale=-2:240"),
    )
    return [
        Row(
            figure=figure, against=against, target=0.9,
            values=[a / b for a, b in zip(mine, same, strict=True)],
            detail={"frames_per_s": mine, "ffmpeg_frames_per_s": same, "ffmpeg_bicubic_frames_per_s": usual,
                    "cpu_ms_per_frame": cpu_ms},
            limit="scaling by the PyAV wheel's libswscale, whose AVX2 gather is slow on some processors",
        )
    ]  # fmt: skip
