"""Scores files are whole and exact; figures about scores never take "not scored" for "normal"."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import DATA, ROOT

from pipeline.cli.evaluate.figures import metric_lines
from stages.errors import ConfigError, OddwatchError, UsageError
from stages.evaluation.evaluate import evaluate, write_metrics
from stages.evaluation.metrics import detect, minmax, rank, roc_points, runs_of, scored_seconds
from stages.evaluation.plots import roc_figure, timeline_figure
from stages.files.manifest import ManifestEntry
from stages.files.scores_csv import ScoresCsv, ScoresTable, read_scores

NAN = np.nan


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def table(*score: float, fps: float = 10.0, **models: np.ndarray) -> ScoresTable:
    return ScoresTable(times_s=np.arange(len(score)) / fps, score=f32(*score), models=models)


def entry(video: str, *anomalies: tuple[int, int], known: bool = True) -> ManifestEntry:
    return ManifestEntry(video=video, path=Path(video), anomalies=anomalies if known else None)


# --- scores.csv


def test_a_scores_file_reads_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    score, raw = rng.random(500).astype(np.float32), (rng.normal(size=500) * 10.0 ** rng.integers(-30, 30, 500))
    raw = raw.astype(np.float32)
    score[[0, 7, 8, 499]], raw[[8, 9]] = NAN, NAN
    times_s = np.arange(500) / 29.97
    with ScoresCsv(tmp_path / "a.scores.csv", ["novelty", "mil"]) as csv:
        for first in range(0, 500, 16):
            part = slice(first, first + 16)
            csv.append(first, times_s[part], score[part], {"mil": raw[part]})
    read = read_scores(tmp_path / "a.scores.csv")
    assert (read.score.tobytes(), read.models["mil"].tobytes()) == (score.tobytes(), raw.tobytes())
    assert np.isnan(read.models["novelty"]).all()
    assert np.abs(read.times_s - times_s).max() <= 5e-7


def test_a_scores_file_is_plain_text_with_empty_cells_for_gaps(tmp_path: Path) -> None:
    with ScoresCsv(tmp_path / "a.csv", ["mil"]) as csv:
        csv.append(0, np.array([0.0, 1 / 3]), f32(0.1, NAN), {"mil": f32(1e-9, 2)})
        csv.append(2, np.array([2 / 3]))
    expected = b"frame,time_s,score,mil\n0,0.0,0.1,1e-09\n1,0.333333,,2.0\n2,0.666667,,\n"
    assert (tmp_path / "a.csv").read_bytes() == expected


def test_a_video_without_frames_has_a_header_only(tmp_path: Path) -> None:
    ScoresCsv(tmp_path / "a.csv", ["mil"]).close()
    assert read_scores(tmp_path / "a.csv").models["mil"].shape == (0,)


def test_frames_cannot_be_left_out_or_repeated(tmp_path: Path) -> None:
    csv = ScoresCsv(tmp_path / "a.csv", [])
    csv.append(0, np.arange(3.0))
    for first in (2, 4):
        with pytest.raises(ValueError, match="expected frame 3"):
            csv.append(first, np.arange(3.0))
    csv.abort()


def test_an_aborted_file_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("older")

    def interrupted() -> None:
        with ScoresCsv(path, []) as csv:
            csv.append(0, np.arange(3.0))
            assert path.read_text() == "older"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    assert path.read_text() == "older"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OddwatchError, match=r"a\.csv: cannot be written .*choose another --out"):
        ScoresCsv(tmp_path / "file" / "a.csv", [])


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    script = f"""
import resource, signal, numpy as np
from pathlib import Path
from stages.errors import OddwatchError
from stages.files.scores_csv import ScoresCsv
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with ScoresCsv(Path({str(tmp_path / "a.csv")!r}), []) as csv:
        csv.append(0, np.arange(9999.0))
except OddwatchError as error:
    print(error)
"""
    if sys.platform == "win32":
        pytest.skip("a limit on the size of files stands for the full disk")
    root = ROOT
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert "a.csv: cannot be written" in done.stdout
    assert not done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a,b,c\n", "header must begin frame,time_s,score", id="another file"),
        pytest.param("frame,time_s,score\n0,0.0,0.1\n1,0.1", "damaged", id="cut off"),
        pytest.param("frame,time_s,score\n0,0.0,0.1\n2,0.1,0.1\n", "out of order", id="a row is missing"),
        pytest.param("frame,time_s,score\n0,0.0,x\n", "damaged", id="not a number"),
    ],
)
def test_a_damaged_scores_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"a\.csv: .*{message}"):
        read_scores(tmp_path / "a.csv")


# --- rankings


def test_frames_are_ranked_together_and_ties_are_not_flattered() -> None:
    found = rank(np.array([0, 1, 0, 1], bool), f32(0.1, 0.9, 0.5, 0.5))
    assert found.roc_auc == pytest.approx(0.875)
    # Thresholds .9 and .5: recall 1/2 at precision 1, then 1/2 more at precision 2/3.
    assert found.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_frames_that_were_not_scored_are_left_out_of_the_ranking() -> None:
    found = rank(np.array([0, 1, 1, 0], bool), f32(0.1, 0.9, NAN, NAN))
    assert (found.roc_auc, found.frames, found.anomalous_frames) == (1.0, 2, 1)


@pytest.mark.parametrize(
    ("truth", "score", "reason"),
    [
        pytest.param([0, 0], [0.1, 0.2], "all 2 scored frames are normal", id="normal"),
        pytest.param([1, 1, 0], [0.1, 0.2, NAN], "all 2 scored frames are anomalous", id="anomalous"),
        pytest.param([1, 0], [NAN, NAN], "no frame with ground truth was scored", id="nothing scored"),
        pytest.param([], [], "no frame with ground truth was scored", id="no frames"),
    ],
)
def test_one_kind_of_frames_gives_no_figure_but_a_reason(truth: list, score: list, reason: str) -> None:
    found = rank(np.array(truth, bool), f32(*score))
    assert (found.roc_auc, found.average_precision) == (None, None)
    assert reason in found.reason
    assert roc_points(np.array(truth, bool), f32(*score)) is None


def test_a_thinned_roc_curve_keeps_its_ends_and_area() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(50_000) < 0.1
    score = (rng.random(50_000) + 0.5 * truth).astype(np.float32)
    points = roc_points(truth, score)
    assert points is not None
    assert len(points[0]) <= 400
    assert (points[0][0], points[1][0], points[0][-1], points[1][-1]) == (0, 0, 1, 1)
    assert np.trapezoid(points[1], points[0]) == pytest.approx(rank(truth, score).roc_auc, abs=1e-3)


def test_stretching_ignores_gaps_and_survives_constant_scores() -> None:
    np.testing.assert_array_equal(minmax(f32(2, NAN, 4, 3)), f32(0, NAN, 1, 0.5))
    np.testing.assert_array_equal(minmax(f32(7, 7)), f32(0, 0))
    assert np.isnan(minmax(f32(NAN, NAN))).all()


def test_runs_have_both_ends_inside() -> None:
    assert runs_of(np.array([1, 1, 0, 1, 0, 0, 1], bool)) == [(0, 1), (3, 3), (6, 6)]
    assert runs_of(np.zeros(0, bool)) == []


# --- events


def test_a_delay_is_measured_from_the_start_of_the_event() -> None:
    score, times_s = f32(0.9, 0, 0, 0.2, 0.8, 0), np.arange(6) / 2
    found = detect((2, 5), times_s, score, 0.8)
    assert (found.outcome, found.delay_s, found.known_after_s) == ("found", 1.0, 1.0)
    assert detect((2, 3), times_s, score, 0.8).outcome == "missed"
    assert detect((0, 5), times_s, score, 0.8).delay_s == 0


def test_a_score_is_known_when_its_snippet_is_over() -> None:
    score = np.zeros(40, np.float32)
    score[18:] = 1
    found = detect((10, 30), np.arange(40.0), score, 0.5, snippet_frames=16, lookahead_frames=4)
    assert (found.delay_s, found.known_after_s) == (8.0, 25.0)


def test_an_event_nobody_scored_is_neither_found_nor_missed() -> None:
    assert detect((1, 2), np.arange(4.0), f32(0, NAN, NAN, 0), 0.5).outcome == "not scored"


def test_a_jump_of_the_clock_is_not_footage() -> None:
    times_s = np.concatenate([np.arange(10.0), 5000 + np.arange(10.0)])
    assert scored_seconds(times_s, np.zeros(20, np.float32)) == 29
    assert scored_seconds(np.arange(4.0), f32(0, NAN, 0, NAN)) == 2


# --- evaluate


def test_a_manifest_is_evaluated_micro_macro_and_on_abnormal_videos_only() -> None:
    entries = [entry("a", (2, 3)), entry("n")]
    scores = {"a": table(0.1, 0.2, 0.3, 0.4), "n": table(0.35, 0.35)}
    found = evaluate(entries, scores, threshold=0.3)
    assert found.roc_auc == pytest.approx(6 / 8)
    assert found.macro == {"roc_auc": 1.0, "average_precision": 1.0, "videos": 1}
    assert found.abnormal_only["roc_auc"] == 1.0
    assert found.per_video["n"]["reason"] == "all 2 scored frames are normal: nothing to rank"
    assert found.false_alarms["false"] == 1
    assert found.false_alarms_per_hour == pytest.approx(3600 / 0.6)
    assert found.false_alarms["normal_frames_at_or_above_threshold"] == pytest.approx(2 / 4)
    assert found.events == {
        "total": 1,
        "found": 1,
        "missed": 0,
        "not_scored": 0,
        "alerted": 1,
        "median_delay_s": 0.0,
        "median_known_after_s": 0.0,
    }


def test_false_alarms_are_alerts_that_touch_no_anomaly() -> None:
    alerts = [
        {"id": "1", "phase": "open", "start_frame": 0, "end_frame": 1},
        {"id": "1", "phase": "close", "start_frame": 0, "end_frame": 5},
        {"id": "2", "phase": "close", "start_frame": 8, "end_frame": 9},
    ]
    found = evaluate([entry("a", (4, 6))], {"a": table(*[0.5] * 36)}, {"a": alerts})
    assert (found.false_alarms["raised"], found.false_alarms["false"]) == (2, 1)
    assert found.false_alarms_per_hour == pytest.approx(1000)
    assert found.per_video["a"]["events"][0]["alerted"]


def test_an_alert_held_over_a_whole_video_is_seen_in_the_share_of_normal_frames_under_it() -> None:
    held, none = [{"id": "1", "start_frame": 0, "end_frame": 9}], list[dict]()
    scores = {"a": table(NAN, NAN, *[0.9] * 8), "b": table(*[0.1] * 6)}
    found = evaluate([entry("a", (4, 6)), entry("b")], scores, {"a": held, "b": none}, 0.5)
    assert (found.false_alarms["false"], found.events["alerted"]) == (0, 1)
    assert found.false_alarms["normal_frames_under_alert"] == pytest.approx(5 / 11)  # what was not scored is left out
    assert [found.per_video[v]["normal_frames_under_alert"] for v in "ab"] == [1, 0]
    assert "45.5% of normal frames lie under an alert" in "\n".join(metric_lines(found))
    odd = evaluate([entry("a", (0, 9))], scores, {"a": held}, 0.5)
    assert odd.false_alarms["normal_frames_under_alert"] is None
    assert "normal frames" not in "\n".join(metric_lines(odd))
    assert evaluate([entry("b")], scores).false_alarms["normal_frames_under_alert"] is None


def test_stretched_models_are_ranked_within_each_video_and_thresholds_are_left_alone() -> None:
    entries = [entry("a", (1, 1)), entry("b", (1, 1))]
    scores = {"a": table(0.1, 0.2, m=f32(3, 4)), "b": table(0.8, 0.9, m=f32(8, 9))}
    causal, paper = (evaluate(entries, scores, None, 0.5, "paper", stretched=names) for names in ({}, {"m": 0}))
    assert (causal.roc_auc, paper.roc_auc) == (0.75, 1.0)
    assert (causal.models["m"]["roc_auc"], paper.models["m"]["roc_auc"]) == (0.75, 1.0)
    assert (causal.events, causal.false_alarms) == (paper.events, paper.false_alarms)


def test_figures_are_those_of_the_published_evaluation_code() -> None:
    golden = np.load(DATA / "golden_pool_eval.npz")
    ends = np.cumsum(golden["eval/lens"])[:-1]
    truths, ratios = (np.split(golden[f"eval/{key}"], ends) for key in ("gt", "psnr"))
    entries = [entry(f"{i}", *runs_of(truth > 0)) for i, truth in enumerate(truths)]
    scores = {f"{i}": table(*-ratio, ff=-ratio.astype(np.float32)) for i, ratio in enumerate(ratios)}
    paper = evaluate(entries, scores, stretched={"ff": 4})
    assert paper.roc_auc == pytest.approx(float(golden["eval/auc_per_video_minmax"]))
    assert paper.average_precision == pytest.approx(float(golden["eval/average_precision"]))
    assert paper.macro["roc_auc"] == pytest.approx(float(golden["eval/auc_macro_per_video"]))
    for i, ratio in enumerate(ratios):
        scores[f"{i}"] = table(*[NAN] * 4, *-ratio[4:])
    assert evaluate(entries, scores).roc_auc == pytest.approx(float(golden["eval/auc_raw_global"]))


def test_average_precision_of_repeated_snippet_scores_is_not_flattered() -> None:
    golden = np.load(DATA / "golden_pool_eval.npz")
    found = rank(golden["eval/snip_gt"] > 0, np.repeat(golden["eval/snip_scores"], 16).astype(np.float32))
    assert found.roc_auc == pytest.approx(float(golden["eval/snip_auc"]))
    assert found.average_precision == pytest.approx(float(golden["eval/snip_average_precision"]))


def test_a_fused_score_is_never_stretched() -> None:
    entries = [entry("a", (1, 1)), entry("b", (1, 1))]
    scores = {"a": table(0.1, 0.2, m=f32(3, 4), n=f32(0, 0)), "b": table(0.8, 0.9, m=f32(8, 9), n=f32(0, 0))}
    found = evaluate(entries, scores, None, 0.5, "paper", stretched={"m": 0})
    assert (found.roc_auc, found.models["m"]["roc_auc"]) == (0.75, 1.0)


def test_frames_that_were_left_out_lengthen_snippets() -> None:
    video = {"a": table(*[0.0] * 10, *[1.0] * 50, fps=20)}
    late = [
        evaluate([entry("a", (10, 59))], video, threshold=0.5, snippet_frames=16, fps=fps).events[
            "median_known_after_s"
        ]
        for fps in (None, 10)
    ]
    assert late == pytest.approx([0.25, 1.05])


def test_what_was_not_scored_is_counted() -> None:
    found = evaluate([entry("a", (0, 1))], {"a": table(NAN, 0.9, 0.1, NAN)}, threshold=0.5)
    assert (found.coverage["frames_decoded"], found.coverage["frames_not_scored"]) == (4, 2)
    assert found.coverage["anomalous_frames_not_scored"] == 1
    assert found.coverage["scored_hours"] == pytest.approx(0.2 / 3600)


def test_videos_that_cannot_be_judged_are_named() -> None:
    entries = [entry("a", (1, 1)), entry("b"), entry("c", known=False), entry("d"), entry("e", (1, 7))]
    scores = {"a": table(0, 1), "c": table(0, 1), "d": table(), "e": table(0, 1)}
    found = evaluate(entries, scores)
    assert {e["video"]: e["reason"] for e in found.excluded} == {
        "b": "it has no scores",
        "c": "the manifest does not say which frames are anomalous",
        "d": "no frame could be decoded",
    }
    assert found.notes == ["e: frames 1 to 7 are anomalous, but the video has 2: clipped"]
    with pytest.raises(UsageError, match="no video can be evaluated"):
        evaluate([entry("c", known=False)], scores)


def test_metrics_json_has_the_promised_keys_and_no_nan(tmp_path: Path) -> None:
    found = evaluate([entry("a")], {"a": table(0, NAN, m=f32(NAN, NAN))})
    write_metrics(tmp_path / "out" / "metrics.json", found)
    text = (tmp_path / "out" / "metrics.json").read_text()
    read = json.loads(text)
    assert {"roc_auc", "average_precision", "per_video", "false_alarms_per_hour", "mode"} <= set(read)
    assert read["roc_auc"] is None
    assert "NaN" not in text
    assert read["reason"] == "all 1 scored frames are normal: nothing to rank"


# --- plots


def test_plots_are_images_and_the_same_bytes_each_time() -> None:
    found = evaluate([entry("a", (1, 1))], {"a": table(0.1, NAN, 0.3, m=f32(1, 2, 3)), "b": table()}, threshold=0.2)
    assert roc_figure(found, "png").startswith(b"\x89PNG")
    video = ("a <b> $x$", table(0.1, 0.2, NAN), ((1, 1),))
    first, second = (timeline_figure([video, video], 0.5, "svg") for _ in range(2))
    assert first == second
    assert b"<svg" in first
