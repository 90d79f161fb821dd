"""One step of adversarial training of a future-frame predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stages.temporal.future_frame.conv_transformer import ConvTransformer, ConvTransformerConfig, VideoDiscriminator
from stages.temporal.future_frame.unet import (
    LossWeights,
    PatchDiscriminator,
    UNet,
    UNetConfig,
    adversarial_loss,
    discriminator_loss,
    displacement,
    generator_loss,
)
from stages.training.future_frame.settings import TrainSettings


class Critic(NamedTuple):
    """A discriminator and its optimiser."""

    net: nn.Module
    optimiser: torch.optim.Adam
    sees_past: bool
    """It judges the frames before together with the new one."""

    def realness(self, past: Tensor, frame: Tensor) -> Tensor:
        """Past (B, t_in, C, H, W), frame (B, C, H, W) -> float32 patches in [0, 1]."""
        if self.sees_past:
            frame = torch.cat([past, frame[:, None]], 1).transpose(1, 2)
        judged: Tensor = self.net(frame)
        return judged.float()


class StepLosses(NamedTuple):
    """One step's losses, not weighted; the adversarial ones are sums over the discriminators."""

    total: float
    intensity: float
    gradient: float
    flow: float
    adversarial: float
    discriminator: float


def train_step(
    generator: nn.Module,
    optimiser: torch.optim.Optimizer,
    critics: Sequence[Critic],
    past: Tensor,
    real: Tensor,
    weights: LossWeights,
    *,
    mixed: bool = False,
) -> StepLosses:
    """The discriminators' step, then the generator's. Past (B, t_in, C, H, W), real (B, C, H, W), all in [-1, 1]."""
    half = torch.autocast(real.device.type, torch.bfloat16, enabled=mixed)
    with half:
        predicted = generator(past.flatten(1, 2)).float()
    judged_wrong = 0.0
    for critic in critics:
        with half:
            views = critic.realness(past, real), critic.realness(past, predicted.detach())
        loss = discriminator_loss(*views)
        critic.optimiser.zero_grad()
        torch.autograd.backward(loss)
        critic.optimiser.step()
        judged_wrong += loss.item()
    for critic in critics:
        critic.net.requires_grad_(False)
    with half:
        judged = [critic.realness(past, predicted) for critic in critics] or [real.new_ones(1)]
    moved = displacement(predicted, real)
    terms = generator_loss(predicted, real, (moved, torch.zeros_like(moved)), judged[0], weights)
    others = sum((adversarial_loss(j) for j in judged[1:]), start=real.new_zeros(()))
    total = terms.total + weights.adversarial * others
    optimiser.zero_grad()
    torch.autograd.backward(total)
    optimiser.step()
    for critic in critics:
        critic.net.requires_grad_(True)
    return StepLosses(
        total.item(),
        terms.intensity.item(),
        terms.gradient.item(),
        terms.flow.item(),
        (terms.adversarial + others).item(),
        judged_wrong,
    )


def make_network(config: UNetConfig | ConvTransformerConfig) -> UNet | ConvTransformer:
    """A new generator."""
    return UNet(config) if isinstance(config, UNetConfig) else ConvTransformer(config)


def make_critics(settings: TrainSettings, device: str = "cpu") -> list[Critic]:
    """The discriminators that the network is trained against."""
    if not settings.weights.adversarial:
        return []
    nets: list[tuple[nn.Module, bool]] = [
        (PatchDiscriminator(settings.network.channels, settings.critic_widths), False)
    ]
    if isinstance(settings.network, ConvTransformerConfig):
        nets.append((VideoDiscriminator(settings.network.channels, settings.critic_widths[:3]), True))
    return [
        Critic(net.to(device), torch.optim.Adam(net.parameters(), settings.critic_rate), past) for net, past in nets
    ]


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
