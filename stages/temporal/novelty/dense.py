"""Novelty of dense features: distance of each snippet's vector to a bank of normal ones."""

from __future__ import annotations

import numpy as np

from stages.messages import Features
from stages.temporal.novelty.bank import mean_distance
from stages.temporal.novelty.cells import oddness


def coordinates(values: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Vectors float32 (N, D), standardised over sqrt(D)."""
    return ((values - mean) / (deviation * np.float32(np.sqrt(values.shape[1])))).astype(np.float32)


def snippet_oddness(
    values: np.ndarray, mean: np.ndarray, deviation: np.ndarray, bank: np.ndarray, level: np.ndarray
) -> np.ndarray:
    """float32 0-d: oddness of a snippet's vector (D,); `level` is [mean, deviation] of held-out normal distances."""
    far = mean_distance(coordinates(values[None], mean, deviation), bank)
    return oddness(far, level[0], level[1])[0]


def held_map(odd: np.ndarray, features: Features) -> np.ndarray:
    """float32 (T, 1, 1): a snippet's oddness, held over its frames."""
    return np.full((len(features.picked), 1, 1), odd, np.float32)
