"""Memory while scoring three hours of footage, against three minutes."""

from __future__ import annotations

from pathlib import Path

from scripts.bench import cheap, footage
from scripts.bench.row import Row
from scripts.bench.score import score

FPS = 25


def measure(work: Path, quick: bool) -> list[Row]:
    """Peak of the data of all processes; tiny pictures and a cheap extractor, so that it takes minutes."""
    config = work / "long.yaml"
    config.write_text("redis: {stream_mb: 1}\n")  # three minutes of tiny pictures would not fill the usual 32
    checkpoint, path = cheap.checkpoint(work), cheap.python_path(work)

    def peak_mb(minutes: int) -> float:
        file = footage.tiny(work, minutes * 60 * FPS)
        return score(
            [file], work / "out", "--config", config, "--model", checkpoint, pythonpath=path, memory=True
        ).peak_mb

    minutes = 10 if quick else 180
    short, long = peak_mb(3), peak_mb(minutes)
    return [
        Row(
            figure=f"peak memory of `oddwatch score`, {minutes} minutes of footage", against="3 minutes",
            values=[long / short], target=1.1, at_least=False, detail={"mb": [long, short]},
            limit=f"{short:.0f} MB became {long:.0f} MB: the index that FFmpeg makes of an MP4, 36 bytes a frame",
        )
    ]  # fmt: skip
