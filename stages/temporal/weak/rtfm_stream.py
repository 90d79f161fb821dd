"""RTFM as a stage: snippet by snippet, giving what `rtfm.score_video` gives for the whole video in the same form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from stages.errors import CheckpointError
from stages.files.checkpoint import Checkpoint
from stages.messages import Features, Scores
from stages.stage import State
from stages.temporal.network_checkpoint import load_weights, read_config
from stages.temporal.weak.kinds import LOOKAHEAD
from stages.temporal.weak.lookahead import pack_headers, unpack_headers
from stages.temporal.weak.model_io import ModelIO
from stages.temporal.weak.rtfm import RTFM, RTFMConfig, StreamCache


class CausalRTFM:
    """Every snippet is scored when it comes. State: the network's `StreamCache` of the camera; its size is fixed."""

    def __init__(self, io: ModelIO, net: RTFM, device: str = "cpu") -> None:
        self.name, self.hash, self.features = io.name, io.hash, io.features
        self._io, self._net, self._device = io, net, device

    @torch.inference_mode()
    def process(self, batch: Sequence[tuple[Features, State]]) -> list[tuple[list[Scores], State]]:
        if not batch:
            return []
        x = self._io.stack([features for features, _ in batch])  # (B, D)
        states = [state or self._fresh() for _, state in batch]
        memory = StreamCache(*(self._tensor([state[name] for state in states]) for name in StreamCache._fields))
        scores, memory = self._net.step(x.to(self._device), memory)
        arrays = [field.cpu().numpy() for field in memory]  # each (B, ...)
        return [
            (
                [self._io.scores(features.header(), score)],
                {name: array[i].copy() for name, array in zip(StreamCache._fields, arrays, strict=True)},
            )
            for i, ((features, _), score) in enumerate(zip(batch, scores.tolist(), strict=True))
        ]

    def finish(self, state: State) -> tuple[list[Scores], State]:
        return [], {}

    def _fresh(self) -> State:
        return {
            name: field[0].cpu().numpy() for name, field in zip(StreamCache._fields, self._net.fresh(1), strict=True)
        }

    def _tensor(self, arrays: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self._device)


class LookaheadRTFM:
    """A snippet is scored in the window that ends LOOKAHEAD snippets later, or at the end of the run.

    State: `window`, float32 (up to `window`, D), the newest features; and the headers of the scores still owed.
    """

    def __init__(self, io: ModelIO, net: RTFM, device: str = "cpu") -> None:
        self.name, self.hash, self.features = io.name, io.hash, io.features
        self._io, self._net, self._device = io, net, device

    def process(self, batch: Sequence[tuple[Features, State]]) -> list[tuple[list[Scores], State]]:
        if not batch:
            return []
        x = self._io.stack([features for features, _ in batch]).numpy()  # (B, D)
        windows = [self._moved(state, row) for (_, state), row in zip(batch, x, strict=True)]
        owed = [[*unpack_headers(state), features.header()] for features, state in batch]
        due = [i for i, headers in enumerate(owed) if len(headers) > LOOKAHEAD]
        late = dict(zip(due, self._score([windows[i] for i in due]), strict=True))
        results: list[tuple[list[Scores], State]] = []
        for i, (window, headers) in enumerate(zip(windows, owed, strict=True)):
            scores = []
            if i in late:
                scores = self._emit(headers[:1], late[i][-LOOKAHEAD - 1 :], _next_frame(headers[-1]))
                headers = headers[1:]
            results.append((scores, {"window": window, **pack_headers(headers)}))
        return results

    def finish(self, state: State) -> tuple[list[Scores], State]:
        headers = unpack_headers(state)
        if not headers:
            return [], {}
        (scores,) = self._score([state["window"]])
        return self._emit(headers, scores[-len(headers) :], _next_frame(headers[-1])), {}

    def _moved(self, state: State, row: np.ndarray) -> np.ndarray:
        before = state["window"] if state else np.empty((0, len(row)), np.float32)
        return np.concatenate([before, row[None]])[-self._net.config.window :]

    @torch.inference_mode()
    def _score(self, windows: list[np.ndarray]) -> list[list[float]]:
        """The scores of all snippets of each window; windows of one length go through the network together."""
        by_length = defaultdict(list)
        for i, window in enumerate(windows):
            by_length[len(window)].append(i)
        scores: list[list[float]] = [[] for _ in windows]
        for group in by_length.values():
            x = torch.from_numpy(np.stack([windows[i] for i in group])).to(self._device)
            for i, row in zip(group, self._net(x.unsqueeze(1)).scores.tolist(), strict=True):
                scores[i] = row
        return scores

    def _emit(self, headers: list[dict], scores: list[float], seen_to: int) -> list[Scores]:
        """`scores` may be longer than `headers`: they begin at the oldest pending snippet."""
        return [
            self._io.scores(header, score, seen_to - _next_frame(header))
            for header, score in zip(headers, scores, strict=False)
        ]


def _next_frame(header: dict) -> int:
    return header["first_frame"] + len(header["times_s"])


def build(name: str, checkpoint: Checkpoint, device: str) -> CausalRTFM | LookaheadRTFM:
    """Raises CheckpointError for a checkpoint that is not a sound `rtfm` or cannot stream."""
    config = read_config(name, checkpoint, RTFMConfig)
    if config.mode == "paper":
        raise CheckpointError(
            f"{name}: this rtfm checkpoint needs whole videos (mode paper) and cannot score a stream; use it with "
            "'oddwatch evaluate --mode paper', or make one with mode lookahead (the same network) or causal"
        )
    io = ModelIO.of(name, checkpoint, config.input_dim)
    net = RTFM(config)
    load_weights(name, net, checkpoint.arrays, device)
    return CausalRTFM(io, net, device) if config.mode == "causal" else LookaheadRTFM(io, net, device)
