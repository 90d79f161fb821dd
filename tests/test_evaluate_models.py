"""`evaluate` on several models, on feature files, as published and over seeds. 40 s, for commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dense_makers import checkpoint_of, seed_weights
from e2e import Ended, oddwatch

from pipeline.errors import UsageError
from stages.alerting.calibration import calibrate
from stages.alerting.settings import AlertSettings
from stages.checkpoint import Checkpoint, save_checkpoint
from stages.evaluation.alarms import alarms, at_threshold
from stages.evaluation.seeds import check_seeds, seed_figures
from stages.evaluation.tables import Timeline, alone, fused_table
from stages.temporal.mil import MIL, MILConfig
from stages.temporal.rtfm import RTFM, RTFMConfig

DIM = 8
RISING = np.linspace(0, 1, 19).astype(np.float32)
SETTINGS = AlertSettings(raise_at=0.6, clear_at=0.5, min_length_s=0.1, merge_gap_s=0.2, cooldown_s=0)


# --- what would be raised


def test_alarms_are_those_that_alerting_would_raise() -> None:
    score = np.full(100, 0.1, np.float32)
    score[10:20] = score[21:30] = 0.9
    score[60] = 0.9  # shorter than the least length
    assert alarms(np.arange(100) / 20, score, SETTINGS) == [(10, 29)]


def test_frames_without_a_score_raise_nothing() -> None:
    assert alarms(np.arange(50) / 20, np.full(50, np.nan, np.float32), SETTINGS) == []


def test_a_threshold_moves_both_levels() -> None:
    moved = at_threshold(SETTINGS, 0.3)
    assert (moved.raise_at, moved.clear_at) == (0.3, pytest.approx(0.25))
    score = np.full(50, 0.4, np.float32)
    assert alarms(np.arange(50) / 20, score, SETTINGS) == []
    assert alarms(np.arange(50) / 20, score, moved) == [(0, 49)]


# --- tables


def test_scores_are_held_over_their_snippets_and_gaps_stay_empty() -> None:
    line = Timeline(np.arange(7) / 10, [slice(0, 3), slice(5, 7)])
    held = line.held(np.array([1, 2], np.float32), "a")
    np.testing.assert_array_equal(held, np.array([1, 1, 1, np.nan, np.nan, 2, 2], np.float32))


def test_a_model_alone_is_calibrated_by_its_own_reference() -> None:
    raw = {"a": np.array([0.2, 0.9], np.float32), "b": np.array([0.9, 0.2], np.float32)}
    both = fused_table(np.arange(2.0), raw, {"a": RISING, "b": RISING}, AlertSettings())
    assert both.score[0] == both.score[1]
    only = alone(both, "a", RISING)
    np.testing.assert_allclose(only.score, calibrate(raw["a"], RISING), rtol=1e-6)
    assert list(only.models) == ["a"]


# --- seeds


def trained(seed: int, rate: float = 0.01, sha256: str = "") -> Checkpoint:
    recipe = {"settings": {"seed": seed, "learning_rate": rate}}
    meta = {"extractor": f"file@{DIM}", "training": {"data": "d", "recipe": recipe}, "reference": RISING.tolist()}
    return Checkpoint(kind="mil", meta=meta, arrays={}, sha256=sha256 or f"{seed}-{rate}")


def test_models_that_differ_by_their_seed_are_averaged() -> None:
    assert check_seeds([("a", trained(3)), ("b", trained(7))]) == [3, 7]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        pytest.param([], "needs two or more", id="one alone"),
        pytest.param([trained(1)], "are the same checkpoint", id="twice the same"),
        pytest.param([trained(2, rate=0.1)], "b0 differs from a in its training recipe", id="another recipe"),
        pytest.param([replace(trained(2), kind="rtfm")], "differs from a in its kind", id="another kind"),
    ],
)
def test_whatever_else_differs_is_told(others: list[Checkpoint], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_seeds([("a", trained(1)), *((f"b{i}", c) for i, c in enumerate(others))])


def test_mean_and_deviation_are_of_the_sample_and_need_every_seed() -> None:
    def figures(roc_auc: float, delay: float | None) -> dict:
        ranking = {"roc_auc": roc_auc, "average_precision": 0.5}
        return ranking | {
            "macro": ranking, "abnormal_only": ranking, "false_alarms_per_hour": 1.0,
            "events": {"alerted": 2, "median_delay_s": delay},
        }  # fmt: skip

    found = seed_figures(["a", "b"], {"a": figures(0.8, 1.0), "b": figures(0.9, None)})
    assert found["roc_auc"] == {"mean": pytest.approx(0.85), "std": pytest.approx(0.1 / 2**0.5), "each": [0.8, 0.9]}
    assert found["median_delay_s"] == {"mean": None, "std": None, "each": [1.0, None]}


# --- the command, on feature files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two MIL seeds, a whole-video RTFM, and features in which one direction is odd."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    lines = []
    for name, odd in (("a", slice(10, 15)), ("b", slice(3, 6)), ("n", slice(0))):
        x = rng.random((40, 2, DIM)).astype(np.float32)
        x[odd, :, 0] += 9
        np.save(folder / f"{name}.npy", x)
        anomalies = [[odd.start * 16, odd.stop * 16 - 1]] if odd.stop else []
        lines.append({"video": f"{name}.npy", "label": int(bool(anomalies)), "anomalies": anomalies})
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for seed in (1, 2):
        net = seed_weights(MIL(MILConfig(input_dim=DIM)), seed)
        save_checkpoint(folder / f"s{seed}.safetensors", with_files(checkpoint_of("mil", net, net_config(DIM)), seed))
    config = RTFMConfig(input_dim=DIM, mode="paper")
    save_checkpoint(
        folder / "whole.safetensors", with_files(checkpoint_of("rtfm", seed_weights(RTFM(config), 5), config))
    )
    return folder


def net_config(dim: int) -> MILConfig:
    return MILConfig(input_dim=dim)


def with_files(checkpoint: Checkpoint, seed: int = 0) -> Checkpoint:
    recipe = {"settings": {"seed": seed}}
    meta = {
        "extractor": f"file@{DIM}",
        "training": {"recipe": recipe},
        "reference": RISING.tolist(),
        "preprocessing": {},
    }
    return replace(checkpoint, meta=checkpoint.meta | meta)


def run(folder: Path, out: Path, *more: object) -> tuple[Ended, dict]:
    done = oddwatch("evaluate", "--manifest", folder / "m.jsonl", "--out", out, *more)
    found = out / "metrics.json"
    return done, json.loads(found.read_text()) if found.exists() else {}


def test_each_model_has_its_figures_and_seeds_their_spread(folder: Path, tmp_path: Path) -> None:
    models = [word for seed in (1, 2) for word in ("--model", folder / f"s{seed}.safetensors")]
    done, metrics = run(folder, tmp_path, *models, "--over-seeds", "--threshold", "0.4")
    assert done.code == 0, done.err
    assert metrics["threshold"] == 0.4
    each = [metrics["models"][name]["roc_auc"] for name in ("mil", "mil-2")]
    assert metrics["over_seeds"]["roc_auc"]["mean"] == pytest.approx(np.mean(each))
    assert metrics["over_seeds"]["roc_auc"]["std"] == pytest.approx(np.std(each, ddof=1))
    assert metrics["over_seeds"]["seeds"] == [1, 2]
    for name, value in zip(("mil", "mil-2"), each, strict=True):
        assert f"{name} alone: micro ROC-AUC {value:.4f}" in done.out
        assert metrics["models"][name]["false_alarms"]["counted_as"] == "alert"
    assert "2 seeds, mean and standard deviation" in done.out
    assert metrics["coverage"]["frames_decoded"] == 3 * 40 * 16
    assert (tmp_path / "timelines.png").read_bytes().startswith(b"\x89PNG")


def test_a_whole_video_model_is_evaluated_though_it_cannot_stream(folder: Path, tmp_path: Path) -> None:
    done, metrics = run(folder, tmp_path, "--model", folder / "whole.safetensors", "--mode", "paper")
    assert done.code == 0, done.err
    assert metrics["mode"] == "paper"
    assert metrics["roc_auc"] == pytest.approx(metrics["models"]["rtfm"]["roc_auc"], abs=1e-3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param((), "feature files, which novelty cannot score", id="no checkpoint"),
        pytest.param(("--threshold", "1.5"), "--threshold", id="threshold"),
        pytest.param(("--over-seeds",), "--over-seeds: needs two", id="no seeds"),
    ],
)
def test_mistakes_are_one_line(folder: Path, tmp_path: Path, more: tuple, said: str) -> None:
    done, _ = run(folder, tmp_path, *more)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err


def test_a_bad_feature_file_is_named_and_the_rest_are_judged(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "m.jsonl").read_text() + '{"video": "gone.npy", "label": 0}\n'
    (folder / "more.jsonl").write_text(lines)
    done = oddwatch(
        "evaluate", "--manifest", folder / "more.jsonl", "--model", folder / "s1.safetensors", "--out", tmp_path
    )
    assert done.code == 1
    assert "gone.npy: cannot be read" in done.out
    assert json.loads((tmp_path / "metrics.json").read_text())["coverage"]["videos"] == 3
