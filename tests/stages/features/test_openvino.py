"""`workers.engine: openvino`: other arithmetic, the same features; what is said where it cannot be used. About 20 s."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import spec
from places import ROOT, absent
from torch import nn
from torchvision.models.video import r3d_18

from pipeline.cameras.models import ModelSpec
from pipeline.cameras.spec import CameraSpec
from pipeline.cli.session import local_workers, worker_settings
from pipeline.config.schema import Config
from pipeline.workers.build import check_engine
from stages.errors import ConfigError
from stages.features import efficientnet, i3d
from stages.features import registry as features
from stages.features.clips import ClipExtractor
from stages.features.efficientnet import FrameMean
from stages.features.i3d import Penultimate
from stages.features.nets.efficientnet_lite0 import EfficientNetLite0
from stages.features.nets.i3d_net import I3D
from stages.features.registry import build_extractor
from stages.features.torchvision_video import R3D_18
from stages.messages import Snippet


@pytest.fixture
def installed() -> None:
    """For tests that need the package. Absent: skipped at home, failed in CI."""
    if importlib.util.find_spec("openvino") is None:
        absent("openvino is not installed here; the dev extra brings it")


def seeded(network: nn.Module) -> nn.Module:
    """Weights that let through as much as comes in, layer by layer."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
        elif isinstance(network, Penultimate):
            nn.init.zeros_(parameter)
    return network


def r3d() -> nn.Module:
    network = seeded(r3d_18())
    network.fc = nn.Identity()
    return network


MADE = {
    "i3d": lambda: ClipExtractor(i3d.BACKBONE, seeded(Penultimate(I3D())), "made"),
    "r3d_18": lambda: ClipExtractor(R3D_18.backbone(), r3d(), "made"),
    "efficientnet_lite0": lambda: ClipExtractor(efficientnet.BACKBONE, seeded(FrameMean(EfficientNetLite0())), "made"),
}


@pytest.fixture(
    scope="module",
    params=["efficientnet_lite0", *(pytest.param(name, marks=pytest.mark.slow) for name in ("i3d", "r3d_18"))],
)
def by_torch(request: pytest.FixtureRequest) -> ClipExtractor:
    return MADE[request.param]()


@pytest.fixture
def by_openvino(installed: None, by_torch: ClipExtractor) -> ClipExtractor:
    from stages.features.openvino import on_openvino

    return on_openvino(by_torch)


def snippet(seed: int, frames: int = 16) -> Snippet:
    coarse = np.random.RandomState(seed).randint(0, 256, (frames, 12, 16, 3), np.uint8)
    return Snippet(
        camera=f"cam{seed}", run_ms=5, seq=seed, first_frame=0, times_s=np.arange(frames) / 25,
        picked=np.arange(frames, dtype=np.int32), pixels=coarse.repeat(9, axis=1).repeat(9, axis=2),
    )  # fmt: skip


def vectors(extractor: ClipExtractor, *snippets: Snippet) -> np.ndarray:
    return np.stack([outputs[0].values for outputs, _ in extractor.process([(s, {}) for s in snippets])])


def test_features_are_those_of_torch_alone_in_a_batch_and_of_another_length(
    by_torch: ClipExtractor, by_openvino: ClipExtractor
) -> None:
    snippets = [snippet(0), snippet(1), snippet(2, frames=5)]
    expected, got = vectors(by_torch, *snippets), vectors(by_openvino, *snippets)
    assert got.dtype == np.float32
    for one, other in zip(got, expected, strict=True):
        assert np.linalg.norm(one - other) < 1e-5 * np.linalg.norm(other)
    assert np.linalg.norm(expected[0] - expected[1]) > 1e-3 * np.linalg.norm(expected[0])
    # To the byte, unlike with torch: each clip is computed by itself.
    assert vectors(by_openvino, snippets[1]).tobytes() == got[1].tobytes()


def test_the_id_stays(by_torch: ClipExtractor, by_openvino: ClipExtractor) -> None:
    assert by_openvino.id == by_torch.id


@pytest.mark.slow
def test_bf16_differs_within_a_bound(installed: None) -> None:
    from stages.features.openvino import on_openvino

    small = replace(R3D_18, clip_frames=4, resize=73, crop=64)
    exact, short = (
        vectors(on_openvino(ClipExtractor(small.backbone(), r3d(), "made", precision=p)), snippet(0, frames=4))[0]
        for p in ("fp32", "bf16")
    )
    assert np.linalg.norm(short - exact) < 0.03 * np.linalg.norm(exact)


def test_longer_clips_are_computed_too_and_few_compiled_networks_are_kept(installed: None) -> None:
    from stages.features.clips import Scaled
    from stages.features.openvino import LENGTHS, Compiled

    class Steps(nn.Module):
        """As many steps as there are frames, fixed when traced."""

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return clips.mean(dim=(3, 4)) @ torch.ones(int(clips.shape[2]), 2)

    compiled = Compiled(Scaled(R3D_18.backbone(), Steps()), "fp32")
    for frames in (4, 5, 6, 4):
        compiled(np.zeros((2, frames, 8, 8, 3), np.uint8))
        assert len(compiled._runs) <= LENGTHS


def test_nothing_is_reported_to_the_makers_of_openvino(installed: None) -> None:
    code = "import sys; from stages.features.openvino import _import_openvino; _import_openvino(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "openvino.tools.ovc.telemetry_stub" in loaded
    assert not [name for name in loaded if name.startswith("openvino_telemetry.")]


def reads(extractor: str) -> CameraSpec:
    return spec().model_copy(update={"models": {"odd": ModelSpec(kind="mil", features=extractor)}})


REFUSED = {
    "on a GPU": (
        {"device": "cuda"},
        "openvino computes on CPUs, but workers.device means 'cuda' here; set workers.dev",
    ),
    "in fp16": ({"device": "cpu", "precision": "fp16"}, "fp16 is for GPUs, openvino computes on CPUs; use bf16"),
    "not installed": ({"device": "cpu"}, "not installed here; run 'pip install openvino', or set workers.engine: tor"),
}


@pytest.mark.parametrize(("said", "message"), REFUSED.values(), ids=REFUSED)
def test_where_it_cannot_be_used_one_line_says_so(
    said: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "find_spec", lambda _name: None)
    config = Config.model_validate({"workers": {"engine": "openvino"} | said})
    told = worker_settings(config, "unix:///nothing")
    with pytest.raises(ConfigError, match=message) as refused, local_workers(config, told, [reads("i3d")]):
        pytest.fail("workers were started")
    assert refused.value.exit_code == 2
    workers = config.workers
    with pytest.raises(ConfigError, match=message):
        build_extractor("i3d", workers.device, workers.precision, workers.engine)


def test_it_is_not_asked_for_where_there_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "find_spec", lambda _name: None)
    check_engine(Config.model_validate({"workers": {"engine": "openvino"}}).workers, [reads("motion")])
    assert build_extractor("motion", engine="openvino").name == "motion"


def test_another_engine_is_refused_in_the_configuration() -> None:
    with pytest.raises(ValueError, match=r"workers\.engine"):
        Config.model_validate({"workers": {"engine": "tensorrt"}})


def test_a_command_says_so_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "cameras.yaml"
    config.write_text("models: {odd: {features: i3d}}\nworkers: {engine: openvino, device: cpu}\n")
    code = "import sys; sys.modules['openvino'] = None; from pipeline.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "check", config], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FAILED model for any: workers.engine: openvino is not installed here" in done.stdout
    assert done.stderr == ""
