"""Features of whole files, through the same decoder and extractor as live, for fitting and training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import Source
from stages.errors import ConfigError
from stages.features.registry import Extractor
from stages.messages import End, Features, Snippet
from stages.stage import StageProcessor, State


def clip_features(
    source: Source,
    extractor: Extractor,
    settings: DecodeSettings,
    on_frames: Callable[[int], None] | None = None,
    on_end: Callable[[str], None] | None = None,
) -> Iterator[Features]:
    """The features of a file's snippets in order; gaps are passed over. Raises SourceError.

    `on_frames` is told how many frames are done, `on_end` in what state the file is: `complete`, `damaged: ...`.
    """
    work = StageProcessor(extractor)
    state: State = {}
    for message in read_messages(source, settings, 0, lambda: 0.0):
        result = work.run([({"snippets": message}, state)])[0]
        state = result.state
        for features in result.messages:
            if isinstance(features, Features):
                yield features
        if on_frames is not None and not isinstance(message, End):
            on_frames(message.next_frame)
        if on_end is not None and isinstance(message, End):
            on_end(message.status)


def ten_crop_features(
    source: Source, extractor: Extractor, settings: DecodeSettings, on_frames: Callable[[int], None] | None = None
) -> np.ndarray:
    """Float32 (T, 10, D): each snippet of a file in ten crops, as published features have them.

    For training and evaluating by the protocol of papers only: ten times the work, and nothing live does it. Crops are
    top left, top right, bottom left, bottom right, middle, then the same mirrored; gaps are passed over.
    Raises ConfigError for an extractor that has no crops, SourceError.
    """
    ten_crops = getattr(extractor, "ten_crops", None)
    if ten_crops is None:
        raise ConfigError(
            f"{extractor.name} describes whole pictures only; ten crops need an extractor that is a network"
        )
    crops = []
    for message in read_messages(source, settings, 0, lambda: 0.0):
        if isinstance(message, Snippet):
            crops.append(ten_crops(message.pixels))
        if on_frames is not None and not isinstance(message, End):
            on_frames(message.next_frame)
    return np.stack(crops) if crops else np.empty((0, 10, extractor.dim), np.float32)
