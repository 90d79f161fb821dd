"""Kinds of source: which paths and addresses mean one, and how its pictures are read."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stages.plugins import Plugins

if TYPE_CHECKING:
    from stages.decode.snippets import DecodedFrame


class Reader(Protocol):
    """The pictures of one recording, once."""

    status: str
    """Valid once they have all been read: `complete`, or in one line what was wrong (`damaged: ...`)."""

    def pictures(self) -> Generator[DecodedFrame, None, None]:
        """Every picture in the order shown, at most `settings.height` high, its time rising. What is known to be lost
        is a picture with a fault. Memory does not grow with their number; closing it lets go of the file.

        Raises SourceError if it cannot be opened, or holds no picture.
        """
        ...


def _none(what: object) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceKind:
    """What is known of a kind of source without opening one. Of several kinds that claim the same, the first by name
    has it."""

    name: str
    read: str
    """`module:function`. A recording's is called as `(source, settings, heartbeat)` and gives its Reader. A live one's
    is called as `(source, settings, heartbeat, elapsed_s, stopping)` and gives a context manager of its pictures; it
    raises SourceError if the camera cannot be opened, the pictures raise one when it fails, and end when `stopping`.
    A picture's time is what `elapsed_s` said when it came. Each calls `heartbeat` whenever something was read."""
    live: bool = False
    """It never ends, and does not wait for who reads it."""
    suffixes: frozenset[str] = frozenset()
    """Endings (`.mp4`, small letters) of files that are sources of this kind, named outright or found by a search."""
    any_file: bool = False
    """So are all files named outright that no other kind claims."""
    claims_file: Callable[[Path], bool] = _none
    """Whether a file named outright is one by what it holds, whatever its ending. May raise OSError."""
    claims_folder: Callable[[Path], bool] = _none
    """Whether a folder in which no file is a source is one as a whole. May raise OSError."""
    claims_address: Callable[[str], bool] = _none
    """Whether an address (`scheme://...`) or a device's path is a source of this kind."""
    addresses: str = ""
    """What is claimed, in words for who gave a wrong one: `rtsp:// or /dev/videoN`."""


SOURCES = Plugins("oddwatch.sources", "kind of source", SourceKind)
