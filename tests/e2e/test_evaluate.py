"""`fit` and `evaluate` on a manifest: the figures, and what is left for a person to look at."""

import json
from pathlib import Path

import pytest
from e2e import Ended, film, fitted, oddwatch, rows

from stages.alerting.settings import AlertSettings
from stages.evaluation.alarms import alarms
from stages.files.scores_csv import read_scores


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    folder = tmp_path_factory.mktemp("evaluate")
    film(folder / "in/race.mp4", 160, odd=range(80, 120), seed=50)
    film(folder / "in/calm.mp4", 120, seed=51)
    film(folder / "in/long.mp4", 200, odd=range(60, 160), seed=52)
    lines = [
        {"video": "race.mp4", "split": "test", "label": 1, "anomalies": [[80, 119]]},
        {"video": "long.mp4", "split": "test", "label": 1, "anomalies": [[60, 159]]},
        {"video": "calm.mp4", "split": "test", "label": 0, "anomalies": []},
        {"video": "absent.mp4", "split": "train", "label": 0},
    ]
    manifest = folder / "in/manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = folder / "out"
    return out, oddwatch("evaluate", "--manifest", manifest, "--model", fitted(), "--out", out)


def test_metrics_have_the_documented_keys_and_find_the_races(evaluated: tuple[Path, Ended]) -> None:
    out, done = evaluated
    assert done.code == 0, done.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics.keys() >= {"roc_auc", "average_precision", "per_video", "false_alarms_per_hour", "mode"}
    assert metrics["mode"] == "causal"
    assert metrics["roc_auc"] > 0.9
    assert f"micro ROC-AUC {metrics['roc_auc']:.4f}" in done.out


def test_scores_plot_and_report_are_left(evaluated: tuple[Path, Ended]) -> None:
    out, _ = evaluated
    assert (out / "roc.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "timelines.png").read_bytes().startswith(b"\x89PNG")
    assert "race.mp4" in (out / "report.html").read_text()
    assert len(rows(out / "scores/race.scores.csv")) == 160


def test_what_would_be_raised_is_what_was_raised(evaluated: tuple[Path, Ended]) -> None:
    out, _ = evaluated
    alerts = [json.loads(line) for line in (out / "scores/alerts.jsonl").read_text().splitlines()]
    raised = sorted((a["start_frame"], a["end_frame"]) for a in alerts if a["phase"] == "close")
    tables = [read_scores(path) for path in (out / "scores").glob("*.csv")]
    assert raised
    assert sorted(span for t in tables for span in alarms(t.times_s, t.score, AlertSettings())) == raised


def test_a_lower_threshold_raises_more_and_scores_nothing_again(evaluated: tuple[Path, Ended]) -> None:
    out, _ = evaluated
    before = json.loads((out / "metrics.json").read_text())
    manifest = out.parent / "in/manifest.jsonl"
    again = oddwatch(
        "evaluate", "--manifest", manifest, "--model", fitted(), "--out", out, "--threshold", "0.05", "--json"
    )
    assert again.code == 0, again.err
    metrics = json.loads(again.out)
    assert metrics["roc_auc"] == before["roc_auc"]
    assert metrics["threshold"] == 0.05
    assert metrics["events"]["alerted"] == 2
    assert metrics["false_alarms"]["normal_frames_at_or_above_threshold"] > 0.5


def test_judging_again_scores_nothing_again(evaluated: tuple[Path, Ended]) -> None:
    out, _ = evaluated
    manifest = out.parent / "in/manifest.jsonl"
    again = oddwatch("evaluate", "--manifest", manifest, "--model", fitted(), "--out", out, "--mode", "paper")
    assert again.code == 0, again.err
    assert again.err.count("done before") == 3
    assert json.loads((out / "metrics.json").read_text())["mode"] == "paper"


def test_a_manifest_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    for text, said in (("not json\n", "m.jsonl"), ('{"split": "test"}\n', "video"), ("", "m.jsonl")):
        manifest.write_text(text)
        done = oddwatch("evaluate", "--manifest", manifest, "--model", fitted(), "--out", tmp_path / "out")
        assert done.code == 2, done.err
        assert said in done.err
        assert "Traceback" not in done.err
    done = oddwatch("evaluate", "--manifest", tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert done.code == 2
    assert "none.jsonl" in done.err
