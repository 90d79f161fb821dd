"""What is told to people, and what they may set."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from stages.alerting.alert import Alert, severity_of, wall_clock
from stages.alerting.settings import AlertSettings

ALERT = Alert(
    id="cam-1000-3",
    phase="close",
    camera="cam",
    run_ms=1000,
    start_frame=3,
    end_frame=8,
    started_at="1970-01-01T00:00:01.300Z",
    ended_at="1970-01-01T00:00:01.800Z",
    start_s=0.3,
    end_s=0.8,
    peak=0.83,
    severity="high",
    models={"m": 0.83},
    config_hash="abc",
    model_hashes={"m": "def"},
    thumb=b"jpeg",
)
DESIGN = (
    "id, phase, camera, run_ms, start_frame, end_frame, started_at, ended_at, start_s, end_s, peak, severity, models, "
    "snapshot, clip, config_hash, model_hashes, schema"
)


def test_the_json_has_exactly_the_agreed_fields() -> None:
    assert ", ".join(json.loads(ALERT.to_json())) == DESIGN


def test_an_alert_survives_its_json() -> None:
    assert Alert.from_json(ALERT.to_json()) == ALERT
    assert Alert.from_json(ALERT.to_json(snapshot="key")) == replace(ALERT, snapshot="key")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "Expecting", id="no JSON"),
        pytest.param("[]", "not an alert", id="no object"),
        pytest.param("{}", "not an alert: KeyError 'schema'", id="no fields"),
        pytest.param('{"schema": 99}', "alert of schema 99, expected 1", id="another schema"),
        pytest.param('{"schema": 1, "id": "x"}', "not an alert: TypeError", id="missing fields"),
        pytest.param(ALERT.to_json().replace('"close"', '"closed"'), "unknown", id="unknown phase"),
        pytest.param(ALERT.to_json().replace('"end_frame": 8', '"end_frame": 2'), "before it starts", id="ends early"),
    ],
)
def test_what_is_no_alert_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Alert.from_json(text)


@pytest.mark.parametrize(
    ("peak", "severity"),
    [(0.6, "low"), (0.6999, "low"), (0.7, "medium"), (0.8, "high"), (0.9, "critical"), (1.0, "critical")],
)
def test_severity_follows_from_the_peak(peak: float, severity: str) -> None:
    assert severity_of(peak) == severity


def test_wall_clock_is_utc_with_milliseconds() -> None:
    assert wall_clock(1_767_225_599_500, 0.5) == "2026-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            {"raise_at": 0.5, "clear_at": 0.6}, r"clear_at \(0.6\) must be lower than raise_at \(0.5\)", id="levels"
        ),
        pytest.param({"raise_at": 0.5}, "clear_at", id="equal to the default"),
        pytest.param({"min_length_s": 5, "max_length_s": 4}, "must be shorter than max_length_s", id="lengths"),
        pytest.param({"weights": {"a": -1}}, "greater than or equal to 0", id="negative weight"),
        pytest.param({"raise_att": 0.7}, "Extra inputs are not permitted", id="unknown key"),
        pytest.param({"fusion": "median"}, "'mean' or 'max'", id="unknown fusion"),
        pytest.param({"cooldown_s": float("inf")}, "finite", id="infinite"),
        pytest.param({"raise_at": 1.0}, "less than 1", id="never reached"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_a_reason(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AlertSettings(**values)


def test_every_setting_is_described() -> None:
    for name, setting in AlertSettings.model_fields.items():
        assert setting.description, name
        assert not name.endswith("_s") or "econds" in setting.description, name
