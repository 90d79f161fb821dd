"""`evaluate` on several models, on feature files, as published and over seeds. 40 s, for commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dense_makers import checkpoint_of, seed_weights
from e2e import Ended, film, fitted, oddwatch, rows
from means_extractor import Means, values
from plugged import plug_in

from pipeline.cli.evaluate.judging import judge_scored, unjudged_line
from pipeline.cli.evaluate.offline import score_as_published, score_feature_files
from pipeline.cli.models import named_models
from pipeline.config.schema import Config, ModelConfig, WorkersConfig
from stages.alerting.fusion import calibrate
from stages.alerting.settings import AlertSettings
from stages.decode.learned import LearnedDecode
from stages.decode.read import DecodeSettings
from stages.decode.source import expand
from stages.errors import UsageError
from stages.evaluation.alarms import alarms, at_threshold
from stages.evaluation.replay import DecodedTimes, alone, fused_table
from stages.evaluation.seeds import check_seeds, seed_figures
from stages.features.extract_files import clip_features, ten_crop_features
from stages.files.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stages.files.manifest import ManifestEntry, read_manifest
from stages.temporal.future_frame.conv_transformer import ConvTransformer, ConvTransformerConfig
from stages.temporal.future_frame.format import FrameFormat
from stages.temporal.future_frame.scorer import PictureScorer
from stages.temporal.future_frame.stage import future_frame_checkpoint
from stages.temporal.future_frame.unet import UNet, UNetConfig
from stages.temporal.registry import whole_video_scorer
from stages.temporal.weak.mil import MIL, MILConfig
from stages.temporal.weak.rtfm import RTFM, RTFMConfig

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
    line = DecodedTimes(np.arange(7) / 10, [slice(0, 3), slice(5, 7)])
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


def trained(seed: int, rate: float = 0.01, sha256: str = "", steps: int = 5) -> Checkpoint:
    training = {"data": "d", "steps": steps, "recipe": {"settings": {"seed": seed, "learning_rate": rate}}}
    meta = {"extractor": f"file@{DIM}", "training": training, "reference": RISING.tolist()}
    return Checkpoint(kind="mil", meta=meta, arrays={}, sha256=sha256 or f"{seed}-{rate}")


def test_models_that_differ_by_their_seed_are_averaged() -> None:
    assert check_seeds([("a", trained(3)), ("b", trained(7))]) == [3, 7]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        pytest.param([], "needs two or more", id="one alone"),
        pytest.param([trained(1)], "b0 and a are the same checkpoint", id="twice the same"),
        pytest.param([trained(2)] * 2, "b1 and b0 are the same checkpoint", id="twice the same later"),
        pytest.param([trained(1, sha256="other")], "b0 and a have the same seed 1", id="twice the same seed"),
        pytest.param([trained(2, steps=9)], "differs from a in its training steps", id="trained longer"),
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
            "false_alarms": {"normal_frames_under_alert": 0.25},
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
        mil = MILConfig(input_dim=DIM)
        save_checkpoint(
            folder / f"s{seed}.safetensors",
            with_files(checkpoint_of("mil", seed_weights(MIL(mil), seed), mil), seed),
        )
    config = RTFMConfig(input_dim=DIM, mode="paper")
    save_checkpoint(
        folder / "whole.safetensors", with_files(checkpoint_of("rtfm", seed_weights(RTFM(config), 5), config))
    )
    return folder


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
        pytest.param(("--split", "foo"), "m.jsonl: split: no video has one, so none has 'foo'", id="no splits"),
    ],
)
def test_mistakes_are_one_line(folder: Path, tmp_path: Path, more: tuple, said: str) -> None:
    done, _ = run(folder, tmp_path, *more)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err


def test_where_nothing_can_be_scored_the_reason_is_told_before_and_not_after(folder: Path, tmp_path: Path) -> None:
    models = named_models([folder / "s1.safetensors"])
    gone = ManifestEntry(video="gone.npy", path=tmp_path / "gone.npy", label=0)
    with pytest.raises(UsageError, match=r"none of 1 feature file could be scored: .*gone\.npy: cannot be read"):
        score_feature_files([gone], Config(models=models), paper=False)
    np.save(tmp_path / "wide.npy", np.ones((3, DIM + 1), np.float32))
    wide = replace(gone, path=tmp_path / "wide.npy")
    with pytest.raises(UsageError, match=rf"wide\.npy: .*takes features of size {DIM}, got {DIM + 1}"):
        score_feature_files([wide], Config(models=models), paper=False)


def test_a_bad_feature_file_is_named_and_the_rest_are_judged(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "m.jsonl").read_text() + '{"video": "gone.npy", "label": 0}\n'
    (folder / "more.jsonl").write_text(lines)
    done = oddwatch(
        "evaluate", "--manifest", folder / "more.jsonl", "--model", folder / "s1.safetensors", "--out", tmp_path
    )
    assert done.code == 1
    assert "gone.npy: cannot be read" in done.out
    assert json.loads((tmp_path / "metrics.json").read_text())["coverage"]["videos"] == 3


def test_what_will_not_be_judged_is_said_before_the_work(folder: Path, tmp_path: Path) -> None:
    unknown = [f'{{"video": "gone{n}.npy", "label": 1}}\n' for n in range(7)]
    (folder / "some.jsonl").write_text((folder / "m.jsonl").read_text() + "".join(unknown))
    (folder / "none.jsonl").write_text("".join(unknown))
    line = unjudged_line(Path("m"), read_manifest(folder / "some.jsonl"))
    assert line.startswith("7 of 10 videos will be scored, but not judged")
    assert line.endswith("gone0.npy, gone1.npy, gone2.npy, gone3.npy, gone4.npy, ...")
    assert unjudged_line(Path("m"), read_manifest(folder / "m.jsonl")) == ""
    done = oddwatch("evaluate", "--manifest", folder / "none.jsonl", "--out", tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "none.jsonl: no video can be judged" in done.err


# --- footage


def test_footage_is_scored_as_whole_videos_where_the_paper_does(tmp_path: Path, monkeypatch) -> None:
    plug_in(monkeypatch, tmp_path / "installed", "means", "oddwatch.extractors", means="means_extractor:KIND")
    monkeypatch.setenv("ODDWATCH_FEATURE_CACHE", str(tmp_path / "cache"))
    film(tmp_path / "a.mp4", 150, odd=range(40, 80))
    config = RTFMConfig(input_dim=6)
    decode = LearnedDecode(height=48, snippet_frames=16, fps=None)
    made = checkpoint_of("rtfm", seed_weights(RTFM(config), 5), config, extractor="means@1")
    save_checkpoint(tmp_path / "rtfm", replace(made, meta=made.meta | {"preprocessing": decode.meta()}))
    entries = [ManifestEntry(video=name, path=tmp_path / name, anomalies=((40, 79),)) for name in ("a.mp4", "gone.mp4")]
    settings = Config(models={"rtfm": ModelConfig(checkpoint=tmp_path / "rtfm")}, workers=WorkersConfig(device="cpu"))
    scored = score_as_published(entries, settings, tmp_path, ten_crop=False, resume=True, quiet=True)
    assert scored.failed
    assert "gone.mp4" in scored.notes[0]
    source = expand([str(tmp_path / "a.mp4")])[0]
    seen = [f.values for f in clip_features(source, Means(), DecodeSettings(height=48))]
    whole = whole_video_scorer("rtfm", load_checkpoint(tmp_path / "rtfm"), paper=True)(np.stack(seen)[:, None])
    table = scored.tables["a.mp4"]
    np.testing.assert_allclose(table.models["rtfm"], np.repeat(whole, 16)[:150], rtol=1e-5)
    assert np.abs(np.diff(table.times_s) - 0.04).max() < 1e-3
    metrics = judge_scored(entries, scored, "paper")
    assert metrics.coverage["frames_decoded"] == 150
    assert {e["video"] for e in metrics.excluded} == {"gone.mp4"}


def test_ten_crops_are_scored_together_and_only_as_papers_do(tmp_path: Path, monkeypatch) -> None:
    def ten_crops(self: Means, pixels: np.ndarray) -> np.ndarray:
        return np.stack([values(pixels[:, :, crop : crop + 20]) for crop in range(10)])

    monkeypatch.setattr(Means, "ten_crops", ten_crops, raising=False)
    plug_in(monkeypatch, tmp_path / "installed", "means", "oddwatch.extractors", means="means_extractor:KIND")
    film(tmp_path / "a.mp4", 70, odd=range(20, 40))
    config = RTFMConfig(input_dim=6)
    decode = LearnedDecode(height=48, snippet_frames=16, fps=None)
    made = checkpoint_of("rtfm", seed_weights(RTFM(config), 5), config, extractor="means@1")
    save_checkpoint(tmp_path / "rtfm", replace(made, meta=made.meta | {"preprocessing": decode.meta()}))
    entries = [ManifestEntry(video="a.mp4", path=tmp_path / "a.mp4", anomalies=((20, 39),))]
    settings = Config(models={"rtfm": ModelConfig(checkpoint=tmp_path / "rtfm")}, workers=WorkersConfig(device="cpu"))
    scored = score_as_published(entries, settings, tmp_path, ten_crop=True, resume=True, quiet=True)
    crops = ten_crop_features(expand([str(tmp_path / "a.mp4")])[0], Means(), DecodeSettings(height=48))
    assert crops.shape == (5, 10, 6)
    whole = whole_video_scorer("rtfm", load_checkpoint(tmp_path / "rtfm"), paper=True)(crops)
    np.testing.assert_allclose(scored.tables["a.mp4"].models["rtfm"], np.repeat(whole, 16)[:70], rtol=1e-5)
    live = Config(models={"novelty": ModelConfig()})
    with pytest.raises(UsageError, match="--ten-crop: for mil and rtfm"):
        score_as_published(entries, live, tmp_path, ten_crop=True, resume=True, quiet=True)


def test_three_models_of_one_video_have_a_raw_column_and_figures_each(tmp_path: Path) -> None:
    film(tmp_path / "race.mp4", 100, odd=range(40, 80), seed=50)
    (tmp_path / "m.jsonl").write_text('{"video": "race.mp4", "anomalies": [[40, 79]]}')
    form = FrameFormat(height=16, width=16, order="gray")
    nets = (
        UNet(UNetConfig(channels=1, widths=(4, 8))),
        ConvTransformer(ConvTransformerConfig(channels=1, widths=(4, 8))),
    )
    models: list[object] = ["--model", fitted()]
    for i, net in enumerate(nets):
        made = future_frame_checkpoint(net, form, reference=-50 + 30 * RISING, training={}, scorer=PictureScorer())
        save_checkpoint(tmp_path / f"ff{i}", made)
        models += ["--model", tmp_path / f"ff{i}"]
    done = oddwatch("evaluate", "--manifest", tmp_path / "m.jsonl", *models, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    names = ["novelty", "future_frame", "future_frame-2"]
    table = rows(tmp_path / "out/scores/race.scores.csv")
    assert list(table[0]) == ["frame", "time_s", "score", *names]
    assert all(row[name] for row in table for name in names)
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    for name in names:
        assert f"{name} alone: micro ROC-AUC {metrics['models'][name]['roc_auc']:.4f}" in done.out
        assert metrics["models"][name]["events"]["total"] == 1
    assert f"fused: frame-level micro ROC-AUC {metrics['roc_auc']:.4f}" in done.out
