"""Several models become one score per decoded frame."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stages.alerting.fusion import expand, fuse


def fused(how: str, weights: dict[str, float] | None = None, **columns: list[float]) -> list[float]:
    return fuse({n: np.array(c) for n, c in columns.items()}, how, weights or {}).tolist()  # type: ignore[arg-type]


def test_a_skipped_frame_takes_the_score_of_the_last_kept_one() -> None:
    # decoded  0 1 2 3 4 5 6
    # kept       a     b c
    picked = np.array([1, 4, 5], np.int32)
    assert "".join(expand(np.array(list("abc")), picked, 7)) == "aaaabcc"


@pytest.mark.parametrize("how", ["mean", "max"])
def test_one_model_alone_is_itself(how: str) -> None:
    column = np.random.default_rng(0).random(1000)
    assert np.array_equal(fuse({"a": column}, how, {"a": 0.3}), column)  # type: ignore[arg-type]
    both = fuse({"a": column, "b": np.full(1000, np.nan)}, how, {})  # type: ignore[arg-type]
    assert np.array_equal(both, column)


def test_a_strong_score_stands_alone_and_a_slight_one_needs_company() -> None:
    assert fused("mean", a=[0.95, 0.6, 0.6], b=[0.15, 0.15, 0.6]) == pytest.approx([0.906, 0.456, 0.6], abs=1e-3)


def test_max_takes_the_oddest() -> None:
    assert fused("max", a=[0.95, 0.2], b=[0.15, 0.6]) == [0.95, 0.6]


def test_a_weight_counts_a_model_as_often() -> None:
    assert fused("mean", {"b": 2}, a=[0.3], b=[0.8]) == pytest.approx(fused("mean", a=[0.3], b=[0.8], c=[0.8]))


@pytest.mark.parametrize("how", ["mean", "max"])
def test_a_model_of_weight_0_is_only_shown(how: str) -> None:
    assert fused(how, {"b": 0}, a=[0.3], b=[0.99]) == [0.3]
    assert np.isnan(fused(how, {"b": 0}, b=[0.99])).all()


@pytest.mark.parametrize("how", ["mean", "max"])
def test_frames_are_fused_from_the_models_that_have_them(how: str) -> None:
    nan = np.nan
    a, b, neither = fused(how, a=[0.3, nan, nan], b=[nan, 0.7, nan])
    assert (a, b) == (0.3, 0.7)
    assert np.isnan(neither)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_any_mix_of_scores_stays_within_the_models(how: str) -> None:
    rng = np.random.default_rng(1)
    columns = {name: np.where(rng.random(500) < 0.2, np.nan, rng.random(500)) for name in "abc"}
    columns["a"][0] = 1.0
    out = fuse(columns, how, {"a": 3, "b": 0.5})  # type: ignore[arg-type]
    known = np.isfinite(np.stack(list(columns.values())))
    lowest = np.where(known, np.stack(list(columns.values())), 2).min(0)
    highest = np.where(known, np.stack(list(columns.values())), -1).max(0)
    some = known.any(0)
    assert np.array_equal(np.isfinite(out), some)
    assert np.all((out[some] >= lowest[some] - 1e-12) & (out[some] <= highest[some] + 1e-12))


@pytest.mark.parametrize("how", ["mean", "max"])
def test_two_models_that_see_different_things_are_better_than_either(how: str) -> None:
    from stages.alerting.fusion import calibrate
    from stages.messages import REFERENCE_LEVELS

    rng = np.random.default_rng(2)
    normal = rng.normal(0, 1, (2, 5000))
    test = rng.normal(0, 1, (2, 6000))
    test[0, :500] += 4  # only the first model sees these
    test[1, 500:1000] += 4  # and only the second these
    label = np.arange(6000) < 1000
    columns = {str(m): calibrate(test[m], np.quantile(normal[m], REFERENCE_LEVELS)) for m in range(2)}
    alone = max(roc_auc_score(label, c) for c in columns.values())
    assert roc_auc_score(label, fuse(columns, how, {})) > alone + 0.1  # type: ignore[arg-type]
