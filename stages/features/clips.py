"""The stage that most extractors are: a network that sees a whole snippet and says one vector."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stages.errors import ConfigError
from stages.features.pictures import CROPS
from stages.messages import Features, Snippet
from stages.stage import State

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MAX_BATCH = {"cpu": 8, "cuda": 32}
"""Clips in one forward pass: bounds memory at 1 to 2 GB on a CPU, where more is not faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """What is special about one network."""

    name: str
    dim: int
    analysis_height: int
    preprocessing: Mapping[str, object]
    """What is done to pixels before the network, in words and with a version: part of the extractor's id."""
    prepared: Callable[[np.ndarray], np.ndarray]
    """uint8 (T, H, W, 3) RGB of any size -> uint8 (T', S, S, 3): what the network sees."""
    ten_crops: Callable[[np.ndarray], np.ndarray]
    """uint8 (T, H, W, 3) -> uint8 (10, T', S, S, 3), in the order of `pictures.ten`."""
    scaled: Callable[[Tensor], Tensor]
    """float32 (B, 3, T, S, S) of 0 to 255 -> what the network was trained on."""
    any_length: bool = False
    """Whether what torch traces of the network with one T holds for every T."""


class Scaled(nn.Module):
    """A network with what comes right before it: uint8 (B, T, S, S, 3) RGB -> (B, dim)."""

    def __init__(self, backbone: Backbone, network: nn.Module) -> None:
        super().__init__()
        self.network, self.any_length = network, backbone.any_length
        self._scaled = backbone.scaled

    def forward(self, clips: Tensor) -> Tensor:
        # (B, 3, T, S, S), channels last in memory
        features: Tensor = self.network(self._scaled(clips.permute(0, 4, 1, 2, 3).float()))
        return features


Compute = Callable[[np.ndarray], np.ndarray]
"""uint8 (B, T, S, S, 3) RGB -> float32 (B, dim)."""


class ClipExtractor:
    """Stage from snippets to dense features. Keeps no state."""

    sparse = False

    def __init__(
        self, backbone: Backbone, network: nn.Module, weights_sha256: str, device: str = "cpu", precision: str = "fp32"
    ) -> None:
        """`network`: scaled clips (B, 3, T, S, S) -> (B, dim)."""
        self.name, self.dim, self.analysis_height = backbone.name, backbone.dim, backbone.analysis_height
        self.precision = precision
        self._backbone = backbone
        self._device = usable(device, precision)
        self._network = Scaled(backbone, _channels_last(network.eval().to(self._device)))
        self._compute: Compute | None = None
        # Precision is left out: what was learned in fp32 is used with bf16 too, at a stated difference.
        version = json.dumps({"weights": weights_sha256, "preprocessing": backbone.preprocessing}, sort_keys=True)
        self.id = f"{self.name}@{hashlib.sha256(version.encode()).hexdigest()[:8]}"

    def process(self, batch: Sequence[tuple[Snippet, State]]) -> list[tuple[list[Features], State]]:
        """The features of each snippet; snippets of equal length share a forward pass."""
        values = self._of([self._backbone.prepared(snippet.pixels) for snippet, _ in batch])
        return [
            ([Features(**snippet.header(), extractor=self.id, values=values[i].copy())], {})
            for i, (snippet, _) in enumerate(batch)
        ]

    def finish(self, state: State) -> tuple[list[Features], State]:
        """Nothing is owed, nothing lives on."""
        return [], {}

    def ten_crops(self, pixels: np.ndarray) -> np.ndarray:
        """Float32 (10, dim) of a snippet's uint8 (T, H, W, 3): the protocol of papers, ten times the work."""
        crops = self._of(list(self._backbone.ten_crops(pixels)))
        assert len(crops) == CROPS
        return crops

    def features(self, clips: np.ndarray) -> np.ndarray:
        """Float32 (B, dim) of prepared `clips`, uint8 (B, T, S, S, 3) RGB."""
        return self._compute(clips) if self._compute else self._with_torch(clips)

    def computed_by(self, engine: Callable[[Scaled], Compute]) -> ClipExtractor:
        """The same extractor, but its network computed by what `engine` makes of it."""
        other = copy.copy(self)
        other._compute = engine(self._network)
        return other

    def _with_torch(self, clips: np.ndarray) -> np.ndarray:
        on_device = torch.from_numpy(clips).to(self._device)
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        dtype = AUTOCAST[self.precision]
        cast = torch.autocast(self._device.type, dtype, enabled=dtype is not None)
        with torch.inference_mode(), exact, cast:
            features: Tensor = self._network(on_device)
        return np.asarray(features.float().cpu())

    def _of(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        values = np.empty((len(clips), self.dim), dtype=np.float32)
        for items in _of_equal_length(clips, MAX_BATCH[self._device.type]):
            values[items] = self.features(np.stack([clips[i] for i in items]))
        return values


def standardised(mean: tuple[float, float, float], std: tuple[float, float, float]) -> Callable[[Tensor], Tensor]:
    """Scales 0 to 255 to 0 to 1, then by the mean and deviation of each colour."""

    def scaled(clips: Tensor) -> Tensor:
        means, stds = (torch.tensor(v, device=clips.device).view(1, 3, 1, 1, 1) for v in (mean, std))
        return (clips / 255 - means) / stds

    return scaled


def usable(device: str, precision: str = "fp32") -> torch.device:
    """Raises ConfigError for a GPU that is not there, or numbers that it cannot compute with."""
    if precision == "fp16" and device == "cpu":
        raise ConfigError("workers.precision: fp16 is for GPUs, on a CPU it is many times slower; use bf16 or fp32")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"workers.device: {device!r} asked for, but torch finds no GPU; use 'cpu'")
    return torch.device(device)


def _channels_last(network: nn.Module) -> nn.Module:
    """Convolution kernels laid out as the pixels are; convolutions are faster so."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.dim() in layouts:
            parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.dim()])
    return network


def _of_equal_length(clips: Sequence[np.ndarray], most: int) -> Iterator[list[int]]:
    """Indices of clips that can be stacked, at most `most` together."""
    for frames in sorted({len(clip) for clip in clips}):
        items = [i for i, clip in enumerate(clips) if len(clip) == frames]
        yield from (items[start : start + most] for start in range(0, len(items), most))
