"""Hides the audio tracks of MP4 and QuickTime files, whose sample index in FFmpeg is larger than that of the video."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import av

from stages.decode.containers.boxes import tracks

FREE = b"free"
"""The type of a box whose content readers ignore (ISO 14496-12)."""


class WithoutAudio:
    """A file object for PyAV, in which the given boxes are of type `free`, so that FFmpeg passes over them."""

    def __init__(self, file: io.FileIO, hidden: Sequence[int]) -> None:
        """`hidden`: where these boxes begin. The file is closed with the container that reads it."""
        self.name = str(file.name)
        self._file = file
        self._names = [at + 4 for at in hidden]

    def read(self, size: int) -> bytes:
        """The next bytes. Raises av.FFmpegError, as FFmpeg does where it reads itself."""
        try:
            at = self._file.tell()
            data = self._file.read(size)
        except OSError as error:
            raise av.FFmpegError(error.errno or 0, error.strerror or "") from error
        for name in self._names:
            if name < at + len(data) and at < name + len(FREE):
                begin, end = max(name, at), min(name + len(FREE), at + len(data))
                data = data[: begin - at] + FREE[begin - name : end - name] + data[end - at :]
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """The new place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self._file.tell()

    def __del__(self) -> None:
        self._file.close()


def without_audio(path: Path) -> WithoutAudio | None:
    """The file without audio; None where it has none, or no video, or FFmpeg must read it itself. Raises OSError."""
    if _interruptible():
        return None
    found = tracks(path)
    sound = [track.at for track in found if track.kind == b"soun"]
    if not sound or all(track.kind != b"vide" for track in found):
        return None
    return WithoutAudio(io.FileIO(path), sound)


def _interruptible() -> bool:
    """Whether a signal may raise an exception here: PyAV would take a read that it ends for the end of the file."""
    handlers = map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))
    return threading.current_thread() is threading.main_thread() and any(map(callable, handlers))
