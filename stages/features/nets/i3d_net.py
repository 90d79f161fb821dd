"""I3D, Inception-v1 RGB (Carreira & Zisserman, CVPR 2017), for inference.

The published weights come from TensorFlow, so padding is TensorFlow's 'SAME': what cannot be split
evenly goes to the end, and how much there is depends on the size of the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.errors import WeightsError

BATCH_NORM_EPSILON = 1e-3
CLASSES = 400
DIM = 1024
MIN_FRAMES = 9
"""Fewer leave less than the two time steps that the last pooling averages."""

# Widths of a mixed block: 1x1 | 1x1 -> 3x3 | 1x1 -> 3x3 | pool -> 1x1.
Widths = tuple[int, int, int, int, int, int]
MIXED_3: dict[str, Widths] = {"Mixed_3b": (64, 96, 128, 16, 32, 32), "Mixed_3c": (128, 128, 192, 32, 96, 64)}
MIXED_4: dict[str, Widths] = {
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
}
MIXED_5: dict[str, Widths] = {"Mixed_5b": (256, 160, 320, 32, 128, 128), "Mixed_5c": (384, 192, 384, 48, 128, 128)}

Triple = tuple[int, int, int]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """How many cells TensorFlow's 'SAME' adds (before, after) one axis."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def padded(x: Tensor, kernel: Triple, stride: Triple) -> tuple[Tensor, Triple]:
    """`x` with the uneven part of 'SAME' added at the end, and the even part that is left to the layer."""
    # int: while torch traces, a size is a tensor; what is worked out from it is to be a constant of the trace.
    pads = [same_padding(int(n), k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    uneven = [after - before for before, after in pads]
    if any(uneven):
        x = F.pad(x, [cells for extra in reversed(uneven) for cells in (0, extra)])
    t, h, w = (before for before, _ in pads)
    return x, (t, h, w)


class Unit(nn.Module):
    """Convolution, batch norm (folded into it when loading), ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel: Triple = (kernel, kernel, kernel)
        self.stride: Triple = (stride, stride, stride)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *self.kernel), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(outputs), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        x, padding = padded(x, self.kernel, self.stride)
        return F.relu_(F.conv3d(x, self.weight, self.bias, self.stride, padding))


def max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Max pooling with 'SAME' padding of an `x` that is nowhere negative (all here follow a ReLU)."""
    x, padding = padded(x, kernel, stride)
    return F.max_pool3d(x, kernel, stride, padding)


class Mixed(nn.Module):
    """Inception block: four branches, concatenated along the channels."""

    def __init__(self, inputs: int, widths: Widths) -> None:
        super().__init__()
        one, two_in, two, three_in, three, four = widths
        self.outputs = one + two + three + four
        self.b0 = Unit(inputs, one, 1)
        self.b1a, self.b1b = Unit(inputs, two_in, 1), Unit(two_in, two, 3)
        self.b2a, self.b2b = Unit(inputs, three_in, 1), Unit(three_in, three, 3)
        self.b3 = Unit(inputs, four, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3(pooled)], dim=1)

    def published_units(self) -> dict[str, Unit]:
        """The units by their published names."""
        return {
            "Branch_0/Conv3d_0a_1x1": self.b0,
            "Branch_1/Conv3d_0a_1x1": self.b1a,
            "Branch_1/Conv3d_0b_3x3": self.b1b,
            "Branch_2/Conv3d_0a_1x1": self.b2a,
            "Branch_2/Conv3d_0b_3x3": self.b2b,
            "Branch_3/Conv3d_0b_1x1": self.b3,
        }


class I3D(nn.Module):
    """RGB clips to 1024 features and 400 Kinetics logits. Load with `i3d_from_arrays`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1a, self.conv_2b, self.conv_2c = Unit(3, 64, 7, stride=2), Unit(64, 64, 1), Unit(64, 192, 3)
        self.mixed = nn.ModuleDict()
        width = 192
        for name, widths in (MIXED_3 | MIXED_4 | MIXED_5).items():
            block = Mixed(width, widths)
            self.mixed[name] = block
            width = block.outputs
        self.classes = nn.Linear(DIM, CLASSES)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 1024) and logits (B, 400) of `clips` (B, 3, T, H, W) in [-1, 1], T >= MIN_FRAMES.

        The features are those the logits are linear in: averaged over the picture, over two
        neighbouring time steps, then over time.
        """
        if clips.shape[2] < MIN_FRAMES:
            raise ValueError(f"a clip must have at least {MIN_FRAMES} frames, got {clips.shape[2]}")
        x = self.conv_1a(clips)  # (B, 64, T/2, H/2, W/2)
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.conv_2c(self.conv_2b(x))
        x = max_pool(x, (1, 3, 3), (1, 2, 2))  # (B, 192, T/2, H/8, W/8)
        x = self._through(MIXED_3, x)
        x = max_pool(x, (3, 3, 3), (2, 2, 2))
        x = self._through(MIXED_4, x)
        x = max_pool(x, (2, 2, 2), (2, 2, 2))
        x = self._through(MIXED_5, x)  # (B, 1024, T/8, H/32, W/32)
        steps = x.mean(dim=(3, 4))
        features = ((steps[:, :, 1:] + steps[:, :, :-1]) / 2).mean(dim=2)  # (B, 1024)
        return features, self.classes(features)

    def _through(self, blocks: Mapping[str, Widths], x: Tensor) -> Tensor:
        for name in blocks:
            x = self.mixed[name](x)
        return x

    def published_units(self) -> Iterator[tuple[str, Unit]]:
        """Each convolution that has a batch norm, with its published name."""
        yield from (("Conv3d_1a_7x7", self.conv_1a), ("Conv3d_2b_1x1", self.conv_2b), ("Conv3d_2c_3x3", self.conv_2c))
        for name, block in self.mixed.items():
            assert isinstance(block, Mixed)
            yield from ((f"{name}|{unit_name}", unit) for unit_name, unit in block.published_units().items())


@torch.no_grad()
def i3d_from_arrays(arrays: Mapping[str, np.ndarray]) -> I3D:
    """The network with published weights, ready for inference.

    `arrays`: `params|<layer>|...` and `batch_stats|<layer>|...`, kernels (t, h, w, in, out).
    Raises WeightsError naming the array that is missing or of another shape.
    """
    net = I3D()
    for name, unit in net.published_units():
        outputs = unit.bias.numel()
        kernel = _array(arrays, f"params|{name}|Conv_0|kernel", (*unit.kernel, unit.weight.shape[1], outputs))
        beta = _array(arrays, f"params|{name}|BatchNorm_0|bias", (outputs,))
        mean = _array(arrays, f"batch_stats|{name}|BatchNorm_0|mean", (1, 1, 1, 1, outputs)).ravel()
        var = _array(arrays, f"batch_stats|{name}|BatchNorm_0|var", (1, 1, 1, 1, outputs)).ravel()
        scale = 1.0 / np.sqrt(var + BATCH_NORM_EPSILON)
        unit.weight.copy_(torch.from_numpy((kernel * scale).transpose(4, 3, 0, 1, 2)))
        unit.bias.copy_(torch.from_numpy(beta - mean * scale))
    layer = "params|Logits/Conv3d_0c_1x1|Conv_0"
    net.classes.weight.copy_(torch.from_numpy(_array(arrays, f"{layer}|kernel", (1, 1, 1, DIM, CLASSES))[0, 0, 0].T))
    net.classes.bias.copy_(torch.from_numpy(_array(arrays, f"{layer}|bias", (CLASSES,))))
    return net.eval()


def _array(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in arrays:
        raise WeightsError(f"i3d weights lack the array {name!r}; run 'oddwatch weights install i3d'")
    if arrays[name].shape != shape:
        raise WeightsError(f"i3d weights: {name!r} must be {shape}, got {arrays[name].shape}")
    # Folding in float64 keeps the folded network as close to the published one as float32 allows.
    return arrays[name].astype(np.float64)
