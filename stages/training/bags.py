"""Bags (of multiple-instance learning): videos of which only the label is known, ready to train on.

A bag is one video, or a chain of several of its class: many short clips teach more as few long videos.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from stages.errors import ConfigError, OddwatchError
from stages.files.manifest import ManifestEntry
from stages.text import counted

Pool = Callable[[np.ndarray], np.ndarray]
"""Features (T, C, D) of a bag -> its segments, float32 (S, C, D)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingVideo:
    """A video to train on or to hold out: its features and its label."""

    name: str
    label: int
    """1: holds something anomalous somewhere. 0: normal throughout."""
    group: str
    """Videos of one group stay on one side of every split."""
    values: np.ndarray
    """float32 (T, C, D): snippets, crops, features."""
    frames: np.ndarray
    """int (T,): kept frames of each snippet."""
    views: tuple[np.ndarray, ...] = ()
    """The same footage seen otherwise (mirrored), each float32 (T, C, D). Only for training."""

    def __post_init__(self) -> None:
        if self.label not in (0, 1):
            raise ValueError(f"label must be 0 or 1, got {self.label}")
        for values in (self.values, *self.views):
            if values.dtype != np.float32 or values.ndim != 3 or 0 in values.shape:
                raise ValueError(f"values must be float32 (T, C, D), got {values.dtype} {values.shape}")


def label_of(entry: ManifestEntry) -> int:
    """1 if the manifest says that the video holds an anomaly, 0 if not. Raises ConfigError if it does not say."""
    if entry.label is not None:
        return entry.label
    if entry.anomalies is None:
        raise ConfigError(f'{entry.video}: label: missing; training needs "label": 0 (normal) or 1 (anomalous)')
    return int(bool(entry.anomalies))


def group_of(entry: ManifestEntry) -> str:
    """The entry's group; a video without one is a group of its own."""
    return f"group {entry.group}" if entry.group is not None else f"video {entry.video}"


def check_classes(labels: Sequence[int]) -> None:
    """Raises ConfigError unless both classes are there."""
    counts = [labels.count(label) for label in (0, 1)]
    if not all(counts):
        raise ConfigError(
            f"training needs normal and anomalous videos, the manifest gives {counts[0]} and {counts[1]}; "
            "add the others, or learn from normal footage alone with 'oddwatch fit'"
        )


def check_videos(videos: Sequence[TrainingVideo]) -> None:
    """Raises ConfigError unless both classes are there and all features have one shape."""
    check_classes([video.label for video in videos])
    first = videos[0]
    for video in videos:
        if video.values.shape[1:] != first.values.shape[1:]:
            raise ConfigError(
                f"{video.name}: features of shape {video.values.shape} do not go with {first.values.shape} of "
                f"{first.name}; all videos need the same crops and size"
            )


def check_groups(labels: Sequence[int], groups: Sequence[str], folds: int) -> None:
    """Raises OddwatchError when the rarer class lies in fewer groups than there are folds."""
    spread = min(len({group for group, of in zip(groups, labels, strict=True) if of == label}) for label in (0, 1))
    if spread < folds:
        raise OddwatchError(
            f"cannot hold out 1 in {folds}: only {counted(spread, 'group')} with videos of the rarer class; give more "
            "groups, or train without validation (--validation 0)"
        )


def fingerprint(videos: Sequence[TrainingVideo]) -> str:
    """A hash of everything that is learnt from."""
    digest = hashlib.sha256()
    for video in videos:
        digest.update(f"{video.name}\0{video.label}\0{video.group}\0{len(video.views)}\0".encode())
        for values in (video.values, *video.views):
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def grouped_folds(
    videos: Sequence[TrainingVideo], folds: int, seed: int
) -> list[tuple[list[TrainingVideo], list[TrainingVideo]]]:
    """(training, held-out) videos of each fold: no group on both sides, classes in proportion as far as groups allow.

    Raises OddwatchError when a side would lack a class.
    """
    labels = np.array([video.label for video in videos])
    groups = [video.group for video in videos]
    check_groups(labels.tolist(), groups, folds)
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    pairs = [
        ([videos[i] for i in train], [videos[i] for i in held]) for train, held in cut.split(labels, labels, groups)
    ]
    if any(len({video.label for video in side}) < 2 for pair in pairs for side in pair):
        raise OddwatchError(
            f"the groups cannot be dealt into {folds} parts with both classes in each; choose another --seed, give "
            "more groups, or train without validation (--validation 0)"
        )
    return pairs


class Bags:
    """Draws training batches of one class. The same seed and step give the same bags, in whatever order asked."""

    def __init__(self, videos: Sequence[TrainingVideo], chain: int, pool: Pool) -> None:
        if chain < 1 or not videos:
            raise ValueError(f"need chain >= 1 and videos, got {chain} and {len(videos)}")
        self._views = [(video.values, *video.views) for video in videos]
        self._chain, self._pool = chain, pool
        self._pooled: dict[tuple[int, int], np.ndarray] = {}

    def draw(self, bags: int, rng: np.random.Generator) -> np.ndarray:
        """Float32 (bags, C, S, D). No video comes twice before all have come once."""
        wanted, order = bags * self._chain, np.empty(0, np.int64)
        while len(order) < wanted:
            order = np.concatenate([order, rng.permutation(len(self._views))])
        chosen = [(int(i), int(rng.integers(len(self._views[i])))) for i in order[:wanted]]
        chains = [chosen[start : start + self._chain] for start in range(0, wanted, self._chain)]
        return np.stack([self._bag(chain).transpose(1, 0, 2) for chain in chains])

    def _bag(self, chain: list[tuple[int, int]]) -> np.ndarray:
        if len(chain) > 1:
            return self._pool(np.concatenate([self._views[i][view] for i, view in chain]))
        if chain[0] not in self._pooled:
            i, view = chain[0]
            self._pooled[chain[0]] = self._pool(self._views[i][view])
        return self._pooled[chain[0]]
