"""Temporal models: what is known of a kind before it is built, and building it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stages.errors import CheckpointError, ConfigError
from stages.features.feature_files import is_from_files
from stages.files.checkpoint import Checkpoint
from stages.messages import Features, Scores, Snippet
from stages.plugins import Plugins, load
from stages.stage import Stage

Meta = Mapping[str, Any]
"""`Checkpoint.meta`."""
Scorer = Callable[[np.ndarray], np.ndarray]
"""Features (T, crops, D) of a video's snippets in order -> their raw scores float32 (T,), crops averaged."""


class TemporalModel(Stage[Features | Snippet, Scores], Protocol):
    """A stage from features (or snippets) to raw scores."""

    name: str
    """The model's name in the configuration: `Scores.model`."""
    hash: str
    """Of the checkpoint, or of the adaptive settings: `Scores.model_hash`."""
    features: str | None
    """The extractor it reads, or None: it reads snippets."""


def _nothing(meta: Meta) -> tuple[()]:
    return ()


def _no_wait(meta: Meta) -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """What is known of a temporal model without building it."""

    name: str
    build: str
    """`module:function`, called as `(name, checkpoint or None, device)`, gives the TemporalModel. Raises
    CheckpointError for a checkpoint that does not fit. The module is imported once for all workers of a host."""
    reads_snippets: bool = False
    """It reads pictures, no features."""
    adaptive: bool = False
    """Without a checkpoint it learns from the camera itself."""
    made_by: str = ""
    """The command that makes its checkpoints; empty: none of ours can train it."""
    whole_video: str = ""
    """`module:function`, called as `(name, checkpoint, *, paper, device)`, gives the Scorer of whole videos: the same
    scores as in a stream, or with `paper` those of its published evaluation. Empty: it scores streams only."""
    lookahead_snippets: Callable[[Meta], int] = _no_wait
    """Later snippets that a model with this checkpoint waits for."""
    unpredicted_frames: Callable[[Meta], int] | None = None
    """Kept frames at a video's start that a model with this checkpoint cannot predict. Not None: its paper leaves them
    out, and stretches the scores of each video to 0 .. 1."""
    unpublished: Callable[[Meta], Sequence[str]] = _nothing
    """What of a model with this checkpoint is not as in its paper, whatever the protocol."""


MODELS = Plugins("oddwatch.models", "temporal model", ModelKind)


def reads_features(kind: str, checkpoint: Checkpoint | None, otherwise: str) -> str | None:
    """The extractor a model reads: the one its checkpoint was made with, else `otherwise`; None: it reads snippets.

    Raises ConfigError for an unknown kind, CheckpointError for one that reads features from files.
    """
    if MODELS.get(kind).reads_snippets:
        return None
    if checkpoint is None:
        return otherwise
    extractor = str(checkpoint.meta["extractor"])
    if is_from_files(extractor):
        raise CheckpointError(
            "reads features that others extracted, no footage; use it with 'oddwatch evaluate' on a manifest of "
            "feature files"
        )
    return extractor.partition("@")[0]


def build_model(kind: str, name: str, checkpoint: Checkpoint | None = None, device: str = "cpu") -> TemporalModel:
    """A temporal model; without a checkpoint in adaptive mode, where it has one.

    Raises ConfigError for an unknown kind or a checkpoint that is needed, CheckpointError for one that does not fit.
    """
    found = MODELS.get(kind)
    if checkpoint is None and not found.adaptive:
        how = f"; train one with '{found.made_by}'" if found.made_by else ""
        raise ConfigError(f"{name}: {kind} needs --model CKPT{how}")
    if checkpoint is not None and checkpoint.kind != kind:
        raise CheckpointError(f"{name}: the checkpoint holds a {checkpoint.kind!r} model, expected {kind!r}")
    return load(found.build)(name, checkpoint, device)


def whole_video_scorer(name: str, checkpoint: Checkpoint, *, paper: bool = False, device: str = "cpu") -> Scorer:
    """How a checkpoint scores whole videos.

    Raises CheckpointError for a kind that scores streams only, or a damaged checkpoint.
    """
    kind = MODELS.get(checkpoint.kind)
    if not kind.whole_video:
        raise CheckpointError(f"{name}: a {kind.name!r} model scores footage only, not features of whole videos")
    return load(kind.whole_video)(name, checkpoint, paper=paper, device=device)
