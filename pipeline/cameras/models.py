"""A temporal model of a camera: what the configuration and its checkpoint say, as the workers must build it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.config.schema import ModelConfig
from pipeline.path_text import PathText
from stages.decode.learned import LearnedDecode
from stages.errors import CheckpointError


class ModelSpec(BaseModel):
    """A temporal model as the workers must build it."""

    model_config = ConfigDict(frozen=True)
    kind: str
    features: str | None
    """Extractor it reads, None: snippets."""
    checkpoint: PathText | None = None
    sha256: str | None = None
    learned: LearnedDecode | None = None
    """How the footage was decoded that its checkpoint was made from."""


def model_specs(models: Mapping[str, ModelConfig]) -> dict[str, ModelSpec]:
    """Read what the checkpoints say of themselves. Raises CheckpointError or ConfigError."""
    from stages.files.checkpoint import load_checkpoint
    from stages.temporal.registry import reads_features

    specs = {}
    for name, model in models.items():
        if model.checkpoint is None:
            specs[name] = ModelSpec(kind=model.kind, features=reads_features(model.kind, None, model.features))
        else:
            path = Path(model.checkpoint).resolve()
            checkpoint = load_checkpoint(path)
            try:
                learned = LearnedDecode.read(checkpoint.meta)
                features = reads_features(checkpoint.kind, checkpoint, model.features)
            except CheckpointError as error:
                raise CheckpointError(f"{path}: {error}") from error
            specs[name] = ModelSpec(
                kind=checkpoint.kind, features=features, checkpoint=str(path), sha256=checkpoint.sha256,
                learned=learned,
            )  # fmt: skip
    return specs
