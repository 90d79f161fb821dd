"""The registry of temporal models: kind -> the module that builds it, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from pipeline.errors import ConfigError
from pipeline.messages import Features, Scores, Snippet
from stages.checkpoint import Checkpoint
from stages.stage import Stage

MODELS = {
    "mil": "stages.temporal.mil",
    "novelty": "stages.temporal.novelty",
    "rtfm": "stages.temporal.rtfm_stream",
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


def build_model(kind: str, name: str, checkpoint: Checkpoint | None = None, device: str = "cpu") -> TemporalModel:
    """A temporal model; without a checkpoint in adaptive mode, where it has one.

    Raises ConfigError for an unknown kind, CheckpointError for a checkpoint that does not fit.
    """
    if kind not in MODELS:
        raise ConfigError(f"unknown temporal model {kind!r}; known: {', '.join(MODELS)}")
    return import_module(MODELS[kind]).build(name, checkpoint, device)
