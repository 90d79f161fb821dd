"""Feature extractors: what is known of a kind before it is built, and building it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from stages.errors import ConfigError
from stages.messages import Features, Snippet
from stages.plugins import Plugins, load
from stages.stage import Stage

PRECISIONS = ("fp32", "bf16", "fp16")
ENGINES = ("torch", "openvino")
"""What computes networks; torch unless said, so that scores do not depend on which packages are installed."""
USUAL_HEIGHT = 240
"""Pixels; for models that read snippets themselves."""


class Extractor(Stage[Snippet, Features], Protocol):
    """A stage from snippets to features."""

    name: str
    """That of its kind."""
    id: str
    """`name@hash`: the hash changes whenever the same pixels may give other numbers (weights, parameters, version)."""
    dim: int
    """D of `Features.values`."""
    sparse: bool
    """As its kind says."""
    analysis_height: int
    """As its kind says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractorKind:
    """What is known of an extractor without building it."""

    name: str
    build: str
    """`module:function`, called as `(name, device, precision)`, gives the Extractor. Raises WeightsError if weights
    are absent. The module is imported once for all workers of a host."""
    analysis_height: int
    """Picture height in pixels that it wants from the decoder; it must take others too."""
    rescales: bool
    """It brings any picture to one fixed input itself: its features mean the same at any decode height. Others measure
    in the pictures they are given, so a model keeps the height it was learned at."""
    sparse: bool = False
    """True: values (N, D) of active cells per frame; False: one vector (D,) per snippet."""
    network: bool = False
    """It is a `ClipExtractor`: precision and engine are about it."""
    weights: bool = False
    """It needs weights that are installed apart."""


EXTRACTORS = Plugins("oddwatch.extractors", "feature extractor", ExtractorKind)


def analysis_height(name: str | None) -> int:
    """The height an extractor wants; for models that read snippets themselves (None) the usual 240.

    Raises ConfigError for an unknown extractor.
    """
    return USUAL_HEIGHT if name is None else EXTRACTORS.get(name).analysis_height


def build_extractor(name: str, device: str = "cpu", precision: str = "fp32", engine: str = "torch") -> Extractor:
    """The extractor called `name`; `precision` is that of its convolutions and matrix products, where it has any.

    Neither precision nor engine is part of the id: what is learned in fp32 (all that `fit` and `train` learn) is used
    with others too. Raises ConfigError listing those there are, WeightsError if weights are absent.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    kind = EXTRACTORS.get(name)
    build = load(kind.build)
    if engine == "torch" or not kind.network:
        return build(name, device, precision)
    check_engine(engine, device, precision)
    from stages.features.openvino import on_openvino

    return on_openvino(build(name, device, precision))


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
