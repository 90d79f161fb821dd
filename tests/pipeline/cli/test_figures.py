"""What `evaluate` says in lines: each figure with what it is taken over. A second."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.cli.evaluate.figures import metric_lines
from stages.evaluation.evaluate import evaluate
from stages.files.manifest import ManifestEntry
from stages.files.scores_csv import ScoresTable


def test_a_delay_is_of_the_events_that_reach_the_threshold_and_a_macro_mean_of_videos_with_both_kinds() -> None:
    score = np.array([0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.8, 0.9], np.float32)
    table = ScoresTable(times_s=np.arange(8.0), score=score, models={"m": score})
    both = ManifestEntry(video="a", path=Path("a"), label=1, anomalies=((2, 4), (6, 7)))
    normal = ManifestEntry(video="b", path=Path("b"), label=0)
    alerts = {"a": [{"id": "x", "start_frame": 6, "end_frame": 7}]}
    said = "\n".join(metric_lines(evaluate([both, normal], {"a": table, "b": table}, alerts, 0.5)))
    assert "1 of 2 events alerted on; threshold reached in 2, after 0.50 s (median); 0 false alarms" in said
    assert said.splitlines()[2].endswith("0.0% of normal frames lie under an alert")
    assert "macro ROC-AUC 0.8000 over 1 video," in said
