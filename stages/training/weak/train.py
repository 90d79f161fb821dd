"""From labelled videos to a `mil` or `rtfm` checkpoint: split, train, measure on what was held out, describe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from stages.errors import UsageError
from stages.files.checkpoint import Checkpoint
from stages.files.manifest import ManifestEntry
from stages.messages import REFERENCE_LEVELS
from stages.temporal.network_checkpoint import make_checkpoint
from stages.temporal.weak import kinds
from stages.temporal.weak.mil import MILConfig
from stages.temporal.weak.rtfm import RTFMConfig
from stages.temporal.weak.segments import SEGMENTS
from stages.training.bags import (
    TrainingVideo,
    check_classes,
    check_groups,
    check_videos,
    fingerprint,
    group_of,
    grouped_folds,
    label_of,
)
from stages.training.weak.loop import Report, Settings, TrainingProgress, train
from stages.training.weak.mil import Standard, TrainableMIL
from stages.training.weak.rtfm import TrainableRTFM

VERSION = 1
"""Of what training does with the same settings; part of a training's identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides what is learnt from given videos."""

    model: MILConfig | RTFMConfig
    settings: Settings
    segments: int = SEGMENTS
    """Rows of a training bag, whatever the length of its videos."""
    standardise: bool = False
    """`mil` only: see stages/training/weak/mil.py."""
    validation: float = 0.2
    """Share of the videos held out by group; 0 holds out none and keeps the last iterate."""

    def __post_init__(self) -> None:
        if self.segments < 1 or not 0 <= self.validation <= 0.5:
            raise ValueError(
                f"need segments >= 1 and validation within 0 .. 0.5, got {self.segments}, {self.validation}"
            )
        if self.standardise and self.kind != kinds.MIL.name:
            raise ValueError("only mil can be trained on standardised features")

    @property
    def kind(self) -> str:
        """Name of the model's kind."""
        return (kinds.MIL if isinstance(self.model, MILConfig) else kinds.RTFM).name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedModel:
    """A finished training."""

    checkpoint: Checkpoint
    progress: TrainingProgress
    held_out: tuple[str, ...]
    """Names of the videos it was validated on."""
    roc_auc: float | None
    """Of the held-out videos, each by its highest score. The best of several looks, so a little too kind."""


def adapted(
    published: Settings, iterations: int | None, batch: int | None, learning_rate: float | None, chain: int, seed: int
) -> Settings:
    """The published settings, with what the user chose instead. Raises UsageError for a rate that is not positive."""
    if learning_rate is not None and learning_rate <= 0:
        raise UsageError(f"--learning-rate: must be positive, got {learning_rate}")
    steps = iterations or published.iterations
    return Settings(
        iterations=steps,
        batch=batch or published.batch,
        learning_rate=learning_rate or published.learning_rate,
        chain=chain,
        seed=seed,
        check_every=max(1, min(published.check_every, steps // 20)),
    )


def check(entries: Sequence[ManifestEntry]) -> None:
    """Refuse, before anything is extracted, a manifest without labels or without one of the classes: ConfigError."""
    check_classes([label_of(entry) for entry in entries])


def check_split(entries: Sequence[ManifestEntry], validation: float) -> None:
    """Refuse, before anything is extracted, a manifest of too few groups to hold some out: OddwatchError."""
    if validation:
        check_groups([label_of(entry) for entry in entries], [group_of(entry) for entry in entries], _folds(validation))


def make_trainable(
    recipe: Recipe, training: Sequence[TrainingVideo], device: str = "cpu"
) -> TrainableMIL | TrainableRTFM:
    """The network at the start of training."""
    if isinstance(recipe.model, RTFMConfig):
        return TrainableRTFM(recipe.model, recipe.settings, device, recipe.segments)
    standard = Standard.of(training) if recipe.standardise else None
    return TrainableMIL(recipe.model, recipe.settings, device, recipe.segments, standard)


def split(videos: Sequence[TrainingVideo], recipe: Recipe) -> tuple[list[TrainingVideo], list[TrainingVideo]]:
    """(training, held-out) videos: no group on both sides. Raises OddwatchError for too few groups."""
    if recipe.validation == 0:
        return list(videos), []
    return grouped_folds(videos, _folds(recipe.validation), recipe.settings.seed)[0]


def _folds(validation: float) -> int:
    return round(1 / validation)


def identity(videos: Sequence[TrainingVideo], recipe: Recipe, extractor: str) -> str:
    """A hash of all that the result depends on: a training may only be resumed with the same."""
    parts = [VERSION, recipe.kind, asdict(recipe), extractor, fingerprint(videos)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def train_weak(
    videos: Sequence[TrainingVideo],
    recipe: Recipe,
    *,
    extractor: str,
    preprocessing: dict,
    device: str = "cpu",
    start: TrainingProgress | None = None,
    keep: Callable[[TrainingProgress], None] = lambda _: None,
    report: Report = lambda *_: None,
    normal_scores: np.ndarray | None = None,
) -> TrainedModel:
    """Train one model and describe it. The same videos, recipe and device give the same checkpoint.

    Its reference is of the held-out normal videos, or of `normal_scores` (per frame) where cross-validation gave
    better ones; without either of the training ones, which is too kind. Raises ConfigError or OddwatchError.
    """
    check_videos(videos)
    training, held = split(videos, recipe)
    trainable = make_trainable(recipe, training, device)
    progress = train(trainable, training, held, recipe.settings, start=start, keep=keep, report=report)
    if normal_scores is None:
        normal_scores = frame_scores(trainable, [video for video in held or training if video.label == 0])
        source = "held-out normal videos" if held else "normal training videos: too kind"
    else:
        source = "cross-validation: normal videos while they were held out"
    roc_auc = None
    if held:
        roc_auc = float(roc_auc_score([v.label for v in held], [float(trainable.scores(v.values).max()) for v in held]))
    net = trainable.finished() if isinstance(trainable, TrainableMIL) else trainable.net
    checkpoint = make_checkpoint(
        recipe.kind,
        net,
        recipe.model,
        extractor=extractor,
        preprocessing=preprocessing,
        reference=reference_of(normal_scores),
        training={
            "data": fingerprint(videos),
            "videos": len(videos),
            "recipe": asdict(recipe),
            "kept_iteration": progress.best_iteration,
            "held_out": sorted(video.name for video in held),
            "held_out_roc_auc": roc_auc,
            "reference_from": source,
        },
    )
    return TrainedModel(
        checkpoint=checkpoint, progress=progress, held_out=tuple(video.name for video in held), roc_auc=roc_auc
    )


def frame_scores(trainable: TrainableMIL | TrainableRTFM, videos: Sequence[TrainingVideo]) -> np.ndarray:
    """The scores of all kept frames of the videos, float32 (N,)."""
    return np.concatenate([np.repeat(trainable.scores(video.values), video.frames) for video in videos])


def reference_of(normal_scores: np.ndarray) -> np.ndarray:
    """Quantiles of normal scores at REFERENCE_LEVELS, float32."""
    return np.quantile(normal_scores.astype(np.float64), REFERENCE_LEVELS).astype(np.float32)
