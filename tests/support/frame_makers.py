"""Tiny moving pictures and seeded predictors for the future-frame tests."""

import numpy as np
import torch
from dense_makers import seed_weights

from stages.messages import REFERENCE_LEVELS, Snippet
from stages.temporal.future_frame.format import FrameFormat
from stages.temporal.future_frame.scorer import ErrorScorer, PictureScorer, PlaceScorer, Squares
from stages.temporal.future_frame.stage import future_frame_checkpoint
from stages.training.future_frame.footage import Clip

torch.set_num_threads(1)
FORM = FrameFormat(height=16, width=24, order="gray")
SQUARES = Squares(window_px=4, stride_px=2)


def moving(frames, seed=0, height=32, width=48):
    """uint8 (frames, height, width, 3): a bright square that crosses a noisy background."""
    rng = np.random.default_rng(seed)
    pixels = np.repeat(rng.integers(60, 100, (1, height, width, 3), np.uint8), frames, 0)
    for t, picture in enumerate(pixels):
        left = (3 * t + 7 * seed) % (width - 8)
        picture[8:20, left : left + 8] = (230, 200, 120)
    return pixels


def place_scorer(squares: Squares = SQUARES, form: FrameFormat = FORM) -> PlaceScorer:
    """Of a place where errors of -12 dB are normal at the top, and of -6 dB at the bottom."""
    rows, columns = squares.grid(form.height, form.width)
    mean, count, deviation = np.linspace(-12, -6, rows)[:, None].repeat(columns, 1), 500.0, 2.0
    ground = np.stack([np.ones_like(mean), mean, mean**2 + deviation**2]) * count
    return PlaceScorer(squares, ground)


SCORERS: list[ErrorScorer] = [PictureScorer(), PictureScorer(patch_px=5), place_scorer()]


def clip(pixels, group="yard", form=FORM, fps=25):
    """Footage to learn from."""
    return Clip(frames=form.frames(pixels), times_s=np.arange(len(pixels)) / fps, group=group)


def snippet(pixels, *, seq=0, first_frame=0, camera="cam", **fields):
    """Every second decoded frame was kept."""
    span = 2 * len(pixels)
    return Snippet(
        camera=camera,
        run_ms=1000,
        seq=seq,
        first_frame=first_frame,
        times_s=(first_frame + np.arange(span)) / 25,
        picked=np.arange(0, span, 2, dtype=np.int32),
        pixels=pixels,
        **fields,
    )


def seeded_checkpoint(network, config, *, form=FORM, seed=7, scorer=None, reference=-40 + 20 * REFERENCE_LEVELS):
    net = seed_weights(network(config), seed)
    return future_frame_checkpoint(net, form, reference=reference, training={}, scorer=scorer or PictureScorer())


def cut(pixels, rng, longest=9):
    """The frames in consecutive pieces of random lengths."""
    at = 0
    while at < len(pixels):
        size = int(rng.integers(1, longest))
        yield pixels[at : at + size]
        at += size


def streamed(stage, pixels, pieces, through=lambda state: state):
    """Raw scores of one run, cut as given, its state passed `through` between snippets."""
    state, raw, first = {}, [], 0
    for seq, piece in enumerate(pieces):
        [([scores], state)] = stage.process([(snippet(piece, seq=seq, first_frame=first), state)])
        state = through(state)
        raw.append(scores.raw)
        first += 2 * len(piece)
    assert stage.finish(state) == ([], {})
    raw = np.concatenate(raw)
    assert len(raw) == len(pixels)
    return raw
