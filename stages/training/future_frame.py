"""Trains a future-frame predictor on normal footage: clips in, checkpoint out.

Resumable at any step; on a CPU with a fixed number of threads the same seed gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import CheckpointError, OddwatchError
from pipeline.messages import REFERENCE_LEVELS
from stages.checkpoint import Checkpoint
from stages.temporal.conv_transformer import ConvTransformer, ConvTransformerConfig, VideoDiscriminator
from stages.temporal.frame_format import to_unit
from stages.temporal.future_frame import (
    LossWeights,
    PatchDiscriminator,
    UNet,
    UNetConfig,
    adversarial_loss,
    discriminator_loss,
    displacement,
    generator_loss,
)
from stages.temporal.future_frame_stream import future_frame_checkpoint, make_predictor
from stages.training.future_frame_settings import TrainSettings, describe

PROGRESS = "future_frame_progress"
"""Kind of the checkpoint that a training is resumed from."""
HELD_OUT = 8
"""One clip of so many is not trained on and gives the reference; of fewer clips, the end of each."""


class Critic(NamedTuple):
    """A discriminator and its optimiser."""

    net: nn.Module
    optimiser: torch.optim.Adam
    sees_past: bool
    """It judges the frames before together with the new one."""

    def judge(self, past: Tensor, frame: Tensor) -> Tensor:
        """Past (B, t_in, C, H, W), frame (B, C, H, W) -> patches in [0, 1]."""
        if self.sees_past:
            return self.net(torch.cat([past, frame[:, None]], 1).transpose(1, 2))
        return self.net(frame)


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
) -> StepLosses:
    """The discriminators' step, then the generator's. Past (B, t_in, C, H, W), real (B, C, H, W), all in [-1, 1]."""
    predicted = generator(past.flatten(1, 2))
    judged_wrong = 0.0
    for critic in critics:
        loss = discriminator_loss(critic.judge(past, real), critic.judge(past, predicted.detach()))
        critic.optimiser.zero_grad()
        torch.autograd.backward(loss)
        critic.optimiser.step()
        judged_wrong += loss.item()
    for critic in critics:
        critic.net.requires_grad_(False)
    judged = [critic.judge(past, predicted) for critic in critics] or [real.new_ones(1)]
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


class Training:
    """A training under way; `step` is its single turn."""

    def __init__(self, clips: Sequence[np.ndarray], settings: TrainSettings, seed: int, device: str = "cpu") -> None:
        """Clips: uint8 (T, C, height, width) in the settings' format. Raises OddwatchError for too little footage."""
        expected = (settings.form.channels, settings.form.height, settings.form.width)
        for clip in clips:
            if clip.dtype != np.uint8 or clip.shape[1:] != expected:
                raise ValueError(f"clips must be uint8 (T, {', '.join(map(str, expected))}), got {clip.shape}")
        self.settings, self.seed, self.steps = settings, seed, 0
        self._device = device
        self._clips, self._held_out = hold_out(clips, settings.network.t_in + 1)
        self._data = fingerprint(clips)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.generator = make_network(settings.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.optimiser = torch.optim.Adam(self.generator.parameters(), settings.rate)
            self.critics = make_critics(settings, device)

    def step(self, done: float) -> StepLosses:
        """One step on the next random batch; `done` in [0, 1] is the part of the training before it."""
        settings = self.settings
        shrink = 0.1 if done >= settings.decay_from else 1.0
        set_rate(self.optimiser, settings.rate * shrink)
        for critic in self.critics:
            set_rate(critic.optimiser, settings.critic_rate * shrink)
        windows = self._batch().to(self._device)  # (B, t_in + 1, C, H, W)
        self.generator.train()
        self.steps += 1
        return train_step(
            self.generator, self.optimiser, self.critics, windows[:, :-1], windows[:, -1], settings.weights
        )

    def _batch(self) -> Tensor:
        """Clips in turn as published, so short ones come as often as long ones; a random place in each."""
        rng, length = np.random.default_rng([self.seed, self.steps]), self.settings.network.t_in + 1
        windows = []
        for i in range(self.steps * self.settings.batch, (self.steps + 1) * self.settings.batch):
            clip = self._clips[i % len(self._clips)]
            start = rng.integers(len(clip) - length + 1)
            windows.append(clip[start : start + length])
        return to_unit(np.stack(windows))

    def result(self) -> Checkpoint:
        """The predictor as it is now, with the quantiles of its scores on the footage held out."""
        settings = self.settings
        predictor = make_predictor(self.generator, settings.patch_px, self._device)
        scores = np.concatenate([-predictor.advance(clip, {})[0] for clip in self._held_out])
        reference = np.quantile(scores[~np.isnan(scores)], REFERENCE_LEVELS)
        training = {
            "seed": self.seed,
            "steps": self.steps,
            "data": self._data,
            "settings": describe(settings),
        }
        return future_frame_checkpoint(
            self.generator, settings.form, reference=reference, training=training,
            patch_px=settings.patch_px, decode=settings.decode,
        )  # fmt: skip

    def progress(self) -> Checkpoint:
        """Everything needed to go on later."""
        arrays: dict[str, np.ndarray] = {}
        for name, part in self._parts().items():
            if isinstance(part, nn.Module):
                arrays |= {f"{name}/{key}": to_numpy(value) for key, value in part.state_dict().items()}
            else:
                for i, moments in part.state_dict()["state"].items():
                    arrays |= {f"{name}/{i}/{key}": to_numpy(value) for key, value in moments.items()}
        meta = {"seed": self.seed, "steps": self.steps, "data": self._data, "settings": describe(self.settings)}
        return Checkpoint(kind=PROGRESS, meta=meta, arrays=arrays)

    def resume(self, progress: Checkpoint) -> None:
        """Go on from there. Raises CheckpointError when it was another training."""
        meta = progress.meta
        if progress.kind != PROGRESS:
            raise CheckpointError(f"cannot resume from a {progress.kind!r} checkpoint; it is finished: start anew")
        for what, mine in (("seed", self.seed), ("data", self._data), ("settings", describe(self.settings))):
            if meta[what] != mine:
                raise CheckpointError(
                    f"cannot resume: the saved training had other {what}; use the same again, or start anew "
                    "with another --out"
                )
        self.steps = meta["steps"]
        for name, part in self._parts().items():
            mine = {
                k.removeprefix(f"{name}/"): torch.from_numpy(a.copy())
                for k, a in progress.arrays.items()
                if k.startswith(f"{name}/")
            }
            if isinstance(part, nn.Module):
                part.load_state_dict(mine)
                continue
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in mine.items():
                index, _, moment = key.partition("/")
                state.setdefault(int(index), {})[moment] = value
            part.load_state_dict(part.state_dict() | {"state": state})

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        parts: dict[str, nn.Module | torch.optim.Optimizer] = {"generator": self.generator, "optimiser": self.optimiser}
        for i, critic in enumerate(self.critics):
            parts |= {f"critic{i}": critic.net, f"critic{i}_optimiser": critic.optimiser}
        return parts


def train(
    clips: Sequence[np.ndarray],
    settings: TrainSettings,
    *,
    seed: int,
    done: Callable[[int], float],
    resume: Checkpoint | None = None,
    each: Callable[[Training, StepLosses], None] | None = None,
    device: str = "cpu",
) -> Checkpoint:
    """Train to the end: a `future_frame` checkpoint.

    `done` says, after so many steps, which part of the training is over (`lambda n: n / 20_000`, or by the clock);
    it ends at 1. `each` is called after every step, for display and to save `training.progress()` for `resume`.
    Raises OddwatchError for too little footage, CheckpointError for another training's `resume`.
    """
    training = Training(clips, settings, seed, device)
    if resume is not None:
        training.resume(resume)
    while (part := done(training.steps)) < 1:
        losses = training.step(part)
        if each is not None:
            each(training, losses)
    return training.result()


def hold_out(clips: Sequence[np.ndarray], least: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Clips to train on, and footage that is only scored. `least`: frames below which a piece is of no use.

    Raises OddwatchError when nothing is left to train on or to score.
    """
    if len(clips) >= HELD_OUT:
        trained = [clip for i, clip in enumerate(clips) if i % HELD_OUT != HELD_OUT - 1]
        held = list(clips[HELD_OUT - 1 :: HELD_OUT])
    else:
        cuts = [len(clip) - max(least, len(clip) // HELD_OUT) for clip in clips]
        trained = [clip[: max(cut, 0)] for clip, cut in zip(clips, cuts, strict=True)]
        held = [clip[max(cut, 0) :] for clip, cut in zip(clips, cuts, strict=True)]
    trained, held = ([clip for clip in part if len(clip) >= least] for part in (trained, held))
    if not trained or not held:
        raise OddwatchError(
            f"too little normal footage to learn from: {sum(map(len, clips))} frames in {len(clips)} clips, need "
            f"clips of {2 * least} frames and more; give more or longer files"
        )
    return trained, held


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


def fingerprint(clips: Sequence[np.ndarray]) -> str:
    """SHA-256 of the frames."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(clip.tobytes())
        digest.update(str(clip.shape).encode())
    return digest.hexdigest()


def to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
