"""Feature networks computed by OpenVINO instead of torch: the same numbers to a millionth, in less CPU time."""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from stages.features.clips import ClipExtractor, Scaled

HINTS = {"fp32": "f32", "bf16": "bf16"}
LENGTHS = 2
"""Compiled networks that are kept, by the length of their clips: the usual one, and that of a file's end."""


def on_openvino(extractor: ClipExtractor) -> ClipExtractor:
    """The same extractor (same id), its network computed by OpenVINO in the extractor's precision.

    Features differ from torch's by about 1e-6 of their size in fp32, and do not depend on what shares a batch.
    """
    return extractor.computed_by(lambda network: Compiled(network, extractor.precision))


class Compiled:
    """A network of torch's as OpenVINO runs it; compiled in about a second when a length of clips first comes."""

    def __init__(self, network: Scaled, precision: str) -> None:
        """Takes as many threads as torch has, and leaves it to the system on which cores they run."""
        self._network = network
        self._openvino = _import_openvino()
        self._settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            # Workers of one host would pin themselves to the same first core.
            "ENABLE_CPU_PINNING": False,
        }
        self._runs: OrderedDict[tuple[int, ...], Callable[[np.ndarray], Any]] = OrderedDict()

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """Float32 (B, dim) of uint8 (B, T, S, S, 3) RGB."""
        run = self._compiled(clips[:1])
        # One by one: several at once were not faster (measured), and their sums could depend on each other.
        return np.concatenate([run(clips[i : i + 1])[0] for i in range(len(clips))])

    def _compiled(self, clip: np.ndarray) -> Callable[[np.ndarray], Any]:
        any_length = self._network.any_length
        shape = [1, -1 if any_length else clip.shape[1], *clip.shape[2:]]
        key = tuple(shape)
        if key not in self._runs:
            while len(self._runs) >= LENGTHS:
                self._runs.popitem(last=False)
            with warnings.catch_warnings(), torch.inference_mode():
                # What torch warns of here, that sizes become constants, is what is wanted.
                warnings.simplefilter("ignore")
                trace: Any = torch.jit.trace
                traced = trace(self._network, torch.from_numpy(clip), check_trace=False)
                model = self._openvino.convert_model(traced, input=self._openvino.PartialShape(shape))
            self._runs[key] = self._openvino.Core().compile_model(model, "CPU", self._settings)
        self._runs.move_to_end(key)
        return self._runs[key]


def _import_openvino() -> Any:
    """The package, but not its `openvino_telemetry`, which would tell its makers of the import, over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
