"""Keeps damaged pictures, and those that build on them, from being scored."""

from __future__ import annotations

import av

LONGEST = 300
"""Frames after which the gate opens without a keyframe: cameras with intra refresh send none."""


class DamageGate:
    """Shut by damage until the next sound keyframe: what is smeared stays smeared until then."""

    def __init__(self) -> None:
        self._shut_for = 0

    def shut(self) -> None:
        """Something was lost before the next picture."""
        self._shut_for = LONGEST

    def fault(self, frame: av.VideoFrame, damaged: bool = False) -> str:
        """Why the next decoded frame must not be scored; empty if it may. `damaged`: its packet was known to be."""
        if frame.is_corrupt or damaged:
            self._shut_for = LONGEST
        elif frame.key_frame:
            self._shut_for = 0
        elif self._shut_for:
            self._shut_for -= 1
        return "damaged picture, or one that builds on it" if self._shut_for else ""
