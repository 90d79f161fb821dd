"""One training repeated with other seeds: the mean of each figure and how far the seeds lie apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.errors import UsageError
from stages.files.checkpoint import Checkpoint

SAME = ("arch", "architecture", "extractor", "preprocessing", "score")
SAME_TRAINING = ("data", "clips", "videos", "recipe", "settings", "steps", "published")
"""What checkpoints of one training have in common, apart from seeds within."""
FIGURES = {
    "roc_auc": "micro ROC-AUC",
    "average_precision": "average precision",
    "macro_roc_auc": "macro ROC-AUC",
    "abnormal_only_roc_auc": "abnormal videos only",
    "false_alarms_per_hour": "false alarms per hour",
    "normal_frames_under_alert": "share of normal frames under an alert",
    "events_alerted": "events alerted on",
    "median_delay_s": "median delay in seconds",
}
"""What is averaged: its name in `metrics.json`, and in words."""


def check_seeds(checkpoints: Sequence[tuple[str, Checkpoint]]) -> list[int | None]:
    """The seeds of (path, checkpoint) pairs, None where one does not say.

    Raises UsageError unless the seed is all that differs.
    """
    if len(checkpoints) < 2:
        raise UsageError("--over-seeds: needs two or more --model, trained alike with other seeds")
    (first, one), *rest = checkpoints
    seen, seeds = {one.sha256: first}, {_seed(one.meta.get("training")): first}
    for path, other in rest:
        if twin := seen.get(other.sha256):
            raise UsageError(f"--over-seeds: {path} and {twin} are the same checkpoint; train one with another --seed")
        seed = _seed(other.meta.get("training"))
        if seed is not None and (twin := seeds.get(seed)):
            raise UsageError(
                f"--over-seeds: {path} and {twin} have the same seed {seed}; train one with another --seed"
            )
        seen[other.sha256] = seeds[seed] = path
        theirs, ours = _identity(other), _identity(one)
        differing = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
        if differing:
            raise UsageError(
                f"--over-seeds: {path} differs from {first} in its {', '.join(differing)}, not its seed only"
            )
    return [_seed(checkpoint.meta.get("training")) for _, checkpoint in checkpoints]


def seed_figures(names: Sequence[str], models: Mapping[str, Mapping[str, Any]]) -> dict[str, dict]:
    """Figure -> {mean, std, each} over the models of those names, as `metrics.json` has them; std is the sample's."""
    figures = {
        "roc_auc": [models[n]["roc_auc"] for n in names],
        "average_precision": [models[n]["average_precision"] for n in names],
        "macro_roc_auc": [models[n]["macro"]["roc_auc"] for n in names],
        "abnormal_only_roc_auc": [models[n]["abnormal_only"]["roc_auc"] for n in names],
        "false_alarms_per_hour": [models[n]["false_alarms_per_hour"] for n in names],
        "normal_frames_under_alert": [models[n]["false_alarms"]["normal_frames_under_alert"] for n in names],
        "events_alerted": [models[n]["events"]["alerted"] for n in names],
        "median_delay_s": [models[n]["events"]["median_delay_s"] for n in names],
    }
    return {name: _spread(each) for name, each in figures.items()}


def _spread(each: list[float | None]) -> dict:
    # A mean over some of the seeds would be another figure.
    known = [value for value in each if value is not None]
    if len(known) < len(each):
        return {"mean": None, "std": None, "each": each}
    return {"mean": float(np.mean(known)), "std": float(np.std(known, ddof=1)), "each": each}


def _identity(checkpoint: Checkpoint) -> dict[str, str]:
    meta, training = checkpoint.meta, checkpoint.meta.get("training") or {}
    parts = {"kind": checkpoint.kind} | {key: meta.get(key) for key in SAME}
    parts |= {f"training {key}": _seedless(training.get(key)) for key in SAME_TRAINING}
    return {key: json.dumps(value, sort_keys=True) for key, value in parts.items()}


def _seedless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _seedless(part) for key, part in value.items() if key != "seed"}
    return value


def _seed(value: object) -> int | None:
    """The first `seed` anywhere in what a checkpoint says of its training."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("seed"), int):
        return int(value["seed"])
    return next((seed for part in value.values() if (seed := _seed(part)) is not None), None)
