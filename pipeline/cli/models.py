"""The models that a command was given: by name, with their checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.schema import Config, ModelConfig

if TYPE_CHECKING:
    from stages.files.checkpoint import Checkpoint


def named_models(checkpoints: Sequence[Path]) -> dict[str, ModelConfig]:
    """`--model` options as configuration: each named by its kind, a second of a kind with a number."""
    from stages.files.checkpoint import read_kind

    models: dict[str, ModelConfig] = {}
    for path in checkpoints:
        kind = read_kind(path)
        name, n = kind, 2
        while name in models:
            name, n = f"{kind}-{n}", n + 1
        models[name] = ModelConfig(checkpoint=path, kind=kind)
    return models


def checkpoints_of(config: Config) -> dict[str, Checkpoint]:
    """The checkpoints of the models that have one, by the models' names. Raises CheckpointError."""
    from stages.files.checkpoint import load_checkpoint

    return {name: load_checkpoint(m.checkpoint) for name, m in config.models.items() if m.checkpoint is not None}
