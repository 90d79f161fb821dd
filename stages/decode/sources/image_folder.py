"""Reads a folder of pictures as one video."""

from __future__ import annotations

from collections.abc import Generator
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
from stages.errors import SourceError
from stages.text import counted, printable


class ImageFolder:
    """The pictures of a folder in natural order, `image_fps` a second. A picture that cannot be read is a gap."""

    def __init__(self, source: Source, settings: DecodeSettings, heartbeat: Heartbeat = no_heartbeat) -> None:
        self._source = source
        self._settings = settings
        self._heartbeat = heartbeat
        self.status = "complete"

    def pictures(self) -> Generator[DecodedFrame, None, None]:
        """Each file's picture. Raises SourceError if none of them can be read."""
        try:
            paths = pictures_in(Path(self._source.uri))
        except OSError as error:
            raise SourceError(f"{self._source.redacted}: cannot be listed ({error.strerror}); check path") from error
        scaler = None
        unread: list[str] = []
        for index, path in enumerate(paths):
            self._heartbeat()
            frame = _frame(path)
            time_s = index / self._settings.image_fps
            if frame is None:
                unread.append(path.name)
                yield DecodedFrame(time_s=time_s, pixels=_nothing, fault="picture file cannot be read")
                continue
            scaler = scaler or Scaler(frame, self._settings.height)
            yield DecodedFrame(time_s=time_s, pixels=partial(scaler.pixels, frame))
        if scaler is None:
            raise SourceError(
                f"{self._source.redacted}: none of {counted(len(paths), 'picture')} can be read; check the folder"
            )
        if unread:
            of_all = f"{len(unread)} of {counted(len(paths), 'picture')}"
            self.status = f"damaged: {of_all} cannot be read, first {printable(unread[0])}"


def _nothing() -> np.ndarray:
    raise AssertionError("a picture with a fault is never converted")


def _frame(path: Path) -> av.VideoFrame | None:
    """The picture in a file, None if there is none or half of it is missing."""
    try:
        data = path.read_bytes()
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except (OSError, cv2.error):
        return None
    # OpenCV paints what is missing of a JPEG grey and says nothing.
    if pixels is None or (data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-4096:]):
        return None
    return av.VideoFrame.from_ndarray(pixels, format="bgr24")
