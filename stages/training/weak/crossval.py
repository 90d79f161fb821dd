"""Grouped k-fold cross-validation of whole clips, beside a plain baseline on the same features and folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.training.bags import TrainingVideo, grouped_folds

Scorer = Callable[[TrainingVideo], np.ndarray]
"""A video -> its snippet scores, float32 (T,)."""
Fit = Callable[[Sequence[TrainingVideo], int], Scorer]
"""(training videos, seed) -> a scorer that has seen nothing else."""
TO_CLIP: dict[str, Callable[[np.ndarray], float]] = {"mean": np.mean, "max": np.max}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutOfFold:
    """What one method said of every clip while that clip was held out; folds and weights by `seed`."""

    method: str
    seed: int
    names: tuple[str, ...]
    labels: np.ndarray
    folds: np.ndarray
    """int (N,): in which fold a clip was held out."""
    scores: tuple[np.ndarray, ...]
    """Snippet scores, float32 (T,) each."""

    def clip_scores(self, how: str = "mean") -> np.ndarray:
        """One score for each clip, float (N,): the `mean` or `max` of its snippets."""
        return np.array([TO_CLIP[how](scores) for scores in self.scores])

    def roc_auc(self, how: str = "mean") -> float:
        """Of all clips together: scores of different folds must be comparable."""
        return float(roc_auc_score(self.labels, self.clip_scores(how)))

    def fold_roc_auc(self, how: str = "mean") -> float:
        """Mean of the folds' own figures."""
        clip = self.clip_scores(how)
        return float(
            np.mean([roc_auc_score(self.labels[self.folds == f], clip[self.folds == f]) for f in np.unique(self.folds)])
        )


def cross_validate(
    videos: Sequence[TrainingVideo],
    methods: dict[str, Fit],
    folds: int,
    seed: int,
    report: Callable[[str, int], None] = lambda *_: None,
) -> list[OutOfFold]:
    """Each method on the same folds; `report` is told (method, fold). Raises OddwatchError for too few groups."""
    said: dict[str, dict[str, np.ndarray]] = {method: {} for method in methods}
    fold_of: dict[str, int] = {}
    for fold, (training, held) in enumerate(grouped_folds(videos, folds, seed)):
        fold_of |= {video.name: fold for video in held}
        for method, fit in methods.items():
            report(method, fold)
            scorer = fit(training, seed)
            said[method] |= {video.name: np.asarray(scorer(video), np.float32) for video in held}
    return [
        OutOfFold(
            method=method,
            seed=seed,
            names=tuple(video.name for video in videos),
            labels=np.array([video.label for video in videos]),
            folds=np.array([fold_of[video.name] for video in videos]),
            scores=tuple(scores[video.name] for video in videos),
        )
        for method, scores in said.items()
    ]


def mean_and_logistic(c: float = 1.0) -> Fit:
    """The baseline: a clip's mean feature vector, standardised, logistic regression of inverse strength `c`."""

    def fit(training: Sequence[TrainingVideo], seed: int) -> Scorer:
        x = np.stack([_mean(video) for video in training])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000))
        model.fit(x, [video.label for video in training])
        return lambda video: np.asarray(model.decision_function(_mean(video)[None]), np.float32)

    return fit


def _mean(video: TrainingVideo) -> np.ndarray:
    return np.asarray(video.values.mean((0, 1)))
