"""Stages that cannot be built are told of in one line, for as long as somebody needs them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from makers import announce, spec
from toys import FakeClock, toy_work, worker

from pipeline.bus.streams import Bus
from pipeline.cameras.registry import register, unregister
from pipeline.cameras.spec import CameraSpec
from pipeline.config.schema import Config
from pipeline.leases.lease import heartbeats
from pipeline.workers import build as building
from pipeline.workers.build import Processors
from stages.errors import CheckpointError
from stages.stage import Processor, StageProcessor


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workers.loop.POLL_S", 0.004)


def error_of(bus: Bus) -> str:
    (beat,) = heartbeats(bus.client, bus.keys)
    return beat.error


def test_an_error_goes_with_the_camera_that_had_it(one_bus: Bus) -> None:
    """The worker holds nothing all the time, so nothing changes in what it holds."""

    def build(entry: CameraSpec, stage: str) -> Processor:
        raise CheckpointError("/models/x: cannot read the checkpoint")

    clock = FakeClock()
    one = worker(one_bus, "temporal", clock=clock, processor_for=build)
    announce(one_bus, spec("bad"))

    def turn() -> None:
        for _ in range(4):
            clock.sleep(1)
            one.turn()

    turn()
    assert error_of(one_bus) == "/models/x: cannot read the checkpoint"
    unregister(one_bus.client, one_bus.keys, "bad")
    turn()
    assert error_of(one_bus) == ""


def test_one_stage_that_cannot_be_built_does_not_stop_the_others(one_bus: Bus) -> None:
    def build(entry: CameraSpec, stage: str) -> Processor:
        if entry.camera == "bad":
            raise CheckpointError("/models/x: cannot read the checkpoint")
        return toy_work(entry, stage)

    bad = spec("bad")
    other = {"novelty": bad.models["novelty"].model_copy(update={"sha256": "x"})}
    announce(one_bus, spec("good"))
    register(one_bus.client, one_bus.keys, bad.model_copy(update={"models": other}))
    clock = FakeClock()
    one = worker(one_bus, "temporal", clock=clock, processor_for=build)
    for _ in range(4):
        clock.sleep(1)
        one.turn()
    assert one_bus.client.exists(one_bus.keys.lease("good", "temporal:novelty"))
    assert "/models/x" in error_of(one_bus)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA\n"), "RuntimeError: CUDA error: out"),
        (ImportError("No module named 'torch'"), "ImportError: No module named 'torch'"),
        (MemoryError(), "MemoryError"),
        (CheckpointError("m.safetensors: is damaged"), "m.safetensors: is damaged"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_whatever_goes_wrong_in_building_is_one_line(
    error: Exception, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    def build(entry: CameraSpec, stage: str) -> Processor:
        raise error

    processors = Processors(build)
    with caplog.at_level(logging.INFO):
        assert not processors.ready(spec(), "features:motion", 0)
        assert not processors.ready(spec(), "features:motion", 100)
    assert says in processors.error_at(0)
    assert "\n" not in processors.error_at(0)
    assert len(caplog.records) == 1
    processors.keep({})
    assert processors.error_at(0) == ""


def test_an_unknown_device_does_not_end_the_worker() -> None:
    build = building.processor_builder("gpu", False)
    processors = Processors(build)
    assert processors.ready(spec(), "features:motion", 0)  # needs no torch
    assert isinstance(build(spec(), "temporal:novelty"), StageProcessor)


class TestDevice:
    def test_auto_is_what_torch_can_use_and_not_what_the_machine_has(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(building, "GPU_DRIVERS", (tmp_path,))
        for can, device in ((False, "cpu"), (True, "cuda")):
            monkeypatch.setattr("torch.cuda.is_available", lambda can=can: can)
            assert building.resolve_device("auto") == device

    def test_auto_without_a_driver_is_the_cpu(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(building, "GPU_DRIVERS", (tmp_path / "none",))
        assert building.resolve_device("auto") == "cpu"

    def test_what_is_asked_for_is_taken(self) -> None:
        assert [building.resolve_device(d) for d in ("cpu", "cuda:1")] == ["cpu", "cuda:1"]

    @pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "cpu "])
    def test_a_device_that_there_is_not_is_refused_in_the_configuration(self, device: str) -> None:
        with pytest.raises(ValueError, match=r"workers\.device"):
            Config.model_validate({"workers": {"device": device}})
