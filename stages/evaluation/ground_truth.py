"""Published annotations to a manifest's intervals: frames counted from 0, both ends inside.

Every builder takes `frames`, the number of frames that OUR decoder finds in each video (the rows of its
`scores.csv`), because published ground truths differ by their frame counts: rounded up to whole snippets (RTFM),
down with one frame fewer (UR-DMU), or OpenCV's guess (Sultani). Intervals are clipped to it, masks must match it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.errors import ConfigError
from stages.evaluation.metrics import runs_of, truth_mask
from stages.files.manifest import Interval
from stages.files.matlab import read_mat

Truth = dict[str, tuple[Interval, ...]]
"""Name of a video as its annotation spells it -> anomalous intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What the two numbers of an annotation mean."""

    counts_from: int
    """Number of a video's first frame: 0 or 1."""
    end_inside: bool


MATLAB = Convention(counts_from=1, end_inside=True)
"""Sultani's evaluation of UCF-Crime; UCSD; Avenue."""
RTFM = Convention(counts_from=0, end_inside=True)
PYTHON = Convention(counts_from=0, end_inside=False)
"""ekosman's UCF-Crime; XD-Violence (taken to be so: its evaluation slices with the numbers as they are)."""


def ucfcrime(text: str, frames: Mapping[str, int], convention: Convention = MATLAB) -> Truth:
    """UCF-Crime's Temporal_Anomaly_Annotation.txt: `Abuse028_x264.mp4  Abuse  165  240  -1  -1`, -1 for none.

    The ends of 5 videos lie 1 frame or more behind the video; they are clipped.
    """
    truth: Truth = {}
    for number, words in _words(text):
        if len(words) != 6:
            raise ConfigError(f"UCF-Crime annotation, line {number}: expected 6 columns, got {len(words)}")
        pairs = [pair for pair in _pairs(words[2:], "UCF-Crime", number) if pair != (-1, -1)]
        truth[words[0]] = _intervals(pairs, words[0], frames, convention)
    return truth


def xd_violence(text: str, frames: Mapping[str, int], convention: Convention = PYTHON) -> Truth:
    """XD-Violence's annotations.txt: `NAME_label_B1-0-0 12 95 140 260`; videos that it omits are normal."""
    truth: Truth = {name: () for name in frames}
    for number, words in _words(text):
        truth[words[0]] = _intervals(_pairs(words[1:], "XD-Violence", number), words[0], frames, convention)
    return truth


def ucsd(text: str, frames: Mapping[str, int]) -> Truth:
    """UCSD's UCSDped1.m, UCSDped2.m: `TestVideoFile{end+1}.gt_frame = [5:90, 140:200];` for Test001, Test002, ..."""
    truth: Truth = {}
    for i, match in enumerate(re.finditer(r"^[^%\n]*gt_frame\s*=\s*\[([^\]]*)\]", text, re.MULTILINE), start=1):
        pairs = [(int(a), int(b)) for a, b in re.findall(r"(\d+)\s*:\s*(\d+)", match[1])]
        truth[f"Test{i:03}"] = _intervals(pairs, f"Test{i:03}", frames, MATLAB)
    if not truth:
        raise ConfigError("UCSD ground truth: no line like 'TestVideoFile{end+1}.gt_frame = [61:180];'")
    return truth


def from_mask(mask: np.ndarray, name: str, frames: int) -> tuple[Interval, ...]:
    """Intervals of a mask (N,) or (N, H, W), non-zero = anomalous: ShanghaiTech's frame masks, UCSD's pixel masks.

    Raises ConfigError unless N is the number of decoded frames: a shifted mask cannot be seen later.
    """
    if len(mask) != frames:
        raise ConfigError(f"{name}: the mask has {len(mask)} frames, the video {frames}; decode the original frames")
    return tuple(runs_of(np.any(mask.reshape(frames, -1) != 0, axis=1)))


def shanghaitech(folder: Path, frames: Mapping[str, int]) -> Truth:
    """ShanghaiTech's test_frame_mask/01_0014.npy: 0 or 1 for each frame."""
    return {name: from_mask(_numpy(folder / f"{name}.npy"), name, count) for name, count in frames.items()}


def avenue_pixels(path: Path, frames: int) -> tuple[Interval, ...]:
    """Avenue's testing_label_mask/1_label.mat: `volLabel`, a cell of one mask (H, W) per frame."""
    masks = np.stack([np.asarray(mask) for mask in _matlab(path, "volLabel").ravel()])
    return from_mask(masks, path.name, frames)


def gt_mat(path: Path, frames: Mapping[str, int]) -> Truth:
    """The `gt` of future-frame codes (avenue.mat, ped2.mat): a cell per video of first and last frames (2, K).

    The names in `frames` are taken in sorted order, as those codes list the folders of the videos.
    """
    cells = _matlab(path, "gt").ravel()
    if len(cells) != len(frames):
        raise ConfigError(f"{path}: has {len(cells)} videos, expected the {len(frames)} test videos")
    truth: Truth = {}
    for name, cell in zip(sorted(frames), cells, strict=True):
        ends = np.asarray(cell).reshape(2, -1).astype(int)
        truth[name] = _intervals([(int(a), int(b)) for a, b in ends.T], name, frames, MATLAB)
    return truth


def _words(text: str) -> Iterable[tuple[int, list[str]]]:
    lines = enumerate(text.splitlines(), start=1)
    return [(number, line.split()) for number, line in lines if line.strip()]


def _pairs(words: list[str], source: str, number: int) -> list[tuple[int, int]]:
    try:
        values = [int(word) for word in words]
    except ValueError as error:
        raise ConfigError(f"{source} annotation, line {number}: expected frame numbers, got {words}") from error
    if len(values) % 2:
        raise ConfigError(f"{source} annotation, line {number}: a first frame without a last one: {words}")
    return list(zip(values[::2], values[1::2], strict=True))


def _intervals(
    pairs: Iterable[tuple[int, int]], name: str, frames: Mapping[str, int], convention: Convention
) -> tuple[Interval, ...]:
    """Intervals from 0 with both ends inside, clipped to the video; one that lies behind its end is an error."""
    if name not in frames:
        raise ConfigError(f"{name}: annotated, but its number of frames is not known; score the video first")
    intervals = []
    for start, end in pairs:
        first = max(start - convention.counts_from, 0)
        last = end - convention.counts_from - (not convention.end_inside)
        if not first <= last or first >= frames[name]:
            raise ConfigError(f"{name}: frames {start} to {end} do not lie in its {frames[name]} frames")
        intervals.append((first, min(last, frames[name] - 1)))
    return tuple(runs_of(truth_mask(intervals, frames[name])))


def _numpy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read the mask ({error})") from error


def _matlab(path: Path, key: str) -> np.ndarray:
    try:
        content = read_mat(path)
    except ValueError as error:
        raise ConfigError(f"{path}: cannot read the MATLAB file ({error})") from error
    if key not in content:
        raise ConfigError(f"{path}: has no {key!r}")
    return np.asarray(content[key])
