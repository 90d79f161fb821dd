"""Future-frame predictors as a stage: snippets in, for each kept frame how badly it was predicted. Exactly causal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from stages.decode.learned import LearnedDecode
from stages.errors import CheckpointError
from stages.files.checkpoint import Checkpoint
from stages.messages import REFERENCE_LEVELS, Scores, Snippet
from stages.stage import State
from stages.temporal.future_frame.conv_transformer import ConvTransformer, ConvTransformerConfig
from stages.temporal.future_frame.format import FrameFormat, to_unit
from stages.temporal.future_frame.kind import FUTURE_FRAME
from stages.temporal.future_frame.scorer import ErrorScorer, PictureScorer, PlaceScorer, Squares
from stages.temporal.future_frame.unet import UNet, UNetConfig
from stages.temporal.network_checkpoint import load_weights, read_config

PLACE_SUMS = "score.ground"
"""Array of a checkpoint: what a PlaceScorer knows of normal footage."""
ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "unet": (UNetConfig, UNet),
    "conv_transformer": (ConvTransformerConfig, ConvTransformer),
}
AT_ONCE = {"cpu": 1}
"""Frames per forward pass: one at a time stays in the processor's cache, 1.1 times as fast as eight."""
AT_ONCE_ELSEWHERE = 16


class Predictor(Protocol):
    """Predicts each frame of a stream from those before it."""

    def advance(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """The run's next frames uint8 (T, C, H, W) -> errors in dB float32 (T, ...), NaN where too little came before.

        The state may hold what others remember; it is not passed on.
        """
        ...


class UNetPredictor:
    """State: `frames`, uint8 (up to t_in, C, H, W), the newest ones."""

    def __init__(self, net: UNet, scorer: ErrorScorer, device: str = "cpu") -> None:
        self._net = net.to(memory_format=torch.channels_last)
        self._scorer, self._device = scorer, device

    @torch.inference_mode()
    def advance(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        t_in = self._net.config.t_in
        run = np.concatenate([state["frames"], frames]) if state else frames  # (K, C, H, W)
        found = []
        if len(run) > t_in:
            images = to_unit(run).to(self._device)
            found = [self._errors(images, range(at.start, at.stop)) for at in _slices(t_in, len(run), self._device)]
        return _from_the_end(found, len(frames)), {"frames": run[-t_in:].copy()}

    def _errors(self, images: Tensor, at: range) -> Tensor:
        before = torch.stack([images[t - self._net.config.t_in : t].flatten(0, 1) for t in at])  # (B, t_in * C, H, W)
        predicted = self._net(before.contiguous(memory_format=torch.channels_last))
        return self._scorer.errors(predicted, images[at.start : at.stop], images[at.start - 1 : at.stop - 1])


class ConvTransformerPredictor:
    """Encodes every frame once, and predicts the frame after it at once.

    State: `values.<level>`, float32 (up to t_in - 1, width, h, w), what attention reads of the newest frames;
    `frame`, uint8 (C, H, W), the newest one; `prediction`, float32 (C, H, W), of the next one, once there is one.
    """

    def __init__(self, net: ConvTransformer, scorer: ErrorScorer, device: str = "cpu") -> None:
        self._net = net.to(memory_format=torch.channels_last)
        self._scorer, self._device = scorer, device

    @torch.inference_mode()
    def advance(self, frames: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        images = to_unit(frames).to(self._device)
        past = [self._tensor(state[name]) for name in self._names] if state else []
        predicted = [self._tensor(state["prediction"])[None]] if "prediction" in state else []
        for at in _slices(0, len(images), self._device):
            maps, values = self._net.encode(images[at].contiguous(memory_format=torch.channels_last))
            past = [torch.cat(pair) for pair in zip(past, values, strict=True)] if past else values
            full = len(past[0]) - self._before
            if full > 0:
                windows = [torch.stack([v[i : i + self._before + 1] for i in range(full)]) for v in past]
                predicted.append(self._net.decode([level[-full:] for level in maps], windows))
            past = [v[-self._before :] for v in past]
        new = {name: v.cpu().numpy().copy() for name, v in zip(self._names, past, strict=True)}
        new["frame"] = frames[-1].copy()
        found = []
        if predicted:
            pictures = torch.cat(predicted)  # the last one is of the frame to come
            new["prediction"] = pictures[-1].cpu().numpy().copy()
            known = len(pictures) - 1
            if known:
                before = images[:-1]
                if state:
                    before = torch.cat([to_unit(state["frame"]).to(self._device)[None], before])
                found = [self._scorer.errors(pictures[:-1], images[-known:], before[-known:])]
        return _from_the_end(found, len(frames)), new

    @property
    def _before(self) -> int:
        return self._net.config.t_in - 1

    @property
    def _names(self) -> list[str]:
        return [f"values.{level}" for level in range(self._net.config.attended)]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.copy()).to(self._device)


class FutureFrameModel:
    """The stage: raw score = how badly a frame was predicted. Remembers what predictor and scorer need of a camera.

    The first frames of a run, too early to be predicted, take the score of the first predicted one of their snippet,
    or, without one, the median of the reference: neither odd nor normal.
    """

    features = None

    def __init__(
        self,
        name: str,
        hash_: str,
        predictor: Predictor,
        scorer: ErrorScorer,
        form: FrameFormat,
        reference: np.ndarray,
    ) -> None:
        self.name, self.hash = name, hash_
        self._predictor, self._scorer, self._form, self._reference = predictor, scorer, form, reference
        self._neutral = np.float32(np.interp(0.5, REFERENCE_LEVELS, reference))

    def process(self, batch: Sequence[tuple[Snippet, State]]) -> list[tuple[list[Scores], State]]:
        """Scores of each snippet's kept frames."""
        return [self._score(snippet, state) for snippet, state in batch]

    def finish(self, state: State) -> tuple[list[Scores], State]:
        return [], {}

    def _score(self, snippet: Snippet, state: State) -> tuple[list[Scores], State]:
        frames, times_s = self._form.frames(snippet.pixels), snippet.times_s[snippet.picked]
        raw, state = scored(self._predictor, self._scorer, frames, times_s, state)
        early = np.isnan(raw)
        raw[early] = self._neutral if early.all() else raw[~early][0]
        scores = Scores(**snippet.header(), model=self.name, model_hash=self.hash, raw=raw, reference=self._reference)
        return [scores], state


def scored(
    predictor: Predictor, scorer: ErrorScorer, frames: np.ndarray, times_s: np.ndarray, state: State
) -> tuple[np.ndarray, State]:
    """Raw scores float32 (T,) of a run's next frames uint8 (T, C, H, W), NaN where too early; and the new state."""
    errors, new = predictor.advance(frames, state)
    early = int(np.isnan(errors.reshape(len(errors), -1)[:, 0]).sum())
    raw = np.full(len(frames), np.nan, np.float32)
    if early == len(frames):
        return raw, new
    raw[early:], memory = scorer.scores(errors[early:], times_s[early:], state)
    return raw, new | memory


def make_predictor(
    net: nn.Module, scorer: ErrorScorer, device: str = "cpu"
) -> UNetPredictor | ConvTransformerPredictor:
    """The streaming form of a network, which is put into evaluation mode."""
    net.to(device).eval()
    if isinstance(net, UNet):
        return UNetPredictor(net, scorer, device)
    if isinstance(net, ConvTransformer):
        return ConvTransformerPredictor(net, scorer, device)
    raise TypeError(f"no streaming form of {type(net).__name__}")


def future_frame_checkpoint(
    net: UNet | ConvTransformer,
    form: FrameFormat,
    *,
    reference: np.ndarray,
    training: dict,
    scorer: ErrorScorer,
    decode: LearnedDecode | None = None,
) -> Checkpoint:
    """A checkpoint of a trained predictor, of frames in the given form, decoded that way (None: not known).

    `reference` float32 (len(REFERENCE_LEVELS),): quantiles of its raw scores on normal footage; `training` says what
    it was trained on.
    """
    arch = next(name for name, (_, module) in ARCHITECTURES.items() if isinstance(net, module))
    meta = {
        "arch": arch,
        "architecture": asdict(net.config),
        "preprocessing": asdict(form) | (decode.meta() if decode else {}),
        "score": scorer.meta(),
        "reference": [float(level) for level in reference],
        "training": training,
    }
    arrays = {k: v.detach().cpu().numpy() for k, v in net.state_dict().items()}
    if scorer.place_sums is not None:
        arrays[PLACE_SUMS] = scorer.place_sums
    return Checkpoint(kind=FUTURE_FRAME.name, meta=meta, arrays=arrays)


def check_sizes(config: UNetConfig | ConvTransformerConfig, form: FrameFormat) -> None:
    """Raises ValueError when a network cannot take frames of this format."""
    if config.channels != form.channels:
        raise ValueError(f"the network takes {config.channels} channels, {form.order} frames have {form.channels}")
    if form.height % config.multiple or form.width % config.multiple:
        raise ValueError(f"height and width must be multiples of {config.multiple}, got {form.height} and {form.width}")


def build(name: str, checkpoint: Checkpoint, device: str) -> FutureFrameModel:
    """Raises CheckpointError for a checkpoint that is not a sound `future_frame`."""
    meta = checkpoint.meta
    if meta.get("arch") not in ARCHITECTURES:
        raise CheckpointError(
            f"{name}: the checkpoint's arch is {meta.get('arch')!r}, known are {', '.join(ARCHITECTURES)}; "
            f"train it again with 'oddwatch train {FUTURE_FRAME.name}'"
        )
    config_type, module = ARCHITECTURES[meta["arch"]]
    config = read_config(name, checkpoint, config_type)
    try:
        form = FrameFormat(**{k: v for k, v in meta["preprocessing"].items() if k != "decode"})
        check_sizes(config, form)
        scorer = read_scorer(checkpoint, form)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{name}: the checkpoint's preprocessing cannot be used ({error}); train it again with "
            f"'oddwatch train {FUTURE_FRAME.name}'"
        ) from error
    net = module(config)
    load_weights(name, net, {key: array for key, array in checkpoint.arrays.items() if key != PLACE_SUMS}, device)
    predictor = make_predictor(net, scorer, device)
    return FutureFrameModel(name, checkpoint.sha256, predictor, scorer, form, read_reference(name, checkpoint))


def read_scorer(checkpoint: Checkpoint, form: FrameFormat) -> ErrorScorer:
    """The scorer that a checkpoint describes. Raises KeyError, TypeError or ValueError when it does not fit."""
    score = dict(checkpoint.meta["score"])
    by = score.pop("by", "picture")  # the first checkpoints do not say
    if by == "picture":
        scorer = PictureScorer(**score)
        if not 0 <= scorer.patch_px <= min(form.height, form.width):
            raise ValueError(f"patch_px must lie within 0..{min(form.height, form.width)}, got {scorer.patch_px}")
        return scorer
    if by != "place":
        raise ValueError(f"scores are by picture or by place, not by {by!r}")
    squares, sums = Squares(**score), checkpoint.arrays[PLACE_SUMS]
    expected = (3, *squares.grid(form.height, form.width))
    if sums.shape != expected or not np.isfinite(sums).all():
        raise ValueError(f"{PLACE_SUMS} must be finite {expected}, got {sums.shape}")
    return PlaceScorer(squares, sums)


def read_reference(name: str, checkpoint: Checkpoint) -> np.ndarray:
    """The checkpoint's reference quantiles. Raises CheckpointError when they are missing or malformed."""
    reference = np.asarray(checkpoint.meta.get("reference", []), np.float32)
    if reference.shape != REFERENCE_LEVELS.shape or not np.all(np.diff(reference) >= 0):
        raise CheckpointError(
            f"{name}: the checkpoint's reference must be {len(REFERENCE_LEVELS)} rising quantiles of normal scores, "
            f"got {reference.tolist()}; train it again with 'oddwatch train {FUTURE_FRAME.name}'"
        )
    return reference


def _from_the_end(found: list[Tensor], count: int) -> np.ndarray:
    """The errors found, as those of the last of so many frames; NaN for the earlier ones."""
    if not found:
        return np.full(count, np.nan, np.float32)
    known = torch.cat(found).cpu().numpy()
    errors = np.full((count, *known.shape[1:]), np.nan, np.float32)
    errors[count - len(known) :] = known
    return errors


def _slices(start: int, stop: int, device: str) -> list[slice]:
    size = AT_ONCE.get(device, AT_ONCE_ELSEWHERE)
    return [slice(at, min(at + size, stop)) for at in range(start, stop, size)]
