"""`workers.precision` and `workers.engine` reach the feature networks, and precision is logged when it does."""

from __future__ import annotations

import logging

import pytest
from makers import spec
from means_extractor import Means

from pipeline.cli.session import worker_settings
from pipeline.config.schema import Config
from pipeline.workers.build import processor_builder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_the_configuration_says_reaches_the_network(
    precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def build(*args: str) -> Means:
        asked.append(args)
        return Means()

    monkeypatch.setattr("stages.features.registry.build_extractor", build)
    told = worker_settings(
        Config.model_validate({"workers": {"precision": precision, "engine": "openvino", "device": "cpu"}}),
        "unix:///nothing",
    )
    with caplog.at_level(logging.INFO):
        processor_builder(told.device, False, told.precision, told.engine)(spec(), "features:i3d")
    assert asked == [("i3d", "cpu", precision, "openvino")]
    assert ("i3d computes in bf16" in caplog.text) == (precision == "bf16")


def test_another_precision_is_refused_in_the_configuration() -> None:
    with pytest.raises(ValueError, match=r"workers\.precision"):
        Config.model_validate({"workers": {"precision": "fp8"}})
