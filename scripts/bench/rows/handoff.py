"""The rows about handing frames from one process to another; measured by handoff."""

from __future__ import annotations

from pathlib import Path

from scripts.bench import handoff
from scripts.bench.row import Row


def measure(work: Path, quick: bool) -> list[Row]:
    """Bandwidth of a hand-off of 16x224x224x3 against a plain copy, and against pixels sent through Redis."""
    said = handoff.measure(1 if quick else 5)
    detail = {key: said[key] for key in ("bytes", "copy_gb_s", "shared_gb_s", "copied_gb_s", "inline_gb_s")}
    speed = {key: detail[f"{key}_gb_s"]["median"] for key in ("copy", "shared", "copied")}
    limit = (
        f"{speed['shared']:.1f} GB/s, a copy {speed['copy']:.1f} GB/s; three processes on two cores, each of which is "
        "woken by the next: committing, reading and acknowledging take {:.2f} ms, no pixel is moved".format(
            said["bytes"] / speed["shared"] / 1e6
        )
    )
    return [
        Row(
            figure=f"frame hand-off between processes, {how}", against=against,
            values=[said[key]["least"], said[key]["median"], said[key]["greatest"]], target=target, detail=detail,
            limit=limit if target else f"{speed['copied']:.1f} GB/s",
        )
        for key, how, against, target in (
            ("shared_to_copy", "shared memory (a file's)", "a plain memory copy", 0.4),
            ("copied_to_copy", "copied into shared memory (a camera's)", "a plain memory copy", None),
            ("shared_to_inline", "shared memory", "through Redis (inline)", 5.0),
        )
    ]  # fmt: skip
