"""Trains a future-frame predictor on normal footage: clips in, checkpoint out.

Resumable at any step; on a CPU with a fixed number of threads the same seed gives the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stages.errors import CheckpointError, OddwatchError
from stages.files.checkpoint import Checkpoint
from stages.messages import REFERENCE_LEVELS
from stages.stage import State
from stages.temporal.future_frame.format import to_unit
from stages.temporal.future_frame.scorer import ErrorScorer, PictureScorer, PlaceScorer, place_sums_of
from stages.temporal.future_frame.stage import Predictor, future_frame_checkpoint, make_predictor
from stages.temporal.future_frame.unet import psnr
from stages.training.future_frame.footage import Clip, fingerprint, hold_out
from stages.training.future_frame.settings import TrainSettings, describe
from stages.training.future_frame.step import (
    StepLosses,
    make_critics,
    make_network,
    set_rate,
    train_step,
)

PROGRESS = "future_frame_progress"
"""Kind of the checkpoint that a training is resumed from."""
LOOK_FRAMES = 48
"""Held-out frames that a look on the way is made of."""
GROUND_FRAMES = 20_000
"""Frames that what is normal is learned from at the end, at most."""
PIECE_FRAMES = 64
"""So many of them at a time: memory does not grow with the footage."""
LOOKS = 40


class Look(NamedTuple):
    """A look on the way."""

    steps: int
    loss: float
    """Mean of the total since the last look."""
    psnr_db: float
    """Mean of some held-out frames, whole pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a training is over: after so many steps, or so much time, whichever is given."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None) or (self.steps or self.seconds or 0) <= 0:
            raise ValueError(f"give a positive number of either steps or seconds, got {self}")

    def part(self, steps: int, spent_s: float) -> float:
        """How much of it is used up; 1 is all."""
        return steps / self.steps if self.steps is not None else spent_s / (self.seconds or 1)


class Training:
    """A training under way; `step` is its single turn."""

    def __init__(self, clips: Sequence[Clip], settings: TrainSettings, seed: int, device: str = "cpu") -> None:
        """Clips in the settings' format. Raises OddwatchError for too little footage."""
        expected = (settings.form.channels, settings.form.height, settings.form.width)
        for clip in clips:
            if clip.frames.dtype != np.uint8 or clip.frames.shape[1:] != expected:
                raise ValueError(f"clips must be uint8 (T, {', '.join(map(str, expected))}), got {clip.frames.shape}")
        self.settings, self.seed, self.steps = settings, seed, 0
        self.spent_s = 0.0
        self.looks: list[Look] = []
        self._losses: list[float] = []
        self._device = device
        self._clips, self._held_out = hold_out(clips, settings.network.t_in + 1)
        self._data = fingerprint(clips)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.generator = make_network(settings.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.optimiser = torch.optim.Adam(self.generator.parameters(), settings.rate)
            self.critics = make_critics(settings, device)

    def step(self, done: float) -> StepLosses:
        """One step on the next random batch; `done` in [0, 1] is the part of the training before it.

        Raises OddwatchError when the losses are no numbers any more.
        """
        settings = self.settings
        shrink = 0.1 if done >= settings.decay_from else 1.0
        set_rate(self.optimiser, settings.rate * shrink)
        for critic in self.critics:
            set_rate(critic.optimiser, settings.critic_rate * shrink)
        windows = self._batch().to(self._device)  # (B, t_in + 1, C, H, W)
        self.generator.train()
        self.steps += 1
        losses = train_step(
            self.generator, self.optimiser, self.critics, windows[:, :-1], windows[:, -1], settings.weights,
            mixed=settings.mixed,
        )  # fmt: skip
        self._losses.append(losses.total)
        if not math.isfinite(losses.total):
            raise self._diverged()
        return losses

    def _batch(self) -> Tensor:
        """Clips in turn as published, so short ones come as often as long ones; a random place in each."""
        rng, length = np.random.default_rng([self.seed, self.steps]), self.settings.network.t_in + 1
        windows = []
        for i in range(self.steps * self.settings.batch, (self.steps + 1) * self.settings.batch):
            frames = self._clips[i % len(self._clips)].frames
            start = rng.integers(len(frames) - length + 1)
            windows.append(frames[start : start + length])
        return to_unit(np.stack(windows))

    @torch.inference_mode()
    def look(self) -> Look:
        """How well held-out frames are predicted now; kept in `looks`."""
        t_in = self.settings.network.t_in
        at = [(clip, t) for clip in self._held_out for t in range(t_in, len(clip))]
        self.generator.eval()
        found = []
        for clip, t in at[:: -(-len(at) // LOOK_FRAMES)]:
            window = to_unit(clip.frames[t - t_in : t + 1]).to(self._device)
            found.append(float(psnr(self.generator(window[None, :-1].flatten(1, 2)), window[-1:])))
        self.looks.append(Look(self.steps, float(np.mean(self._losses or [np.nan])), float(np.mean(found))))
        self._losses = []
        return self.looks[-1]

    def result(self) -> Checkpoint:
        """The predictor as it is now, with the quantiles of its scores on the footage held out.

        Raises OddwatchError when there is no motion to learn from, or the network predicts no numbers.
        """
        settings, t_in = self.settings, self.settings.network.t_in
        predictor = make_predictor(self.generator, self._comparing(), self._device)
        held = [self._errors(predictor, clip) for clip in self._held_out]
        scorer, normal = self._scorers(predictor, held)
        times = [clip.times_s[t_in:][: len(errors)] for clip, errors in zip(self._held_out, held, strict=True)]
        scores = np.concatenate([normal.scores(*seen, {})[0] for seen in zip(held, times, strict=True)])
        reference = np.quantile(scores, REFERENCE_LEVELS)
        training = {
            "seed": self.seed,
            "steps": self.steps,
            "data": self._data,
            "clips": [len(self._clips), len(self._held_out)],
            "settings": describe(settings),
        }
        return future_frame_checkpoint(
            self.generator, settings.form, reference=reference, training=training, scorer=scorer, decode=settings.decode
        )

    def _comparing(self) -> ErrorScorer:
        """Sees what the final scorer will see, before anything is known of what is normal."""
        squares, form = self.settings.squares, self.settings.form
        if self.settings.score == "place":
            return PlaceScorer(squares, np.zeros((3, *squares.grid(form.height, form.width))))
        return PictureScorer(patch_px=squares.window_px if self.settings.score == "square" else 0)

    def _scorers(self, predictor: Predictor, held: Sequence[np.ndarray]) -> tuple[ErrorScorer, ErrorScorer]:
        """The final scorer, and one for the footage held out (its errors are `held`), which knows nothing of it."""
        if self.settings.score != "place":
            return self._comparing(), self._comparing()
        squares, of_held = self.settings.squares, place_sums_of(held)
        trained = place_sums_of([self._errors(predictor, clip) for clip in self._clips])
        if not trained[0].any():
            raise OddwatchError(
                "nothing moves in the normal footage, so that nobody knows what is normal where: give footage with "
                "ordinary motion, or --score picture"
            )
        return PlaceScorer(squares, trained + of_held), PlaceScorer(squares, trained)

    def _errors(self, predictor: Predictor, clip: Clip) -> np.ndarray:
        """Of the predicted frames of a clip, or of its first ones if there are too many; in pieces, as live."""
        t_in = self.settings.network.t_in
        most = GROUND_FRAMES // (len(self._clips) + len(self._held_out)) + t_in + 1
        found: list[np.ndarray] = []
        state: State = {}
        for at in range(0, min(len(clip), most), PIECE_FRAMES):
            errors, state = predictor.advance(clip.frames[at : min(at + PIECE_FRAMES, most)], state)
            if len(predicted := errors[max(0, t_in - at) :]):
                found.append(predicted)
        whole = np.concatenate(found)
        if np.isnan(whole).any():
            raise self._diverged()
        return whole

    def _diverged(self) -> OddwatchError:
        return OddwatchError(
            f"the training has gone astray by step {self.steps}: its losses are no numbers any more; start anew with a "
            f"lower --learning-rate than {self.settings.rate:g}"
        )

    def progress(self) -> Checkpoint:
        """Everything needed to go on later."""
        arrays: dict[str, np.ndarray] = {}
        for name, part in self._parts().items():
            if isinstance(part, nn.Module):
                arrays |= {f"{name}/{key}": to_numpy(value) for key, value in part.state_dict().items()}
            else:
                for i, moments in part.state_dict()["state"].items():
                    arrays |= {f"{name}/{i}/{key}": to_numpy(value) for key, value in moments.items()}
        meta = self._identity() | {
            "steps": self.steps,
            "spent_s": self.spent_s,
            "looks": self.looks,
            "losses": self._losses,
        }
        return Checkpoint(kind=PROGRESS, meta=meta, arrays=arrays)

    def _identity(self) -> dict:
        return {"seed": self.seed, "data": self._data, "settings": describe(self.settings)}

    def resume(self, progress: Checkpoint) -> None:
        """Go on from there. Raises CheckpointError when it was another training."""
        meta = progress.meta
        if progress.kind != PROGRESS:
            raise CheckpointError(f"cannot resume from a {progress.kind!r} checkpoint; it is finished: start anew")
        for what, mine in self._identity().items():
            if meta.get(what) != mine:
                raise CheckpointError(
                    f"cannot resume: the saved training had other {what}; use the same again, or start anew "
                    "with another --out"
                )
        self.steps, self.spent_s = meta["steps"], meta["spent_s"]
        self.looks, self._losses = [Look(*look) for look in meta["looks"]], list(meta["losses"])
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
    clips: Sequence[Clip],
    settings: TrainSettings,
    budget: Budget,
    *,
    seed: int,
    resume: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] = lambda _: None,
    report: Callable[[float, Training], None] = lambda *_: None,
    device: str = "cpu",
) -> tuple[Checkpoint, list[Look]]:
    """Train to the end of the budget: a `future_frame` checkpoint, and the looks taken on the way.

    `keep` is given, at every look, what a later call needs as `resume`; `report` is told after every step which part
    is done. Raises OddwatchError for too little footage or a rate too high, CheckpointError for another training's
    `resume`.
    """
    training = Training(clips, settings, seed, device)
    if resume is not None:
        training.resume(resume)
    began_s, before_s = time.monotonic(), training.spent_s
    while (part := budget.part(training.steps, training.spent_s)) < 1:
        training.step(part)
        training.spent_s = before_s + time.monotonic() - began_s
        now = budget.part(training.steps, training.spent_s)
        if int(now * LOOKS) > int(part * LOOKS):
            training.look()
            keep(training.progress())
        report(min(now, 1.0), training)
    return training.result(), training.looks


def to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
