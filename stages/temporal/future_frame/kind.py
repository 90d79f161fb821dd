"""`future_frame`, as others know it before it is built."""

from __future__ import annotations

from stages.temporal.registry import Meta, ModelKind

PUBLISHED_SCORES = ({"by": "picture", "patch_px": 0}, {"patch_px": 0})
"""How papers score a frame, as newer and older checkpoints say it."""


def _unpredicted(meta: Meta) -> int:
    return int(meta["architecture"]["t_in"])


def _unpublished(meta: Meta) -> list[str]:
    notes = []
    if meta.get("arch") == "conv_transformer":
        notes.append("a predictor of our own, whatever the protocol")
    if meta.get("score", {}) not in PUBLISHED_SCORES:
        notes.append("not judged by the PSNR of the whole picture, as published")
    return notes


FUTURE_FRAME = ModelKind(
    name="future_frame",
    build="stages.temporal.future_frame.stage:build",
    reads_snippets=True,
    made_by="oddwatch train future_frame --manifest F --out CKPT",
    unpredicted_frames=_unpredicted,
    unpublished=_unpublished,
)
