"""Scores that `evaluate` works out itself: of feature files, and of whole videos as papers have them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.cli.evaluate.video_scores import VideoScores
from pipeline.cli.models import checkpoints_of
from pipeline.cli.progress import frame_counter
from pipeline.cli.score.run import score_files
from pipeline.config.schema import Config
from stages.errors import ConfigError, OddwatchError, UsageError
from stages.text import counted

if TYPE_CHECKING:
    from stages.evaluation.replay import DecodedTimes
    from stages.files.checkpoint import Checkpoint
    from stages.files.manifest import ManifestEntry
    from stages.temporal.registry import Scorer


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """A model that scores whole videos."""

    checkpoint: Checkpoint
    path: str
    score: Scorer
    device: str

    @property
    def extractor(self) -> str:
        return str(self.checkpoint.meta["extractor"])


def score_feature_files(entries: Sequence[ManifestEntry], config: Config, *, paper: bool) -> VideoScores:
    """Score features that others extracted. Raises UsageError for models that do not read such files."""
    from stages.evaluation.replay import FILE_FPS, ROW_FRAMES, file_scores, fused_table
    from stages.features.feature_files import is_from_files

    models = _whole_video_models(config, paper=paper)
    other = [name for name in config.models if name not in models]
    other += [f"{name} (reads {m.extractor})" for name, m in models.items() if not is_from_files(m.extractor)]
    if other:
        raise UsageError(
            f"the manifest lists feature files, which {', '.join(other)} cannot score: give --model CKPT of 'oddwatch "
            "train' or 'oddwatch import' on such files, or list the footage"
        )
    scorers = {name: model.score for name, model in models.items()}
    tables, notes = {}, [f"feature files: a row is taken for {ROW_FRAMES} frames of {FILE_FPS:g} per second"]
    failed = False
    for entry in entries:
        try:
            times_s, raw = file_scores(entry.path, scorers)
            tables[entry.video] = fused_table(times_s, raw, _references(models), config.alerts)
        except OddwatchError as error:
            notes.append(str(error))
            failed = True
    if not tables:
        raise UsageError(f"none of {counted(len(entries), 'feature file')} could be scored: {notes[1]}")
    return VideoScores(config=config, tables=tables, notes=tuple(notes), failed=failed)


def score_as_published(
    entries: Sequence[ManifestEntry], config: Config, out: Path, *, ten_crop: bool, resume: bool, quiet: bool
) -> VideoScores:
    """Score footage as papers do: whole videos where a model's paper has them, the others in a stream.

    `ten_crop`: whole videos in ten crops, whose scores are averaged. Raises UsageError if no model takes them.
    """
    models = _whole_video_models(config, paper=True)
    if ten_crop and not models:
        from stages.temporal.registry import MODELS

        kinds = " and ".join(kind.name for kind in MODELS.all() if kind.whole_video)
        raise UsageError(f"--ten-crop: for {kinds}, which score whole videos in --mode paper; leave it out")
    streaming = {name: m for name, m in config.models.items() if name not in models}
    streamed = None
    if streaming:
        with_streams = config.model_copy(update={"models": streaming})
        result = score_files([str(e.path) for e in entries], out / "scores", with_streams, resume=resume, quiet=quiet)
        streamed = VideoScores.of(entries, result)
        if not models:
            return streamed
    return _joined(entries, config, models, streamed, ten_crop=ten_crop)


def _joined(
    entries: Sequence[ManifestEntry],
    config: Config,
    models: dict[str, _Model],
    streamed: VideoScores | None,
    *,
    ten_crop: bool,
) -> VideoScores:
    """The streamed columns, those of whole videos, and the score fused of both."""
    from stages.evaluation.replay import fused_table
    from stages.training.gather import source_of

    references = {n: np.asarray(c.meta["reference"], np.float32) for n, c in checkpoints_of(config).items()}
    if unknown := [name for name in config.models if name not in references]:
        raise UsageError(f"{unknown[0]}: learns by itself, so it cannot be fused in paper mode; evaluate it alone")
    readers = {name: _Reader(model, config, ten_crop=ten_crop) for name, model in models.items()}
    tables, notes = {}, []
    with frame_counter([str(e.path) for e in entries], "whole videos") as count:
        for entry in entries:
            try:
                source = source_of(entry)
                columns = {name: reader.column(source) for name, reader in readers.items()}
            except OddwatchError as error:
                notes.append(str(error))
                continue
            line = next(iter(columns.values()))[0]
            raw = {name: column for name, (_, column) in columns.items()}
            if streamed is not None and entry.video in streamed.tables:
                raw |= streamed.tables[entry.video].models
            tables[entry.video] = fused_table(line.times_s, raw, references, config.alerts)
            count(str(entry.path), len(line.times_s))
    if not tables:
        raise UsageError(f"none of {counted(len(entries), 'video')} could be scored: {notes[0]}")
    used = streamed.config if streamed else config.model_copy(update={"decode": next(iter(readers.values())).decode})
    return VideoScores(
        config=used.model_copy(update={"models": config.models}), tables=tables, notes=tuple(notes),
        failed=bool(notes) or bool(streamed and streamed.failed),
    )  # fmt: skip


class _Reader:
    """One model's way from a file to a score for each decoded frame.

    Features of whole pictures are kept for the next time; ten crops are not.
    """

    def __init__(self, model: _Model, config: Config, *, ten_crop: bool) -> None:
        from pipeline.cameras.models import ModelSpec
        from pipeline.cameras.resolve import resolve_decode
        from stages.decode.learned import LearnedDecode
        from stages.features.feature_files import is_from_files
        from stages.features.registry import analysis_height, build_extractor
        from stages.training.cache import FeatureCache, cache_folder
        from stages.weights.store import default_home

        name = model.extractor.partition("@")[0]
        if is_from_files(model.extractor):
            raise UsageError(f"{model.path}: reads feature files, but the manifest lists footage; list the features")
        spec = ModelSpec(
            kind=model.checkpoint.kind, features=name, checkpoint=model.path,
            learned=LearnedDecode.read(model.checkpoint.meta),
        )  # fmt: skip
        self.decode = resolve_decode(config.decode, "decode", {name: spec})
        self._settings = self.decode.settings(analysis_height(name))
        self._extractor = build_extractor(name, model.device, engine=config.workers.engine)
        if self._extractor.id != model.extractor:
            raise ConfigError(
                f"{model.path}: learned from {model.extractor}, but here is {self._extractor.id}: other weights or "
                "another version; use those it was made with"
            )
        self._cache = FeatureCache(cache_folder(os.environ, default_home(os.environ)))
        self._score = model.score
        self._ten_crop = ten_crop

    def column(self, source) -> tuple[DecodedTimes, np.ndarray]:  # type: ignore[no-untyped-def]
        """The times of the file's frames and the score of each decoded frame, float32 (N,). Raises SourceError."""
        from stages.evaluation.replay import decoded_times

        line = decoded_times(source, self._settings)
        return line, line.held(self._score(self._features(source)), source.redacted)

    def _features(self, source) -> np.ndarray:  # type: ignore[no-untyped-def]
        """Float32 (T, C, D). Raises SourceError, or ConfigError for an extractor that has no crops."""
        from stages.features.extract_files import ten_crop_features

        if self._ten_crop:
            return ten_crop_features(source, self._extractor, self._settings)
        return self._cache.features(source, self._extractor, self._settings).values[:, None]


def _whole_video_models(config: Config, *, paper: bool) -> dict[str, _Model]:
    from pipeline.workers.build import resolve_device
    from stages.temporal.registry import MODELS, whole_video_scorer

    device = resolve_device(config.workers.device)
    models = {}
    for name, checkpoint in checkpoints_of(config).items():
        if MODELS.get(checkpoint.kind).whole_video:
            score = whole_video_scorer(name, checkpoint, paper=paper, device=device)
            models[name] = _Model(checkpoint, str(config.models[name].checkpoint), score, device)
    return models


def _references(models: dict[str, _Model]) -> dict[str, np.ndarray]:
    return {name: np.asarray(model.checkpoint.meta["reference"], np.float32) for name, model in models.items()}
