"""What a temporal model costs per snippet, early and late in a run: its state must not grow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from scripts.bench import footage
from scripts.bench.row import Row
from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import expand
from stages.features.registry import build_extractor
from stages.files.checkpoint import Checkpoint, load_checkpoint
from stages.messages import REFERENCE_LEVELS, Features, Snippet
from stages.stage import StageProcessor, State
from stages.temporal.future_frame.format import FrameFormat
from stages.temporal.future_frame.scorer import PictureScorer
from stages.temporal.future_frame.stage import future_frame_checkpoint
from stages.temporal.future_frame.unet import UNet, UNetConfig
from stages.temporal.network_checkpoint import make_checkpoint
from stages.temporal.registry import TemporalModel, build_model
from stages.temporal.weak.mil import MIL, MILConfig
from stages.temporal.weak.rtfm import RTFM, RTFMConfig

EARLY, LATE = 10, 10_000
DIM = 128
THINNED = 32
"""One cell in so many is kept, and one frame of a snippet's pictures: 10,000 snippets are to take seconds."""
WITHIN = 0.1


def measure(work: Path, quick: bool) -> list[Row]:
    """CPU time per snippet after 10,000 snippets against after 10, each called in turn on a state left as it was.

    `rtfm` with look-ahead is compared from where its window of 32 snippets is full: before, it has less to look at.
    """
    torch.set_num_threads(1)
    late, repeats = (120, 1) if quick else (LATE, 3)
    dense = _dense()
    motion, pixels = _motion(work), _pixels(work)
    models: list[tuple[str, TemporalModel, Sequence[Features] | Sequence[Snippet], int]] = [
        ("mil", build_model("mil", "mil", _trained("mil", MIL(c := MILConfig(input_dim=DIM)), c)), dense, EARLY),
        *(
            (
                f"rtfm, {mode}",
                build_model("rtfm", "rtfm", _trained("rtfm", RTFM(c := RTFMConfig(input_dim=DIM, mode=mode)), c)),
                dense,
                EARLY if mode == "causal" else c.window,
            )
            for mode in ("causal", "lookahead")
        ),
        ("novelty, fitted", _fitted(work), motion, EARLY),
        ("novelty, adaptive", build_model("novelty", "novelty"), motion, _warm(motion)),
        ("future_frame, small", build_model("future_frame", "future_frame", _future()), pixels, EARLY),
    ]
    return [_row(name, model, inputs, early, late, repeats) for name, model, inputs, early in models]


def _row(name: str, model: TemporalModel, inputs: Sequence, early: int, late: int, repeats: int) -> Row:
    state: State = {}
    young: State = {}
    for index in range(late):
        if index == early:
            young = state
        [(_, state)] = model.process([(_at(inputs, index, index), state)])
    ratios, detail = [], []
    for _ in range(repeats):
        times = _times_s(model, (_at(inputs, early, early), young), (_at(inputs, late, early), state))
        ratios.append(times[1] / times[0])
        detail.append({"us": [1e6 * t for t in times]})
    return Row(
        figure=f"time per snippet after {late:,} snippets, {name}", against=f"after {early}",
        values=ratios, target=1 + WITHIN, at_least=False, detail={"runs": detail, "state_bytes": _bytes(young, state)},
        limit="its state: {} bytes early, {} late".format(*_bytes(young, state)),
    )  # fmt: skip


def _times_s(model: TemporalModel, *calls: tuple) -> list[float]:
    """The median time of each call on this thread; they take turns."""
    took: list[list[float]] = [[] for _ in calls]
    until_s = time.perf_counter() + 2
    while len(took[0]) < 30 or time.perf_counter() < until_s:
        for index, call in enumerate(calls):
            begun_s = time.thread_time()
            model.process([call])
            took[index].append(time.thread_time() - begun_s)
    return [statistics.median(t) for t in took]


def _at(inputs: Sequence, index: int, shows: int) -> Features | Snippet:
    """Snippet number `index` of a run that shows the same again and again, with what number `shows` shows."""
    message = inputs[shows % len(inputs)]
    count = len(message.times_s)
    first = index * count
    return replace(message, seq=index, first_frame=first, times_s=(first + np.arange(count)) / 25)


def _bytes(*states: State) -> list[int]:
    return [sum(array.nbytes for array in state.values()) for state in states]


def _dense() -> list[Features]:
    rng = np.random.default_rng(0)
    return [
        Features(
            camera="cam", run_ms=1, seq=0, first_frame=0, times_s=np.arange(16) / 25,
            picked=np.arange(16, dtype=np.int32), extractor="r3d_18@bench", values=rng.random(DIM, np.float32),
        )
        for _ in range(64)
    ]  # fmt: skip


def _pixels(work: Path) -> list[Snippet]:
    path = footage.tiny(work, 256)
    messages = read_messages(expand([str(path)])[0], DecodeSettings(snippet_frames=1), 1, lambda: 0.0)
    return [m for m in messages if isinstance(m, Snippet)]


def _motion(work: Path) -> list[Features]:
    stage = StageProcessor(build_extractor("motion"))
    state: State = {}
    found: list[Features] = []
    path = footage.camera(work, 400)
    for message in read_messages(expand([str(path)])[0], DecodeSettings(), 1, lambda: 0.0):
        if isinstance(message, Snippet):
            done = stage.run([({"snippets": message}, state)])[0]
            state = done.state
            found += [_thinned(m) for m in done.messages if isinstance(m, Features)]
    return found


def _thinned(message: Features) -> Features:
    assert message.cells is not None
    return replace(message, values=message.values[::THINNED], cells=message.cells[::THINNED])


def _warm(motion: Sequence[Features]) -> int:
    """Snippets after which adaptive novelty has left its warm-up (then it does other work), with some to spare."""
    return 20 + round(60 * 25 / len(motion[0].times_s))


def _fitted(work: Path) -> TemporalModel:
    return build_model("novelty", "novelty", load_checkpoint(footage.checkpoint(work)))


def _trained(kind: str, net: torch.nn.Module, config: MILConfig | RTFMConfig) -> Checkpoint:
    return make_checkpoint(
        kind, net, config, extractor="r3d_18@bench", preprocessing={}, reference=REFERENCE_LEVELS.astype(np.float32),
        training={},
    )  # fmt: skip


def _future() -> Checkpoint:
    net = UNet(UNetConfig(channels=1, widths=(8, 16)))
    return future_frame_checkpoint(
        net, FrameFormat(height=32, width=48, order="gray"), reference=-40 + 20 * REFERENCE_LEVELS, training={},
        scorer=PictureScorer(),
    )  # fmt: skip
