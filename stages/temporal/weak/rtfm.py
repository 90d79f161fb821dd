"""RTFM: snippets are scored by a multi-scale temporal network, trained by the feature magnitude of a bag's top three.

Source: Tian et al., "Weakly-supervised video anomaly detection with robust temporal feature magnitude learning",
ICCV 2021; where the paper and its published code differ, the code. Parameter names are the published ones.

The published network sees the whole video. Two forms of it can stream:

paper      whole video; offline only
lookahead  the same weights on a window of snippets that ends `LOOKAHEAD` after the one being scored
causal     left-padded convolutions, attention over the last `window` snippets; has to be trained so
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.temporal.weak.kinds import LOOKAHEAD

WIDTH = 512
INNER = WIDTH // 2
DILATIONS = (1, 2, 4)
REACH = 2 * max(DILATIONS)
"""Earlier snippets that the widest causal convolution sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RTFMConfig:
    """Sizes, form, and the weights of the loss."""

    input_dim: int = 2048
    """D of the features (2048: I3D ResNet-50, as published)."""
    mode: Literal["paper", "lookahead", "causal"] = "lookahead"
    window: int = 32
    """Snippets that a streaming form sees, the scored one and its look-ahead included."""
    dropout: float = 0.7
    top_k: int = 3
    """Snippets of largest magnitude that stand for their video."""
    margin: float = 100.0
    """Feature magnitude that abnormal videos are drawn to; normal ones are drawn to 0."""
    magnitude: float = 1e-4
    sparsity: float = 8e-3
    smoothness: float = 8e-4
    smooth_across_videos: bool = True
    """As published, the last score of a video is also compared with the first one of the next in the batch."""

    def __post_init__(self) -> None:
        if self.mode not in ("paper", "lookahead", "causal"):
            raise ValueError(f"mode must be paper, lookahead or causal, got {self.mode!r}")
        least = 1 if self.mode == "causal" else 2 * LOOKAHEAD + 1
        if self.window < least:
            raise ValueError(f"window must be at least {least} snippets in mode {self.mode}, got {self.window}")
        if self.input_dim < 1 or self.top_k < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"need input_dim >= 1, top_k >= 1 and 0 <= dropout < 1, "
                f"got {self.input_dim}, {self.top_k} and {self.dropout}"
            )

    @property
    def causal_window(self) -> int | None:
        return self.window if self.mode == "causal" else None


class StreamCache(NamedTuple):
    """What the causal form keeps of B streams: the newest inputs of each part. Its size does not grow."""

    inputs: Tensor
    """(B, D, REACH): features."""
    phi: Tensor
    """(B, INNER, window - 1): keys of the attention."""
    g: Tensor
    """(B, INNER, window - 1): values of the attention."""
    mixed: Tensor
    """(B, 4 * WIDTH, 2): inputs of the last convolution."""
    seen: Tensor
    """int64 (B,): snippets remembered, at most window - 1."""


class NonLocal(nn.Module):
    """Every snippet takes from those it sees, by similarity divided by their number: no softmax."""

    def __init__(self, window: int | None) -> None:
        super().__init__()
        self.window = window
        self.g = nn.Conv1d(WIDTH, INNER, 1)
        self.theta = nn.Conv1d(WIDTH, INNER, 1)
        self.phi = nn.Conv1d(WIDTH, INNER, 1)
        self.W = nn.Sequential(nn.Conv1d(INNER, WIDTH, 1), nn.BatchNorm1d(WIDTH))

    def forward(self, x: Tensor) -> Tensor:  # (B, WIDTH, T) -> same
        weights = self.theta(x).transpose(1, 2) @ self.phi(x)  # (B, T, T)
        if self.window is None:
            weights = weights / x.shape[2]
        else:
            ones = torch.ones(x.shape[2], x.shape[2], dtype=x.dtype, device=x.device)
            sees = ones.tril().triu(1 - self.window)  # (T, T): row t sees t - window + 1 .. t
            weights = weights * (sees / sees.sum(1, keepdim=True))
        return x + self.W(self.g(x) @ weights.transpose(1, 2))

    def step(self, x: Tensor, phi: Tensor, g: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The newest column of `forward`: x (B, WIDTH, 1) -> the same, and phi and g moved on by one.

        Columns not yet seen are zero and so weigh nothing.
        """
        phi = torch.cat([phi, self.phi(x)], 2)  # (B, INNER, window)
        g = torch.cat([g, self.g(x)], 2)  # (B, INNER, window)
        weights = self.theta(x).transpose(1, 2) @ phi / (seen + 1)[:, None, None]  # (B, 1, window)
        return x + self.W(g @ weights.transpose(1, 2)), phi[:, :, 1:], g[:, :, 1:]


class Aggregate(nn.Module):
    """The multi-scale temporal network: three dilated convolutions and a non-local block, fused, plus the input."""

    def __init__(self, dim: int, window: int | None) -> None:
        super().__init__()
        self.causal = window is not None
        d1, d2, d4 = DILATIONS
        self.conv_1 = nn.Sequential(nn.Conv1d(dim, WIDTH, 3, dilation=d1), nn.ReLU(), nn.BatchNorm1d(WIDTH))
        self.conv_2 = nn.Sequential(nn.Conv1d(dim, WIDTH, 3, dilation=d2), nn.ReLU(), nn.BatchNorm1d(WIDTH))
        self.conv_3 = nn.Sequential(nn.Conv1d(dim, WIDTH, 3, dilation=d4), nn.ReLU(), nn.BatchNorm1d(WIDTH))
        self.conv_4 = nn.Sequential(nn.Conv1d(dim, WIDTH, 1, bias=False), nn.ReLU())
        self.conv_5 = nn.Sequential(nn.Conv1d(4 * WIDTH, dim, 3, bias=False), nn.ReLU(), nn.BatchNorm1d(dim))
        self.non_local = NonLocal(window)

    def _pad(self, x: Tensor, dilation: int) -> Tensor:
        return F.pad(x, (2 * dilation, 0) if self.causal else (dilation, dilation))

    def forward(self, x: Tensor) -> Tensor:  # (B, D, T) -> same
        local = [
            conv(self._pad(x, dilation))  # (B, WIDTH, T)
            for conv, dilation in zip((self.conv_1, self.conv_2, self.conv_3), DILATIONS, strict=True)
        ]
        mixed = torch.cat([*local, self.non_local(self.conv_4(x))], 1)  # (B, 4 WIDTH, T)
        return x + self.conv_5(self._pad(mixed, 1))

    def step(self, x: Tensor, memory: StreamCache) -> tuple[Tensor, StreamCache]:
        """The newest column of the causal `forward`, and the memory moved on by one: x (B, D, 1) -> the same."""
        inputs = torch.cat([memory.inputs, x], 2)  # (B, D, REACH + 1)
        local = [
            conv(inputs[:, :, -2 * dilation - 1 :])  # (B, WIDTH, 1)
            for conv, dilation in zip((self.conv_1, self.conv_2, self.conv_3), DILATIONS, strict=True)
        ]
        context, phi, g = self.non_local.step(self.conv_4(x), memory.phi, memory.g, memory.seen)
        mixed = torch.cat([memory.mixed, torch.cat([*local, context], 1)], 2)  # (B, 4 WIDTH, 3)
        seen = (memory.seen + 1).clamp(max=memory.phi.shape[2])
        return x + self.conv_5(mixed), StreamCache(inputs[:, :, 1:], phi, g, mixed[:, :, 1:], seen)


class Masks(NamedTuple):
    """Kept values (True) of the three dropouts of B videos of C crops, to repeat a training step exactly."""

    features: Tensor
    """(B * C, T, D)."""
    fc1: Tensor
    """(B * C, T, 512)."""
    fc2: Tensor
    """(B * C, T, 128)."""


class Output(NamedTuple):
    """What the network says of B videos of C crops and T snippets."""

    scores: Tensor
    """(B, T) in [0, 1]: mean over crops."""
    magnitudes: Tensor
    """(B, T): L2 norm of `embedded`, mean over crops."""
    embedded: Tensor
    """(B, C, T, D)."""

    def videos(self, which: slice) -> Output:
        """Some of the videos."""
        return Output(self.scores[which], self.magnitudes[which], self.embedded[which])


class RTFM(nn.Module):
    """Aggregate, then a score for every snippet of every crop."""

    def __init__(self, config: RTFMConfig) -> None:
        super().__init__()
        self.config = config
        self.Aggregate = Aggregate(config.input_dim, config.causal_window)
        self.fc1 = nn.Linear(config.input_dim, 512)
        self.fc2 = nn.Linear(512, 128)
        self.fc3 = nn.Linear(128, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for parameter in self.Aggregate.non_local.W[1].parameters():
            nn.init.zeros_(parameter)  # the block starts as the identity

    def _drop(self, x: Tensor, mask: Tensor | None) -> Tensor:
        p = self.config.dropout
        return F.dropout(x, p, self.training) if mask is None else x * mask / (1 - p)

    def _head(self, x: Tensor, masks: Masks | None = None) -> Tensor:  # (B, T, D) -> (B, T)
        h = self._drop(F.relu(self.fc1(x)), masks and masks.fc1)  # (B, T, 512)
        h = self._drop(F.relu(self.fc2(h)), masks and masks.fc2)  # (B, T, 128)
        return torch.sigmoid(self.fc3(h)).squeeze(2)

    def forward(self, x: Tensor, masks: Masks | None = None) -> Output:
        """x (B, C, T, D): videos, crops, snippets, features. Any T >= 1; its attention takes memory for T x T."""
        b, c, t, d = x.shape
        embedded = self.Aggregate(x.reshape(b * c, t, d).transpose(1, 2)).transpose(1, 2)  # (B C, T, D)
        embedded = self._drop(embedded, masks and masks.features)
        scores = self._head(embedded, masks).view(b, c, t).mean(1)
        return Output(scores, embedded.norm(dim=2).view(b, c, t).mean(1), embedded.view(b, c, t, d))

    def fresh(self, streams: int) -> StreamCache:
        """The memory of that many streams that have seen nothing."""
        window, like = self.config.window, self.fc1.weight
        return StreamCache(
            like.new_zeros(streams, self.config.input_dim, REACH),
            like.new_zeros(streams, INNER, window - 1),
            like.new_zeros(streams, INNER, window - 1),
            like.new_zeros(streams, 4 * WIDTH, 2),
            torch.zeros(streams, dtype=torch.int64, device=like.device),
        )

    def step(self, x: Tensor, memory: StreamCache) -> tuple[Tensor, StreamCache]:
        """One snippet of B streams (B, D) -> its scores (B,), and the memory. For `causal`, in eval mode."""
        embedded, memory = self.Aggregate.step(x.unsqueeze(2), memory)
        return self._head(embedded.transpose(1, 2)).squeeze(1), memory


class Bag(NamedTuple):
    """What stands for each of B videos in the loss."""

    score: Tensor
    """(B,): mean score of the chosen snippets."""
    features: Tensor
    """(C * B, k, D): their embedded features, crop by crop."""
    snippets: Tensor
    """int64 (B, k): which ones, largest magnitude first."""


def draw_keep(output: Output, config: RTFMConfig) -> Tensor:
    """A random mask (B, T) for `choose` in training, so that not always the same snippets are chosen."""
    return torch.rand_like(output.magnitudes) >= config.dropout


def choose(output: Output, k: int, keep: Tensor | None = None) -> Bag:
    """The `k` snippets of largest magnitude of each video (all of them where it has fewer), shared by its crops."""
    magnitudes = output.magnitudes if keep is None else output.magnitudes * keep
    b, c, t, d = output.embedded.shape
    k = min(k, t)
    snippets = magnitudes.topk(k, dim=1).indices  # (B, k)
    index = snippets[None, :, :, None].expand(c, b, k, d)
    features = output.embedded.transpose(0, 1).gather(2, index).reshape(c * b, k, d)
    return Bag(output.scores.gather(1, snippets).mean(1), features, snippets)


class RTFMLoss(NamedTuple):
    """The terms, weighted, and their sum."""

    total: Tensor
    bce: Tensor
    magnitude: Tensor
    sparsity: Tensor
    smoothness: Tensor


def rtfm_loss(normal: Bag, abnormal: Bag, abnormal_scores: Tensor, config: RTFMConfig | None = None) -> RTFMLoss:
    """Bags of B normal and B abnormal videos, and all scores (B, T) of the abnormal ones -> the loss as published.

    The i-th normal video is paired with the i-th abnormal one in the magnitude term, a squared two-sided distance
    (the paper's text has a hinge). Sparsity is an L2 norm over the batch (the text: L1).
    """
    config = config or RTFMConfig()
    target = torch.cat([torch.zeros_like(normal.score), torch.ones_like(abnormal.score)])
    bce = F.binary_cross_entropy(torch.cat([normal.score, abnormal.score]), target)
    short = (config.margin - abnormal.features.mean(1).norm(dim=1)).abs()  # (C B,)
    magnitude = config.magnitude * (short + normal.features.mean(1).norm(dim=1)).square().mean()
    sparsity = config.sparsity * abnormal_scores.norm()
    joined = abnormal_scores.reshape(1, -1) if config.smooth_across_videos else abnormal_scores
    smoothness = config.smoothness * joined.diff(dim=1).square().sum()
    return RTFMLoss(bce + magnitude + sparsity + smoothness, bce, magnitude, sparsity, smoothness)


@torch.inference_mode()
def score_video(net: RTFM, x: Tensor) -> Tensor:
    """Scores (T,) of a whole video x (C, T, D) at once, in the network's form: what streaming must give as well."""
    if net.config.mode != "lookahead":
        return net(x.unsqueeze(0)).scores[0]
    last = x.shape[1] - 1
    scores = []
    for t in range(last + 1):
        end = min(t + LOOKAHEAD, last)
        start = max(0, end + 1 - net.config.window)
        scores.append(net(x[None, :, start : end + 1]).scores[0, t - start])
    return torch.stack(scores)
