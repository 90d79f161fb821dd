"""The training loop that the weakly supervised models share: draw bags, step, validate, keep the best, go on later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from stages.training.bags import Bags, TrainingVideo

Arrays = dict[str, np.ndarray]
Net = TypeVar("Net", bound=nn.Module)
Report = Callable[[int, float, float | None], None]
"""Told (iteration, loss, held-out ROC-AUC or None)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long and on what bags; what a model itself is set to is in its own configuration."""

    iterations: int
    batch: int
    """Bags of each class in a step."""
    learning_rate: float
    chain: int = 1
    """Videos of one class that make a bag."""
    seed: int = 0
    check_every: int = 50
    """Iterations from one validation, and one note for resuming, to the next."""

    def __post_init__(self) -> None:
        if min(self.iterations, self.batch, self.chain, self.check_every) < 1 or self.seed < 0:
            raise ValueError(f"iterations, batch, chain and check_every must be at least 1, seed not negative: {self}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


class Loss(Protocol):
    """The terms of a loss, weighted, and their sum first."""

    @property
    def total(self) -> Tensor: ...


class Trainable(Protocol):
    """A network in training: what the loop must know of it."""

    @property
    def net(self) -> nn.Module: ...

    @property
    def optimiser(self) -> torch.optim.Optimizer: ...

    @property
    def device(self) -> torch.device: ...

    def pool(self, values: np.ndarray) -> np.ndarray:
        """A bag's features (T, C, D) as segments (S, C, D)."""
        ...

    def loss(self, abnormal: Tensor, normal: Tensor) -> Loss:
        """Of bags (B, C, S, D) of each class; the network is in training mode."""
        ...

    def scores(self, values: np.ndarray) -> np.ndarray:
        """What streaming gives: features (T, C, D) -> float32 (T,). Leaves the network in evaluation mode."""
        ...


class Point(NamedTuple):
    """One validation."""

    iteration: int
    loss: float
    """Mean since the last point."""
    roc_auc: float | None
    """Of the held-out videos, each by its highest score; None without any."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingProgress:
    """All that a training must know to go on, besides its settings and its data."""

    iteration: int
    """Steps done."""
    curve: tuple[Point, ...]
    net: Arrays
    optimiser: Arrays
    best_iteration: int
    best: Arrays
    """The network at `best_iteration`."""


def train(
    trainable: Trainable,
    training: Sequence[TrainingVideo],
    held: Sequence[TrainingVideo],
    settings: Settings,
    *,
    start: TrainingProgress | None = None,
    keep: Callable[[TrainingProgress], None] = lambda _: None,
    report: Report = lambda *_: None,
) -> TrainingProgress:
    """Train to the end; leave in `trainable.net` the iterate that ranks the `held` videos best, without them the last.

    `keep` is given the progress at every check; a later call that starts from it ends with the same numbers.
    Randomness is drawn anew for each iteration from (seed, iteration), and leaves torch's own as it was.
    """
    normal, abnormal = (
        Bags([video for video in training if video.label == label], settings.chain, trainable.pool) for label in (0, 1)
    )
    if start is not None:
        _restore(trainable, start)
    progress = start or TrainingProgress(iteration=0, curve=(), net={}, optimiser={}, best_iteration=0, best={})
    losses: list[float] = []
    with _own_randomness(trainable.device):
        for iteration in range(progress.iteration + 1, settings.iterations + 1):
            rng = np.random.default_rng([settings.seed, iteration])
            torch.manual_seed(int(rng.integers(2**62)))
            losses.append(_step(trainable, abnormal.draw(settings.batch, rng), normal.draw(settings.batch, rng)))
            if iteration % settings.check_every == 0 or iteration == settings.iterations:
                progress = _checked(
                    trainable, progress, Point(iteration, float(np.mean(losses)), _auc(trainable, held))
                )
                losses = []
                keep(progress)
                report(*progress.curve[-1])
            else:
                report(iteration, losses[-1], None)
    trainable.net.load_state_dict(_tensors(progress.best))
    trainable.net.eval()
    return progress


def _step(trainable: Trainable, abnormal: np.ndarray, normal: np.ndarray) -> float:
    trainable.net.train()
    bags = [torch.from_numpy(bag).to(trainable.device) for bag in (abnormal, normal)]
    total = trainable.loss(*bags).total
    trainable.optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    trainable.optimiser.step()
    return float(total.detach())


def _auc(trainable: Trainable, held: Sequence[TrainingVideo]) -> float | None:
    if not held:
        return None
    highest = [float(trainable.scores(video.values).max()) for video in held]
    return float(roc_auc_score([video.label for video in held], highest))


def _checked(trainable: Trainable, before: TrainingProgress, point: Point) -> TrainingProgress:
    now = replace(
        before,
        iteration=point.iteration,
        curve=(*before.curve, point),
        net=_arrays(trainable.net.state_dict()),
        optimiser=_optimiser_arrays(trainable.optimiser),
    )
    so_far = [p.roc_auc for p in before.curve if p.roc_auc is not None]
    better = point.roc_auc is None or not so_far or point.roc_auc > max(so_far)
    return replace(now, best_iteration=point.iteration, best=now.net) if better else now


def _restore(trainable: Trainable, progress: TrainingProgress) -> None:
    trainable.net.load_state_dict(_tensors(progress.net))
    state = trainable.optimiser.state_dict()
    state["state"] = {}
    for name, array in progress.optimiser.items():
        index, _, key = name.partition(".")
        state["state"].setdefault(int(index), {})[key] = torch.from_numpy(array.copy())
    trainable.optimiser.load_state_dict(state)


def _optimiser_arrays(optimiser: torch.optim.Optimizer) -> Arrays:
    state = optimiser.state_dict()["state"]
    return _arrays({f"{index}.{key}": value for index, values in state.items() for key, value in values.items()})


def _arrays(tensors: dict[str, Tensor]) -> Arrays:
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def _own_randomness(device: torch.device) -> AbstractContextManager:
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def seeded(make: Callable[[], Net], seed: int) -> Net:
    """A network whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
