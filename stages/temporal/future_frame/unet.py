"""Future-frame prediction: a U-Net predicts the next frame; where it fails, something odd happens.

Source: Liu, Luo, Lian, Gao, "Future frame prediction for anomaly detection: a new baseline", CVPR 2018, in the form
of its PyTorch port (batch normalisation, zero padding in the discriminator). Images are float32 in [-1, 1].
The published flow term needs a frozen flow network; ours does not (`displacement`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LK_WINDOW = 7
LK_DAMPING = 1e-3
"""Added to the structure tensor, images in [0, 1]: where there is no texture, no displacement is seen."""
LEAST_ERROR = 1e-10
"""Mean squared error at which PSNR stops: 100 dB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """Sizes of the generator. The defaults are the published ones, made for 256 x 256."""

    t_in: int = 4
    """Frames it predicts the next one from."""
    channels: int = 3
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of each level; every level halves the size of the one before."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives a list
        if self.t_in < 1 or self.channels < 1 or len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"need t_in, channels and at least two widths of 1 or more, got {self}")

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return 2 ** (len(self.widths) - 1)


class UNet(nn.Module):
    """The frames before, (B, t_in * C, H, W) oldest first -> the next frame (B, C, H, W)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, rising = config.widths, config.widths[::-1]
        first = config.t_in * config.channels
        self.encode = nn.ModuleList(double_conv(i, o) for i, o in zip((first, *widths[:-1]), widths, strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairwise(rising))
        self.merge = nn.ModuleList(double_conv(2 * w, w) for w in rising[1:])
        self.out = nn.Conv2d(widths[0], config.channels, 3, padding=1)
        self.apply(init_normal)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.encode):
            x = block(x if level == 0 else F.max_pool2d(x, 2))  # (B, width, H / 2^level, W / 2^level)
            skips.append(x)
        for grow, merge, skip in zip(self.grow, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, grow(x)], 1))
        return torch.tanh(self.out(x))


def double_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Twice a 3 x 3 convolution, batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for i in (inputs, outputs):
        layers += [nn.Conv2d(i, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def init_normal(layer: nn.Module) -> None:
    """Kernels from N(0, 0.02), biases zero; for `Module.apply`."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d):
        nn.init.normal_(layer.weight, 0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class PatchDiscriminator(nn.Module):
    """Images (B, C, H, W) -> for each patch, how real it looks in [0, 1], (B, 1, h, w)."""

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (128, 256, 512, 512)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in zip((channels, *widths[:-1]), widths, strict=True):
            stride = 1 if len(layers) == 2 * (len(widths) - 1) else 2
            layers += [nn.Conv2d(i, o, 4, stride, padding=2), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=2))
        self.apply(init_normal)

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.net(images))


def intensity_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean squared difference."""
    return (predicted - real).square().mean()


def gradient_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean difference of the sizes of image gradients: forward differences, the picture continued by zeros."""
    terms = []
    for pad, dim in (((0, 1, 0, 0), 3), ((0, 0, 0, 1), 2)):
        steps = [F.pad(image, pad).diff(dim=dim).abs() for image in (predicted, real)]
        terms.append((steps[0] - steps[1]).abs())
    return (terms[0] + terms[1]).mean()


def flow_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of two flows (B, 2, H, W)."""
    return (predicted - real).abs().mean()


def displacement(predicted: Tensor, real: Tensor) -> Tensor:
    """How far structures of `predicted` lie from where they are in `real`: (B, 2, H, W) in px, [x, y].

    Stands for the published flow(predicted, last) - flow(real, last), which it equals to first order: one step of
    Lucas and Kanade around the real frame, differentiable, without weights. (OpenCV's DIS flow has no gradient;
    the published FlowNet is another 40 M parameters under a licence of its own.)
    """
    still = real.mean(1, keepdim=True) / 2
    change = predicted.mean(1, keepdim=True) / 2 - still  # (B, 1, H, W)
    padded = F.pad(still, (1, 1, 1, 1), mode="replicate")
    gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    products = torch.cat([gx * gx, gx * gy, gy * gy, gx * change, gy * change], 1)
    xx, xy, yy, xt, yt = F.avg_pool2d(products, LK_WINDOW, 1, LK_WINDOW // 2).unbind(1)
    xx, yy = xx + LK_DAMPING, yy + LK_DAMPING
    scale = 1 / (xx * yy - xy * xy)
    return torch.stack([(xy * yt - yy * xt) * scale, (xy * xt - xx * yt) * scale], 1)


def adversarial_loss(judged: Tensor) -> Tensor:
    """Of the generator: the discriminator's view of predicted frames should be 1."""
    return ((judged - 1).square() / 2).mean()


def discriminator_loss(judged_real: Tensor, judged_predicted: Tensor) -> Tensor:
    """Least squares: real frames should be 1, predicted ones 0."""
    return ((judged_real - 1).square() / 2).mean() + (judged_predicted.square() / 2).mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Of the generator's terms; the defaults are published for Ped2."""

    intensity: float = 1.0
    gradient: float = 1.0
    flow: float = 2.0
    adversarial: float = 0.05


class GeneratorLoss(NamedTuple):
    """The terms, not weighted, and their weighted sum."""

    total: Tensor
    intensity: Tensor
    gradient: Tensor
    flow: Tensor
    adversarial: Tensor


def generator_loss(
    predicted: Tensor, real: Tensor, flows: tuple[Tensor, Tensor], judged: Tensor, weights: LossWeights
) -> GeneratorLoss:
    """`flows` are those to the predicted and to the real frame, `judged` the discriminator's view of `predicted`."""
    intensity, gradient = intensity_loss(predicted, real), gradient_loss(predicted, real)
    flow, adversarial = flow_loss(*flows), adversarial_loss(judged)
    total = (
        weights.intensity * intensity
        + weights.gradient * gradient
        + weights.flow * flow
        + weights.adversarial * adversarial
    )
    return GeneratorLoss(total, intensity, gradient, flow, adversarial)


def psnr(predicted: Tensor, real: Tensor, patch_px: int = 0) -> Tensor:
    """Peak signal-to-noise ratio in dB of each frame, (B, C, H, W) x 2 -> (B,), images taken to [0, 1].

    With `patch_px`, that of the worst square of that size (a quarter of it apart): a small odd thing is not lost in a
    large picture.
    """
    error = ((predicted - real) / 2).square().mean(1, keepdim=True)  # (B, 1, H, W)
    if patch_px:
        error = F.avg_pool2d(error, patch_px, max(1, patch_px // 4))
        return -10 * torch.log10(error.flatten(1).amax(1).clamp_min(LEAST_ERROR))
    return -10 * torch.log10(error.flatten(1).mean(1).clamp_min(LEAST_ERROR))
