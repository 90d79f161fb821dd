"""A convolutional transformer that predicts the next frame. Every frame of a stream is encoded once.

Our own design, after the idea of CT-D2GAN (Feng, Song, Chen, Chen, Cheng, Ni, "Convolutional transformer based dual
discriminator generative adversarial networks for video anomaly detection", ACM MM 2021): attention over time between
feature maps that are compared by their means, an image and a video discriminator. No code of it is public and sizes,
losses and schedule here are ours, so its table is not claimed. Its authors hold US 11,538,143 B2 on such networks:
check before commercial use; the U-Net of `future_frame` is the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.temporal.future_frame.unet import double_conv, init_normal


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTransformerConfig:
    """Sizes of the generator."""

    t_in: int = 4
    """Frames it predicts the next one from."""
    channels: int = 3
    widths: tuple[int, ...] = (16, 32, 64, 128)
    """Channels of each level; every level halves the size of the one before."""
    attended: int = 2
    """How many of the coarsest levels look at earlier frames."""
    heads: int = 4
    head_width: int = 8
    """Channels of a head's map."""
    position_width: int = 4
    """Numbers that say how old a frame is."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives a list
        if self.t_in < 2 or self.channels < 1 or len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"need t_in of 2 or more, channels and at least two widths of 1 or more, got {self}")
        if not 1 <= self.attended <= len(self.widths) or min(self.heads, self.head_width) < 1:
            raise ValueError(f"need attended within 1..{len(self.widths)} and heads of 1 or more, got {self}")
        if self.position_width < 2 or self.position_width % 2:
            raise ValueError(f"position_width must be even and at least 2, got {self.position_width}")

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return 2 ** (len(self.widths) - 1)


class TemporalAttention(nn.Module):
    """Mixes into the newest frame's map what earlier frames show, each head weighting whole frames.

    A head's values are a 1 x 1 convolution of the frame's map; their mean over the picture and a code of the frame's
    age are projected to a query (newest frame) and keys (earlier ones); softmax of their cosines weights the values.
    """

    def __init__(self, width: int, config: ConvTransformerConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.heads, config.head_width
        described = config.head_width + config.position_width
        self.query = nn.Parameter(torch.randn(config.heads, described, config.head_width) * described**-0.5)
        self.key = nn.Parameter(torch.randn(config.heads, described, config.head_width) * described**-0.5)
        self.log_scale = nn.Parameter(torch.full((config.heads,), 1.0))
        self.mix = nn.Conv2d(width + config.heads * config.head_width, width, 1)
        self.ages: Tensor
        self.register_buffer("ages", age_codes(config.t_in, config.position_width), persistent=False)

    def forward(self, newest: Tensor, values: Tensor) -> Tensor:
        """The newest frame's map (B, width, h, w), values (B, t_in, heads * d, h, w) -> (B, width, h, w)."""
        b, t, _, h, w = values.shape
        maps = values.reshape(b, t, self.heads, self.head_width, h, w)
        weights = self.weights(maps.mean((4, 5)))
        seen = torch.einsum("bth,bthdyx->bhdyx", weights, maps[:, :-1])
        return self.mix(torch.cat([newest, seen.flatten(1, 2)], 1))

    def weights(self, means: Tensor) -> Tensor:
        """Means of the heads' maps (B, t_in, heads, d) -> weights of the earlier frames (B, t_in - 1, heads)."""
        ages = self.ages[:, None].expand(*means.shape[:3], -1)  # (t_in, 1, p) -> (B, t_in, heads, p)
        described = torch.cat([means, ages], 3)
        query = F.normalize(torch.einsum("bhe,hed->bhd", described[:, -1], self.query), dim=2)
        keys = F.normalize(torch.einsum("bthe,hed->bthd", described[:, :-1], self.key), dim=3)
        likeness = torch.einsum("bhd,bthd->bth", query, keys)
        return torch.softmax(likeness * self.log_scale.exp(), 1)


def age_codes(frames: int, width: int) -> Tensor:
    """Sines and cosines of each frame's age, oldest first: (frames, width)."""
    ages = torch.arange(frames - 1, -1, -1.0)[:, None]
    rates = 2.0 ** -torch.arange(width // 2)
    return torch.cat([torch.sin(ages * rates), torch.cos(ages * rates)], 1)


class ConvTransformer(nn.Module):
    """The frames before, (B, t_in * C, H, W) oldest first -> the next frame (B, C, H, W)."""

    def __init__(self, config: ConvTransformerConfig) -> None:
        super().__init__()
        self.config = config
        widths, rising = config.widths, config.widths[::-1]
        self.encoder = nn.ModuleList(
            double_conv(i, o) for i, o in zip((config.channels, *widths[:-1]), widths, strict=True)
        )
        attended = widths[-config.attended :]
        self.value = nn.ModuleList(nn.Conv2d(w, config.heads * config.head_width, 1) for w in attended)
        self.attention = nn.ModuleList(TemporalAttention(w, config) for w in attended)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairwise(rising))
        self.merge = nn.ModuleList(double_conv(2 * w, w) for w in rising[1:])
        self.out = nn.Conv2d(widths[0], config.channels, 3, padding=1)
        self.apply(init_normal)

    def forward(self, x: Tensor) -> Tensor:
        t_in = self.config.t_in
        maps, values = self.encode(x.reshape(-1, self.config.channels, *x.shape[2:]))  # of B * t_in frames
        windows = [level.reshape(-1, t_in, *level.shape[1:]) for level in values]
        return self.decode([level[t_in - 1 :: t_in] for level in maps], windows)

    def encode(self, frames: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Frames (N, C, H, W), each on its own -> maps of all levels, and values of the attended ones (N, ...)."""
        maps = []
        for level, block in enumerate(self.encoder):
            frames = block(frames if level == 0 else F.max_pool2d(frames, 2))  # (N, width, H / 2^level, W / 2^level)
            maps.append(frames)
        attended = maps[-self.config.attended :]
        return maps, [value(level) for value, level in zip(self.value, attended, strict=True)]

    def decode(self, maps: list[Tensor], values: list[Tensor]) -> Tensor:
        """Maps of the newest frames (B, ...), values of them and those before (B, t_in, ...) -> next frames."""
        plain = len(maps) - self.config.attended
        attended = [a(level, v) for a, level, v in zip(self.attention, maps[plain:], values, strict=True)]
        skips = [*maps[:plain], *attended]
        x = skips[-1]
        for grow, merge, skip in zip(self.grow, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, grow(x)], 1))
        return torch.tanh(self.out(x))


class VideoDiscriminator(nn.Module):
    """Frames in order (B, C, T, H, W) -> for each patch, how real its motion looks in [0, 1], (B, 1, t, h, w)."""

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (64, 128, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in zip((channels, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv3d(i, o, (3, 4, 4), (1, 2, 2), padding=(1, 1, 1)), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, nn.Conv3d(widths[-1], 1, (3, 4, 4), padding=(1, 2, 2)))
        self.apply(init_normal)

    def forward(self, frames: Tensor) -> Tensor:
        return torch.sigmoid(self.net(frames))
