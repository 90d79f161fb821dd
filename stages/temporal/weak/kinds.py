"""`mil` and `rtfm`, as others know them before they are built."""

from __future__ import annotations

from stages.temporal.registry import Meta, ModelKind

LOOKAHEAD = 5
"""Later snippets that the published convolutions of RTFM see."""


def _waits(meta: Meta) -> int:
    return LOOKAHEAD if meta["architecture"].get("mode") == "lookahead" else 0


def _unpublished(meta: Meta) -> list[str]:
    if meta["architecture"].get("mode") != "causal":
        return []
    return ["a causal RTFM has no published form; scored as in a stream"]


MIL = ModelKind(
    name="mil",
    build="stages.temporal.weak.mil:build",
    made_by="oddwatch train mil --manifest F --out CKPT",
    whole_video="stages.temporal.weak.whole_video:mil_scorer",
)
RTFM = ModelKind(
    name="rtfm",
    build="stages.temporal.weak.rtfm_stream:build",
    made_by="oddwatch train rtfm --manifest F --out CKPT",
    whole_video="stages.temporal.weak.whole_video:rtfm_scorer",
    lookahead_snippets=_waits,
    unpublished=_unpublished,
)
