"""Reads a folder of pictures, or a picture file of several pages, as one video."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from stages.decode.frames import Scaler
from stages.decode.natural_order import pictures_in
from stages.decode.settings import DecodeSettings, Heartbeat, no_heartbeat
from stages.decode.snippets import DecodedFrame
from stages.decode.source import Source
from stages.decode.sources.pages import pages
from stages.errors import SourceError
from stages.text import counted, printable

ERRORS_ONLY = 2
"""Level of OpenCV's own log."""


class ImageFolder:
    """The pictures of a folder in natural order, all pages of each, `image_fps` a second.

    A picture that cannot be read is a gap.
    """

    def __init__(self, source: Source, settings: DecodeSettings, heartbeat: Heartbeat = no_heartbeat) -> None:
        self._source = source
        self._settings = settings
        self._heartbeat = heartbeat
        self.status = "complete"

    def pictures(self) -> Generator[DecodedFrame, None, None]:
        """Each file's picture. Raises SourceError if none of them can be read."""
        try:
            whole = Path(self._source.uri)
            paths = [whole] if whole.is_file() else pictures_in(whole)
        except OSError as error:
            raise SourceError(f"{self._source.redacted}: cannot be listed ({error.strerror}); check path") from error
        cv2.utils.logging.setLogLevel(ERRORS_ONLY)  # what is wrong with a picture is said once, by us
        scaler, index = None, 0
        unread: list[str] = []
        for path in paths:
            self._heartbeat()
            for pixels in _pictures(path):
                time_s, index = index / self._settings.image_fps, index + 1
                if pixels is None:
                    unread.append(path.name)
                    yield DecodedFrame(time_s=time_s, pixels=_nothing, fault="picture file cannot be read")
                    continue
                frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
                scaler = scaler or Scaler(frame, self._settings.height)
                yield DecodedFrame(time_s=time_s, pixels=partial(scaler.pixels, frame))
        if scaler is None:
            raise SourceError(
                f"{self._source.redacted}: none of {counted(index, 'picture')} can be read; check the folder"
            )
        if unread:
            of_all = f"{len(unread)} of {counted(index, 'picture')}"
            self.status = f"damaged: {of_all} cannot be read, first {printable(unread[0])}"


def _nothing() -> np.ndarray:
    raise AssertionError("a picture with a fault is never converted")


def _pictures(path: Path) -> Iterator[np.ndarray | None]:
    """Those in a file, BGR; None for one that cannot be read or of which half is missing."""
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    return pages(data)
