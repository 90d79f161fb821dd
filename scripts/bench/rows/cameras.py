"""What many cameras cost more than one: CPU time per frame, and memory."""

from __future__ import annotations

import statistics
from pathlib import Path

from scripts.bench import cheap, footage
from scripts.bench.row import Row, side_by_side
from scripts.bench.score import Scored, score

CAMERAS = 64


def measure(work: Path, quick: bool) -> list[Row]:
    """CPU time per frame of 64 files decoded at once, against one file with as many frames as all of them.

    Tiny pictures and a cheap extractor, so that it is the moving of messages that is compared. What starting costs
    (the same number of workers, a snippet of every camera) is taken off both.
    """
    frames = 160 if quick else 320
    config = work / "cheap.yaml"
    config.write_text(f"workers: {{decode_files: {CAMERAS}}}\n")
    checkpoint = cheap.checkpoint(work)
    path = cheap.python_path(work)

    def files(count: int, length: int) -> list[Path]:
        return footage.copies(footage.tiny(work, length), work / f"tiny_{count}", count)

    def run(paths: list[Path]) -> Scored:
        return score(paths, work / "out", "--config", config, "--model", checkpoint, pythonpath=path)

    many, long = files(CAMERAS, frames), files(1, frames * CAMERAS)
    many_start, long_start = run(files(CAMERAS, 16)), run(files(1, 16))
    last: dict[str, Scored] = {}

    def per_frame(name: str, paths: list[Path], start: Scored) -> float:
        last[name] = run(paths)
        return 1e6 * (last[name].cpu_s - start.cpu_s) / (last[name].frames - start.frames)

    of_many, of_one = side_by_side(
        1 if quick else 3,
        lambda: per_frame("many", many, many_start),
        lambda: per_frame("one", long, long_start),
    )
    return [
        Row(
            figure=f"CPU time per frame with {CAMERAS} cameras, cheap features", against="with 1 camera",
            values=[a / b for a, b in zip(of_many, of_one, strict=True)], target=1.15, at_least=False,
            detail={
                "us_per_frame_many": of_many, "us_per_frame_one": of_one,
                "cpu_s_by_role_many": dict(last["many"].roles), "cpu_s_by_role_one": dict(last["one"].roles),
                "cpu_s_by_role_start_many": dict(many_start.roles),
            },
            limit=_where(last["many"], last["one"], statistics.median(of_many), statistics.median(of_one)),
        )
    ]  # fmt: skip


def _where(many: Scored, one: Scored, many_us: float, one_us: float) -> str:
    more = sorted(((many.roles.get(r, 0) - one.roles.get(r, 0), r) for r in many.roles), reverse=True)
    return f"{many_us:.0f} against {one_us:.0f} µs; more CPU in " + ", ".join(f"{r} (+{s:.1f} s)" for s, r in more[:3])
