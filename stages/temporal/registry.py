"""The registry of temporal models: kind -> the module that builds it, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from stages.errors import CheckpointError, ConfigError
from stages.files.checkpoint import Checkpoint
from stages.messages import Features, Scores, Snippet
from stages.stage import Stage

MODELS = {
    "future_frame": "stages.temporal.future_frame.stage",
    "mil": "stages.temporal.weak.mil",
    "novelty": "stages.temporal.novelty.fitted",
    "rtfm": "stages.temporal.weak.rtfm_stream",
}


class TemporalModel(Stage[Features | Snippet, Scores], Protocol):
    """A stage from features (or snippets) to raw scores.

    Its module has `build(name: str, checkpoint: Checkpoint | None, device: str) -> TemporalModel`.
    """

    name: str
    """The model's name in the configuration: `Scores.model`."""
    hash: str
    """Of the checkpoint, or of the adaptive settings: `Scores.model_hash`."""
    features: str | None
    """The extractor it reads, or None: it reads snippets."""


FROM_FILES = "file"
"""What stands for the extractor of features that others extracted: `file@D`."""
READS_SNIPPETS = frozenset({"future_frame"})


def reads_features(kind: str, checkpoint: Checkpoint | None, otherwise: str) -> str | None:
    """The extractor a model reads: the one its checkpoint was made with, else `otherwise`; None: it reads snippets.

    Raises ConfigError for an unknown kind, CheckpointError for one that reads features from files.
    """
    if _known(kind) in READS_SNIPPETS:
        return None
    name = otherwise if checkpoint is None else str(checkpoint.meta["extractor"]).partition("@")[0]
    if name == FROM_FILES:
        raise CheckpointError(
            "reads features that others extracted, no footage; use it with 'oddwatch evaluate' on a manifest of "
            "feature files"
        )
    return name


def build_model(kind: str, name: str, checkpoint: Checkpoint | None = None, device: str = "cpu") -> TemporalModel:
    """A temporal model; without a checkpoint in adaptive mode, where it has one.

    Raises ConfigError for an unknown kind, CheckpointError for a checkpoint that does not fit.
    """
    return import_module(MODELS[_known(kind)]).build(name, checkpoint, device)


def _known(kind: str) -> str:
    if kind not in MODELS:
        raise ConfigError(f"unknown temporal model {kind!r}; known: {', '.join(MODELS)}")
    return kind
