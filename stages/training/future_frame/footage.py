"""Normal footage for future-frame predictors: decoded as live, kept as small pictures, some of it held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import Source
from stages.errors import OddwatchError, UsageError
from stages.files.manifest import ManifestEntry
from stages.messages import End, Snippet
from stages.temporal.future_frame.format import FrameFormat
from stages.text import counted

HELD_OUT = 4
"""One group of clips of so many is not trained on; of fewer groups, the end of each clip."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """Unbroken footage in which nothing odd happens."""

    frames: np.ndarray
    """uint8 (T, C, height, width), as a network sees them."""
    times_s: np.ndarray
    """float64 (T,)."""
    group: str
    """Clips of one group (source, scene) are held out together."""

    def __len__(self) -> int:
        return len(self.frames)

    def part(self, frames: slice) -> Clip:
        """Some of it."""
        return Clip(frames=self.frames[frames], times_s=self.times_s[frames], group=self.group)


def normal_entries(entries: Sequence[ManifestEntry]) -> list[ManifestEntry]:
    """Those in which nothing is known to be odd. Raises UsageError when there are none."""
    normal = [entry for entry in entries if entry.label != 1 and not entry.anomalies]
    if not normal:
        raise UsageError(
            f"no normal video among {len(entries)}: all hold anomalies (label 1), and future_frame learns from normal "
            "footage only; list videos with label 0"
        )
    return normal


def read_clips(
    source: Source,
    group: str,
    settings: DecodeSettings,
    form: FrameFormat,
    on_frames: Callable[[int], None] | None = None,
) -> list[Clip]:
    """The unbroken pieces of a file, through the same decoder as live. Raises SourceError.

    `on_frames` is told how many frames are done.
    """
    kept: list[list[np.ndarray]] = [[]]
    times: list[list[np.ndarray]] = [[]]
    for message in read_messages(source, settings, 0, lambda: 0.0):
        if isinstance(message, Snippet):
            kept[-1].append(form.frames(message.pixels))
            times[-1].append(message.times_s[message.picked])
        elif not isinstance(message, End):
            kept.append([])
            times.append([])
        if on_frames is not None and not isinstance(message, End):
            on_frames(message.next_frame)
    return [
        Clip(frames=np.concatenate(frames), times_s=np.concatenate(times_s), group=group)
        for frames, times_s in zip(kept, times, strict=True)
        if frames
    ]


def hold_out(clips: Sequence[Clip], least: int) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on, and footage that is only scored. `least`: frames below which a piece is of no use.

    Raises OddwatchError when nothing is left to train on or to score.
    """
    groups = sorted({clip.group for clip in clips})
    if len(groups) >= HELD_OUT:
        out = set(groups[HELD_OUT - 1 :: HELD_OUT])
        trained = [clip for clip in clips if clip.group not in out]
        held = [clip for clip in clips if clip.group in out]
    else:
        cuts = [max(0, len(clip) - max(least, len(clip) // HELD_OUT)) for clip in clips]
        trained = [clip.part(slice(None, cut)) for clip, cut in zip(clips, cuts, strict=True)]
        held = [clip.part(slice(cut, None)) for clip, cut in zip(clips, cuts, strict=True)]
    trained, held = ([clip for clip in part if len(clip) >= least] for part in (trained, held))
    if not trained or not held:
        raise OddwatchError(
            f"too little normal footage to learn from: {counted(sum(map(len, clips)), 'frame')} in "
            f"{counted(len(clips), 'clip')}, need "
            f"clips of {2 * least} frames and more; give more or longer files"
        )
    return trained, held


def fingerprint(clips: Sequence[Clip]) -> str:
    """SHA-256 of the frames, their times and groups."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(np.ascontiguousarray(clip.frames).tobytes())
        digest.update(clip.times_s.tobytes())
        digest.update(f"{clip.frames.shape} {clip.group}".encode())
    return digest.hexdigest()
