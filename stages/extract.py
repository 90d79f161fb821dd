"""Features of whole files, through the same decoder and extractor as live, for fitting and training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.messages import End, Features
from pipeline.work import TransformWork
from stages.decode import DecodeSettings, read_messages
from stages.features import Extractor
from stages.sources import Source
from stages.stage import State


def clip_features(
    source: Source, extractor: Extractor, settings: DecodeSettings, on_frames: Callable[[int], None] | None = None
) -> Iterator[Features]:
    """The features of a file's snippets in order; gaps are passed over. Raises SourceError.

    `on_frames` is told how many frames are done.
    """
    work = TransformWork(extractor)
    state: State = {}
    for message in read_messages(source, settings, 0, lambda: 0.0):
        result = work.run([({"snippets": message}, state)])[0]
        state = result.state
        for features in result.messages:
            if isinstance(features, Features):
                yield features
        if on_frames is not None and not isinstance(message, End):
            on_frames(message.next_frame)
