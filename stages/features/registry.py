"""The registry of feature extractors: name -> the module that builds it, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from stages.errors import ConfigError
from stages.messages import Features, Snippet
from stages.stage import Stage

EXTRACTORS = {
    "motion": "stages.features.motion",
    "i3d": "stages.features.i3d",
    "r3d_18": "stages.features.resnet3d",
    "r2plus1d_18": "stages.features.resnet3d",
    "s3d": "stages.features.s3d",
    "mvit_v2_s": "stages.features.mvit",
    "swin3d_t": "stages.features.swin3d",
    "efficientnet_lite0": "stages.features.efficientnet",
}


class Extractor(Stage[Snippet, Features], Protocol):
    """A stage from snippets to features. Its module has `build(name, device, precision) -> Extractor`."""

    name: str
    """Key in EXTRACTORS."""
    id: str
    """`name@hash`: the hash changes whenever the same pixels may give other numbers (weights, parameters, version)."""
    dim: int
    """D of `Features.values`."""
    sparse: bool
    """True: values (N, D) of active cells per frame; False: one vector (D,) per snippet."""
    analysis_height: int
    """Picture height in pixels it wants from the decoder (as in HEIGHTS); it rescales others itself."""


PRECISIONS = ("fp32", "bf16", "fp16")
ENGINES = ("torch", "openvino")
"""What computes networks; torch unless said, so that scores do not depend on which packages are installed."""

NETWORKS = frozenset(EXTRACTORS) - {"motion"}
"""Extractors that are networks: those that precision and engine are about."""

HEIGHTS = {
    "motion": 240,
    "i3d": 224,
    "r3d_18": 128,
    "r2plus1d_18": 128,
    "s3d": 256,
    "mvit_v2_s": 256,
    "swin3d_t": 256,
    "efficientnet_lite0": 224,
}
"""Picture height in pixels that an extractor wants from the decoder; known without importing it."""

RESCALES = frozenset(EXTRACTORS) - {"motion"}
"""Extractors that bring any picture to one fixed input themselves: their features mean the same at any decode height.

The others (`motion`) measure in the pictures they are given, so a model keeps the height it was learned at.
"""


def analysis_height(name: str | None) -> int:
    """The height an extractor wants; for models that read snippets themselves (None) the usual 240.

    Raises ConfigError for an unknown extractor.
    """
    return 240 if name is None else HEIGHTS[_known(name)]


def build_extractor(name: str, device: str = "cpu", precision: str = "fp32", engine: str = "torch") -> Extractor:
    """The extractor called `name`; `precision` is that of its convolutions and matrix products, where it has any.

    Neither precision nor engine is part of the id: what is learned in fp32 (all that `fit` and `train` learn) is used
    with others too. Raises ConfigError listing those there are, WeightsError if weights are absent.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    module = import_module(EXTRACTORS[_known(name)])
    if engine == "torch" or name not in NETWORKS:
        return module.build(name, device, precision)
    check_engine(engine, device, precision)
    from stages.features.openvino import on_openvino

    return on_openvino(module.build(name, device, precision))


def check_engine(engine: str, device: str, precision: str) -> None:
    """Raises ConfigError if networks cannot be computed so here."""
    if engine == "torch":
        return
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    if device != "cpu":
        raise ConfigError(
            f"workers.engine: openvino computes on CPUs, but workers.device means {device!r} here; set workers.device: "
            "cpu, or workers.engine: torch"
        )
    if precision == "fp16":
        raise ConfigError("workers.precision: fp16 is for GPUs, openvino computes on CPUs; use bf16 or fp32")
    if find_spec("openvino") is None:
        raise ConfigError(
            "workers.engine: openvino is not installed here; run 'pip install openvino', or set workers.engine: torch"
        )


def _known(name: str) -> str:
    if name not in EXTRACTORS:
        raise ConfigError(f"unknown feature extractor {name!r}; known: {', '.join(EXTRACTORS)}")
    return name
