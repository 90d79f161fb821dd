"""Raw scores become comparable numbers in [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stages.alerting.fusion import calibrate
from stages.messages import REFERENCE_LEVELS


def reference(normal: np.ndarray) -> np.ndarray:
    return np.quantile(normal, REFERENCE_LEVELS).astype(np.float32)


SHAPES = {
    "normal": lambda rng: rng.normal(3, 2, 5000),
    "heavy tail": lambda rng: rng.pareto(1.5, 5000),
    "mostly zero": lambda rng: np.maximum(rng.normal(-1, 1, 5000), 0),
    "saturated": lambda rng: np.minimum(rng.exponential(1, 5000), 2),
    "probabilities": lambda rng: rng.beta(1, 50, 5000),
    "three values": lambda rng: np.array([0.1, 0.2, 0.4]),
    "large offset": lambda rng: 1000 + rng.normal(0, 5, 5000),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_it_rises_with_raw_so_that_no_ranking_changes(shape: str) -> None:
    ref = reference(SHAPES[shape](np.random.default_rng(0)))
    low, high = float(ref[0]), float(ref[-1])
    width = high - low
    raw = np.linspace(low - 3 * width, high + 50 * width, 3001).astype(np.float32)
    calibrated = calibrate(raw, ref).astype(np.float32)
    assert np.all(np.diff(calibrated) > 0)
    assert calibrated[0] > 0
    assert calibrated[-1] < 1


def test_roc_auc_of_one_model_is_that_of_its_raw_scores() -> None:
    rng = np.random.default_rng(1)
    ref = reference(rng.gamma(2, 1, 5000))
    raw = np.concatenate([rng.gamma(2, 1, 4000), rng.gamma(6, 2, 1000)]).astype(np.float32)
    label = np.repeat([0, 1], [4000, 1000])
    calibrated = calibrate(raw, ref).astype(np.float32)
    assert roc_auc_score(label, calibrated) == pytest.approx(roc_auc_score(label, raw), abs=1e-6)


@pytest.mark.parametrize("shape", ["normal", "heavy tail", "probabilities", "large offset"])
def test_quantiles_mean_the_same_for_every_model(shape: str) -> None:
    ref = reference(SHAPES[shape](np.random.default_rng(0)))
    at = dict(zip(REFERENCE_LEVELS.tolist(), calibrate(ref, ref).tolist(), strict=True))
    assert at[0.5] == pytest.approx(0.15)
    assert at[0.9] == pytest.approx(0.23, abs=0.005)
    assert at[0.99] == pytest.approx(0.35, abs=0.005)
    assert at[1.0] == pytest.approx(0.5)


def test_beyond_the_highest_normal_score_it_measures_in_spreads_of_normal() -> None:
    ref = reference(np.random.default_rng(2).normal(0, 1, 5000))
    spread = ref[REFERENCE_LEVELS == 0.99][0] - ref[REFERENCE_LEVELS == 0.5][0]
    assert calibrate(ref[-1] + spread * np.array([0.25, 1, 4]), ref) == pytest.approx([0.6, 0.75, 0.9])


def test_units_and_offset_of_a_model_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    normal, raw = rng.gamma(2, 1, 2000), rng.gamma(3, 2, 500)
    plain = calibrate(raw, reference(normal).astype(np.float64))
    moved = calibrate(1000 * raw - 7, np.quantile(1000 * normal - 7, REFERENCE_LEVELS))
    assert moved == pytest.approx(plain, abs=1e-5)


def test_one_wild_value_among_normal_ones_does_not_change_the_unit() -> None:
    normal = np.random.default_rng(4).normal(0, 1, 5000)
    wild = np.append(normal, 100.0)
    beyond = calibrate(np.array([normal.max() + 5]), reference(normal))
    beyond_wild = calibrate(np.array([wild.max() + 5]), reference(wild))
    assert beyond_wild == pytest.approx(beyond, abs=0.01)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-6, 1e6])
def test_a_model_that_always_said_the_same_is_normal_as_long_as_it_does(value: float) -> None:
    ref = np.full(len(REFERENCE_LEVELS), value, np.float32)
    below, same, noise, above = calibrate(ref[0] + np.array([-2, 0, 1e-6, 2]) * (abs(value) or 1), ref)
    assert same == pytest.approx(0.15)
    assert below < same < noise < 0.51
    assert 0.75 <= above < 1


def test_rounding_noise_in_a_reference_is_no_scale() -> None:
    ref = np.linspace(5, 5.00001, len(REFERENCE_LEVELS)).astype(np.float32)
    assert calibrate(np.array([5.001]), ref) < 0.51


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_not_scored(bad: float) -> None:
    ref = np.linspace(0, 1, len(REFERENCE_LEVELS)).astype(np.float32)
    assert np.isnan(calibrate(np.array([0.5, bad]), ref)).tolist() == [False, True]
    ref[-1] = bad
    assert np.isnan(calibrate(np.array([0.5]), ref)).all()


def test_realistic_extremes_do_not_saturate_in_float32() -> None:
    ref = reference(np.random.default_rng(5).normal(0, 1, 5000))
    calibrated = calibrate(np.array([1e2, 1e3, 1e4, 1e5]), ref).astype(np.float32)
    assert np.all(np.diff(calibrated) > 0)
    assert calibrated[-1] < 1
