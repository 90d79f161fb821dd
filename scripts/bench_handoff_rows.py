"""The rows about handing frames from one process to another; measured by bench_handoff."""

from __future__ import annotations

from pathlib import Path

import bench_handoff
from bench_row import Row


def measure(work: Path, quick: bool) -> list[Row]:
    """Bandwidth of a hand-off of 16x224x224x3 against a plain copy, and against pixels sent through Redis."""
    said = bench_handoff.measure(1 if quick else 5)
    detail = {key: said[key] for key in ("bytes", "copy_gb_s", "shared_gb_s", "inline_gb_s")}
    return [
        Row(
            figure="frame hand-off between processes, shared memory", against=against,
            values=[said[key]["least"], said[key]["median"], said[key]["greatest"]], target=target, detail=detail,
            limit=f"{detail['shared_gb_s']['median']:.2f} GB/s, a copy {detail['copy_gb_s']['median']:.2f} GB/s",
        )
        for key, against, target in (
            ("shared_to_copy", "a plain memory copy", 0.4),
            ("shared_to_inline", "through Redis (inline)", 5.0),
        )
    ]  # fmt: skip
