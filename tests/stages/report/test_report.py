"""The report is one page that needs no network, hides no gap, and trusts no file name."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipeline.observe.status_text import status_lines
from stages.errors import OddwatchError
from stages.evaluation.envelope import envelope
from stages.evaluation.evaluate import evaluate
from stages.evaluation.seeds import FIGURES
from stages.files.manifest import ManifestEntry
from stages.files.scores_csv import ScoresTable
from stages.report import card, report
from stages.report.chart import area, line
from stages.report.formatting import clock, count, duration, percent, plain
from stages.report.report import ReportVideo, write_report
from stages.text import counted

NAN = np.nan
JPEG = b"\xff\xd8\xff\xe0 made up"


def made(name: str = "a.mp4", frames: int = 50, **known: object) -> ReportVideo:
    score = np.linspace(0, 0.5, frames, dtype=np.float32)
    return ReportVideo(
        **{  # type: ignore[arg-type]
            "name": name,
            "times_s": np.arange(frames) / 10,
            "score": score,
            "decoded": frames,
            "scored": frames,
            **known,
        }
    )


def alert(number: int = 1, peak: float = 0.9, **known: object) -> dict:
    start_s = float(number)
    return {
        "id": f"a{number}",
        "phase": "close",
        "start_s": start_s,
        "end_s": start_s + 0.5,
        "peak": peak,
        "severity": "high",
        "models": {"mil": 1.25},
        "start_frame": 10 * number,
        "end_frame": 10 * number + 5,
        **known,
    }


def page_of(tmp_path: Path, *videos: ReportVideo, **more: object) -> str:
    write_report(tmp_path / "out" / "report.html", videos, title="T", raise_at=0.8, clear_at=0.6, **more)  # type: ignore[arg-type]
    return (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Notes every element and checks that they nest."""

    VOID = ("meta", "img", "path", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    video = made(models={"m": np.ones(50, np.float32), "n": np.full(50, NAN, np.float32)}, alerts=[alert(thumb=JPEG)])
    entries = [ManifestEntry(video="a.mp4", path=Path("a"), anomalies=((10, 20),))]
    tables = {"a.mp4": ScoresTable(times_s=video.times_s, score=video.score, models=dict(video.models))}
    page = page_of(tmp_path, video, made("b"), metrics=evaluate(entries, tables, None, 0.3), settings={"version": "1"})
    tags = Tags(page)
    links = [v for _, attrs in tags.seen for k, v in attrs.items() if k in ("src", "href", "srcset", "action", "data")]
    assert links
    assert all(v is not None and v.startswith(("data:image/jpeg;base64,", "#v")) for v in links)
    assert not re.search(r"url\(|@import|https?:", page)
    ids = {attrs.get("id") for _, attrs in tags.seen}
    assert {v[1:] for v in links if v and v[0] == "#"} <= ids
    assert all(attrs.get("alt") for tag, attrs in tags.seen if tag == "img")


def test_a_hostile_name_is_shown_and_never_run(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $title \u202e\udcff\x00.mp4"
    bad = made(name, 0, status="failed", error=name)
    video = made(name, models={name: np.ones(50, np.float32), "n": np.ones(50, np.float32)})
    raised = [alert(severity=name, models={name: 1.0})]
    gaps = [(1.0, 2.0, name)]
    shown = made(name, alerts=raised, gaps=gaps, gap_frames={name: 0})
    page = page_of(tmp_path, bad, video, shown, settings={name: name})
    tags = Tags(page)
    assert [tag for tag, _ in tags.seen if tag in ("script", "img")] == ["script"]
    assert not any(key.startswith("on") for _, attrs in tags.seen for key in attrs)
    assert "\\u202e\\udcff\\x00.mp4" in page
    assert "$title" in page


def test_only_the_pages_own_script_may_run(tmp_path: Path) -> None:
    page = page_of(tmp_path, made())
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()}'" in page


def test_frames_are_accounted_for_by_cause(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(scored=40, gap_frames={"corrupt": 7, "behind": 3}, gaps=[(1.0, 2.0, "corrupt")]))
    text = re.sub(r"<[^>]*>", "", page)
    assert "50 decoded = 40 scored + 3 behind + 7 corrupt" in text
    assert 'class="gap" title="not scored: corrupt"' in page
    assert "naccounted" not in page
    assert "Unaccounted for: 5 frames" in page_of(tmp_path, made(scored=40, gap_frames={"corrupt": 5}))


def test_a_failed_file_is_named_with_its_error_and_the_rest_is_shown(tmp_path: Path) -> None:
    page = page_of(tmp_path, made("bad.mp4", 0, status="failed", error="no video stream"), made("good.mp4"))
    text = re.sub(r"<[^>]*>", " ", page)
    assert re.search(r"Problems\s+bad\.mp4\s+failed: no video stream", text)
    assert page.count('class="chart"') == 1
    only = page_of(tmp_path, made("bad.mp4", 0, status="failed", error="no video stream"))
    assert "no video stream" in only
    assert "Nothing stood out" not in only


def test_a_truncated_file_is_shown_and_marked(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(status="truncated: ends in the middle of a frame"))
    assert "incomplete</b>" in page
    assert page.count("truncated: ends in the middle of a frame") == 2
    assert 'class="chart"' in page


def test_alerts_show_time_peak_and_severity_and_the_last_message_counts(tmp_path: Path) -> None:
    opened, closed = alert(3, 0.81, phase="open", severity="low"), alert(3, 0.97, thumb=JPEG)
    page = page_of(tmp_path, made(alerts=[opened, closed]))
    assert page.count("<time>") == 1
    text = re.sub(r"<[^>]*>", " ", page)
    assert re.search(r"1\s+high\s+0:03\.0 to 0:03\.5\s+peak 0\.97\s+mil 1\.25", text)
    assert base64.b64encode(JPEG).decode() in page
    assert "still open" not in page


def test_a_snapshot_that_is_no_jpeg_is_left_out(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(alerts=[alert(thumb=b"<svg onload=alert(1)>")]))
    assert "<time>" in page
    assert "<img" not in page


def test_snapshots_have_a_budget_that_goes_to_the_highest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PICTURES_BYTES", 2 * len(JPEG))
    raised = [alert(n, peak, thumb=JPEG) for n, peak in ((1, 0.9), (2, 0.99), (3, 0.85), (4, 0.95))]
    page = page_of(tmp_path, made(alerts=raised[:2]), made("b", alerts=raised[2:]))
    assert re.findall(r"Snapshot of alert (\d)", page) == ["2", "2"]
    assert page.count("<time>") == 4


def test_of_many_alerts_the_highest_get_a_card_and_the_rest_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "SNAPSHOTS", 2)
    page = page_of(tmp_path, made(alerts=[alert(1, 0.9), alert(2, 0.8), alert(3, 0.95)]))
    assert re.findall(r"<li class=\"nopic\">.*?<i class=\"mark\">(\d)", page) == ["1", "3"]
    assert "and 1 more alert with lower peaks" in page


def test_of_many_videos_those_with_the_most_to_see_get_a_timeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "TIMELINES", 2)
    page = page_of(tmp_path, made("a"), made("b", alerts=[alert()]), made("c"), made("d", alerts=[alert()]))
    assert re.findall(r"<h3><bdi>(.)", page) == ["b", "d"]
    assert "Timelines of the 2 videos with the most to see, of 4" in page
    assert page.count("<tr><td") == 4


def test_ten_hours_stay_small_and_keep_their_peak(tmp_path: Path) -> None:
    score = np.full(900_000, 0.1, np.float32)
    score[123_456], score[500_000:600_000] = 0.99, NAN
    page = page_of(tmp_path, made(frames=900_000, times_s=np.arange(900_000) / 25, score=score))
    assert len(page) < 60_000
    assert "each point is the highest of 1500 frames" in page
    path = re.search(r'class="chart".*?class="line" d="([^"]*)"', page, re.DOTALL)
    assert path
    assert " 10 " in path[1]
    assert path[1].count("M") == 2


def test_ground_truth_warm_up_and_levels_are_drawn(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(truth=[(10, 19), (40, 90), (70, 90)], warmup_until_s=1.0))
    assert re.findall(r'class="truth" title="anomalous" style="left:([\d.]+)%', page) == ["20.4", "81.6"]
    assert 'class="warm"' in page
    assert "raise 0.8" in page
    assert "clear 0.6" in page


def test_an_alert_hides_the_area_under_the_score_and_nothing_else_of_the_chart(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(alerts=[alert()], truth=[(10, 19)], gaps=[(1.0, 2.0, "corrupt")], warmup_until_s=1.0))
    drawn = re.findall(r'class="(area|alert|warm|truth|gap|line|level raise)"', page.split('class="chart"')[1])
    assert drawn == ["area", "alert", "warm", "truth", "gap", "line", "level raise"]


def test_the_small_lines_of_the_overview_have_a_scale_and_a_length(tmp_path: Path) -> None:
    page = page_of(tmp_path, made(frames=801), made("b"))
    assert re.findall(r'aria-label="Score from 0 to 1 over ([\d:]+)"', page) == ["1:20", "0:04"]
    assert "<i>1</i><i>0</i><i>0:00</i><i>1:20</i>" in page


def test_one_frame_constant_times_and_nothing_scored_are_drawn(tmp_path: Path) -> None:
    nothing = np.full(3, NAN, np.float32)
    Tags(page_of(tmp_path, made(frames=1), made("b", 3, times_s=np.zeros(3), score=nothing, models={"m": nothing})))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OddwatchError, match=r"report\.html: cannot be written"):
        page_of(tmp_path, made())


def test_mean_and_deviation_over_seeds_are_on_the_page(tmp_path: Path) -> None:
    entries = [ManifestEntry(video="a.mp4", path=Path("a"), anomalies=((10, 20),))]
    table = ScoresTable(times_s=made().times_s, score=made().score, models={})
    metrics = evaluate(entries, {"a.mp4": table}, None, 0.3)
    assert "seeds" not in re.sub(r"<style>.*</style>", "", page_of(tmp_path, made(), metrics=metrics), flags=re.DOTALL)
    spread = {key: {"mean": 0.81, "std": 0.042, "each": [0.78, 0.84]} for key in FIGURES}
    spread["median_delay_s"] = {"mean": None, "std": None, "each": [0.25, None]}
    page = page_of(tmp_path, made(), metrics=replace(metrics, over_seeds={"seeds": [1, 2], **spread}))
    Tags(page)
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "Over 2 seeds mean deviation each micro ROC-AUC 0.810 \u00b1 0.042 0.780, 0.840" in text
    assert "median delay in seconds - - 0.250, -" in text


def test_the_run_time_is_of_the_videos_that_this_run_scored(tmp_path: Path) -> None:
    now, before = made(frames=100), [made(f"b{n}", frames=1000, kept=True) for n in range(2)]
    for videos, said in (
        ([now], "2.0 times real time"),
        ([now, *before], "last run only: 1 of 3 videos, 2.0 times real time"),
        (before, "last run only: 0 of 2 videos"),
    ):
        assert f"<dt>Run time</dt><dd>5.0 s<small>{said}</small>" in page_of(tmp_path, *videos, run_s=5.0)


# --- the parts


def test_an_envelope_keeps_peaks_and_gaps() -> None:
    values = np.array([0.1, 0.9, NAN, NAN, 0.3, NAN, 0.2], np.float32)
    times_s, highest, size = envelope(np.arange(7.0), values, 4)
    np.testing.assert_array_equal(times_s, [0.5, 2.5, 4.5, 6])
    np.testing.assert_array_equal(highest, np.array([0.9, NAN, 0.3, 0.2], np.float32))
    assert size == 2


def test_a_line_is_interrupted_where_nothing_was_scored() -> None:
    x, y = np.arange(5), np.array([1, 2, NAN, 3, NAN])
    assert line(x, y) == "M0 1 1 2M3 3h0"
    assert area(x, y).count("M") == 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (clock(7.04), "0:07"),
        (clock(3723), "1:02:03"),
        (clock(59.96, fine=True), "1:00.0"),
        (duration(4.21), "4.2 s"),
        (duration(185), "3 min 5 s"),
        (duration(7800), "2 h 10 min"),
        (duration(3600), "1 h"),
        (duration(86400 * 41 + 57600), "41 d 16 h"),
        (count(1, "file"), "1 file"),
        (count(12000, "frame"), "12,000 frames"),
        (counted(12000, "frame"), "12000 frames"),
        (counted(0, "dead letter"), "0 dead letters"),
        (percent(3, 3), "100 %"),
        (percent(999_999, 1_000_000), "99.99 %"),
        (percent(1, 1_000_000), "0.01 %"),
        (percent(0, 5), "0 %"),
        (plain('a<b>&"\u202e'), "a&lt;b&gt;&amp;&quot;\\u202e"),
    ],
)
def test_numbers_and_names_are_written_as_people_read_them(said: str, expected: str) -> None:
    assert said == expected


def test_one_of_a_thing_is_called_one_wherever_it_stands(tmp_path: Path) -> None:
    lonely = made(frames=1, alerts=[alert()], scored=0, gap_frames={"corrupt": 1})
    entries = [ManifestEntry(video="a.mp4", path=Path("a"), anomalies=((0, 0),))]
    table = ScoresTable(times_s=lonely.times_s, score=lonely.score, models={})
    text = re.sub(r"<[^>]*>", " ", page_of(tmp_path, lonely, metrics=evaluate(entries, {"a.mp4": table}, None, 0.3)))
    status = {
        "cameras": {
            "door": {"health": {}, "run": {"decoded": 1, "scored": 1}, "streams": {}, "held_by": {}, "totals": {}}
        },
        "refused": {}, "workers": [{"name": "w", "pid": 7, "cameras": 1, "silent_s": 0.1, "error": ""}],
        "jobs": {"a": {}}, "dead_letters": 1, "alerts_kept": 1, "memory_used_bytes": 0, "memory_limit_bytes": 0,
    }  # fmt: skip
    said = "\n".join([text, *status_lines(status, "here")])
    assert "1 camera, 1 file in work, 1 alert message, 1 dead letter" in said
    assert not re.search(r"(?<![\d.,-])1 (?!times)[a-z]+(?<![su])s\b", said)
