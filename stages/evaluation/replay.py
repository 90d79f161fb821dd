"""Scores of whole videos or feature files, as the table that scoring them as a stream would give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.alerting.fusion import calibrate, fuse
from stages.alerting.settings import AlertSettings
from stages.decode.settings import DecodeSettings
from stages.decode.source import Source
from stages.errors import CheckpointError, OddwatchError
from stages.features.feature_files import read_features
from stages.files.scores_csv import ScoresTable
from stages.messages import Snippet
from stages.temporal.registry import Scorer

ROW_FRAMES = 16
FILE_FPS = 30.0
"""A row of a feature file stands for 16 frames of 30 in a second, as in UCF-Crime: files do not say."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedTimes:
    """When a video's decoded frames are, and which of them each snippet holds."""

    times_s: np.ndarray
    """float64 (N,)."""
    snippets: list[slice]

    def held(self, scores: np.ndarray, name: str) -> np.ndarray:
        """Scores (T,) of the snippets held over their frames, float32 (N,); NaN in gaps. Raises OddwatchError."""
        if len(scores) != len(self.snippets):
            raise OddwatchError(f"{name}: {len(scores)} snippets scored, {len(self.snippets)} decoded; run it again")
        frames = np.full(len(self.times_s), np.nan, np.float32)
        for frame, score in zip(self.snippets, scores, strict=True):
            frames[frame] = score
        return frames


def decoded_times(source: Source, settings: DecodeSettings) -> DecodedTimes:
    """Decode a file once for its clock. Raises SourceError."""
    from stages.decode.read import read_messages

    times_s, snippets = [np.empty(0)], []
    for message in read_messages(source, settings, 0, lambda: 0.0):
        times_s.append(message.times_s)
        if isinstance(message, Snippet):
            snippets.append(slice(message.first_frame, message.next_frame))
    return DecodedTimes(np.concatenate(times_s), snippets)


def file_scores(path: Path, models: Mapping[str, Scorer]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Times float64 (N,) and each model's raw scores float32 (N,) of a feature file; N is 16 times its rows.

    Raises OddwatchError naming the file.
    """
    values = read_features(path)
    times_s = np.arange(len(values) * ROW_FRAMES) / FILE_FPS
    try:
        raw = {name: np.repeat(score(values).astype(np.float32), ROW_FRAMES) for name, score in models.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return times_s, raw


def fused_table(
    times_s: np.ndarray,
    raw: Mapping[str, np.ndarray],
    references: Mapping[str, np.ndarray],
    settings: AlertSettings,
) -> ScoresTable:
    """Raw scores calibrated by each model's reference and fused, as alerting does."""
    calibrated = {name: calibrate(column, references[name]) for name, column in raw.items()}
    score = fuse(calibrated, settings.fusion, settings.weights)
    return ScoresTable(times_s=times_s, score=score.astype(np.float32), models=dict(raw))


def alone(table: ScoresTable, name: str, reference: np.ndarray) -> ScoresTable:
    """What the table would be, had that model been the only one."""
    raw = table.models[name]
    score = calibrate(raw, reference).astype(np.float32)
    return ScoresTable(times_s=table.times_s, score=score, models={name: raw})
