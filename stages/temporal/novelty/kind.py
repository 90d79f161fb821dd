"""`novelty`, as others know it before it is built."""

from __future__ import annotations

from stages.temporal.registry import ModelKind

NOVELTY = ModelKind(
    name="novelty",
    build="stages.temporal.novelty.fitted:build",
    adaptive=True,
    made_by="oddwatch fit --normal PATH --out CKPT",
)
