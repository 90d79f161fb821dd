"""Novelty of dense features: distance of each snippet's vector to a bank of normal ones."""

from __future__ import annotations

import numpy as np

from stages.temporal.novelty_bank import mean_distance

CAP = 8.0
"""Deviations beyond which a snippet is not odder."""


def coordinates(values: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Vectors float32 (N, D), standardised over sqrt(D)."""
    return ((values - mean) / (deviation * np.float32(np.sqrt(values.shape[1])))).astype(np.float32)


def snippet_scores(
    values: np.ndarray, mean: np.ndarray, deviation: np.ndarray, bank: np.ndarray, level: np.ndarray
) -> np.ndarray:
    """float32 (N,): distances in deviations from those of held-out normal snippets; `level` is their [mean, deviation]."""
    far = np.concatenate([mean_distance(row[None], bank) for row in coordinates(values, mean, deviation)])
    return np.clip((far - level[0]) / level[1], -CAP, CAP).astype(np.float32)
