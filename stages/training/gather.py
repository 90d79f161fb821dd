"""From a manifest to videos with features: footage through the cache, feature files as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.decode.settings import DecodeSettings
from stages.decode.source import Source, expand
from stages.errors import ConfigError, UsageError
from stages.features.feature_files import extractor_of_files, is_feature_file, read_features
from stages.features.registry import Extractor
from stages.files.manifest import ManifestEntry
from stages.training.bags import TrainingVideo, group_of, label_of
from stages.training.cache import FeatureCache
from stages.training.mirrored import Mirrored

FILE_FRAMES = 16
"""Frames that a row of a feature file is taken to stand for; only the rows' equal weight matters."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Footage:
    """How videos are turned into features."""

    extractor: Extractor
    settings: DecodeSettings
    cache: FeatureCache
    mirrored: bool = False
    """Whether the mirror image is learnt from as well, at twice the cost of extraction."""

    def video(
        self, entry: ManifestEntry, source: Source, on_frames: Callable[[int], None] | None = None
    ) -> TrainingVideo:
        """Raises what FeatureCache.features raises."""
        plain = self.cache.features(source, self.extractor, self.settings, on_frames)
        views: tuple[np.ndarray, ...] = ()
        if self.mirrored:
            mirror = self.cache.features(source, Mirrored(self.extractor), self.settings, on_frames)
            views = (mirror.values[:, None],)
        return TrainingVideo(
            name=entry.video,
            label=label_of(entry),
            group=group_of(entry),
            values=plain.values[:, None],
            frames=plain.frames,
            views=views,
        )


def chosen_split(entries: Sequence[ManifestEntry], split: str | None) -> list[ManifestEntry]:
    """The entries to train on: of `split`; unless given those of split `train`; all where no entry has a split.

    Raises UsageError when nothing is left.
    """
    if split is None and all(entry.split is None for entry in entries):
        return list(entries)
    wanted = split or "train"
    if wanted == "test":
        raise UsageError("--split test: the test split is for 'oddwatch evaluate' alone; train on another")
    found = [entry for entry in entries if entry.split == wanted]
    if not found:
        known = sorted({entry.split for entry in entries if entry.split is not None})
        raise UsageError(f"--split {wanted}: no video has this split; the manifest has {known}")
    return found


def are_feature_files(entries: Sequence[ManifestEntry]) -> bool:
    """Whether the manifest lists features instead of footage. Raises ConfigError for a mixture."""
    kinds = {is_feature_file(entry.path): entry.video for entry in entries}
    if len(kinds) == 2:
        raise ConfigError(
            f"the manifest mixes footage ({kinds[False]}) and feature files ({kinds[True]}); list one or the other"
        )
    return True in kinds


def source_of(entry: ManifestEntry) -> Source:
    """The footage of an entry. Raises UsageError when it is not one file or one folder of pictures."""
    sources = expand([str(entry.path)])
    if len(sources) != 1 or sources[0].live:
        raise UsageError(f"{entry.video}: stands for {len(sources)} videos; a line of a manifest is one file")
    return sources[0]


def video_of_file(entry: ManifestEntry) -> TrainingVideo:
    """A video whose features others extracted. Raises SourceError."""
    values = read_features(entry.path)
    frames = np.full(len(values), FILE_FRAMES, np.int32)
    return TrainingVideo(name=entry.video, label=label_of(entry), group=group_of(entry), values=values, frames=frames)


def file_extractor(videos: Sequence[TrainingVideo]) -> str:
    """What a checkpoint says it was trained on when that came from files: nothing that runs live."""
    return extractor_of_files(videos[0].values.shape[2])
