"""Published annotations and the videos they are about -> the entries of a manifest.

How many frames a video has decides where an anomaly ends, so the rule is always one of two:
footage       the frames that our decoder finds, which are the rows of its scores file
feature file  16 frames for each row, as RTFM's ground truth has them
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stages.decode.natural_order import pictures_in
from stages.decode.read import open_recording
from stages.decode.settings import DecodeSettings
from stages.decode.source import Source, expand
from stages.decode.sources.kinds import VIDEO_SUFFIXES
from stages.errors import ConfigError, UsageError
from stages.evaluation.ground_truth import (
    MATLAB,
    Convention,
    Truth,
    avenue_pixels,
    from_mask,
    gt_mat,
    shanghaitech,
    ucfcrime,
    ucsd,
    xd_violence,
)
from stages.evaluation.replay import ROW_FRAMES
from stages.features.feature_files import SUFFIXES, read_features
from stages.files.manifest import ManifestEntry

CROP = re.compile(r"__\d$")
"""End of the name of one crop's features; the crops together are the video."""
NUMBER = re.compile(r"(\d+)\D*$")
MASKS = "_gt"


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """A video in the user's folder: footage, or features of it."""

    path: Path
    source: Source | None
    """None: a feature file."""

    def frames(self) -> int:
        """By the rule of this module. Raises SourceError."""
        if self.source is None:
            return len(read_features(self.path)) * ROW_FRAMES
        with closing(open_recording(self.source, DecodeSettings()).pictures()) as pictures:
            return sum(1 for _ in pictures)


def videos_in(folder: Path) -> dict[str, FoundVideo]:
    """The footage in a folder by name, or the feature files where there is none.

    Raises UsageError for neither, or two videos of one name.
    """
    try:
        sources = expand([str(folder)])
    except UsageError:
        features = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not features:
            raise
        wholes = [p.with_name(CROP.sub("", p.stem) + p.suffix) for p in features]
        return {whole.stem: FoundVideo(whole, None) for whole in wholes}
    found: dict[str, FoundVideo] = {}
    for source in sources:
        path = Path(source.uri)
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise UsageError(f"{path} and {found[name].path}: two videos of one name; give a folder that has one")
        found[name] = FoundVideo(path, source)
    return found


def by_name(annotated: Iterable[str], videos: Mapping[str, FoundVideo]) -> dict[str, FoundVideo]:
    """Annotated name -> its video: of that name, or of that name and an ending (`Abuse028_x264_i3d`)."""
    matched = {}
    for name in annotated:
        stem = _stem(name)
        found = [stem] if stem in videos else [v for v in videos if v.startswith(f"{stem}_")]
        if len(found) > 1:
            raise UsageError(f"{name}: could be {' or '.join(sorted(found)[:3])}; give a folder that has one of them")
        if found:
            matched[name] = videos[found[0]]
    return matched


def by_number(videos: Mapping[str, FoundVideo], name: str) -> dict[str, FoundVideo]:
    """Videos that are named by a number (`01.avi`, `Test001`), under `name` with that number: `Test{:03}`.

    Published folders of masks beside them (`Test001_gt`) are none. Raises UsageError for two videos of one number.
    """
    matched: dict[str, FoundVideo] = {}
    for own, video in videos.items():
        if own.endswith(MASKS) or not (number := NUMBER.search(own)):
            continue
        numbered = name.format(int(number[1]))
        if numbered in matched:
            other = matched[numbered].path
            raise UsageError(f"{video.path} and {other}: two videos of one number; give the folder of the test videos")
        matched[numbered] = video
    return matched


Count = Callable[[Mapping[str, FoundVideo]], dict[str, int]]
"""Name -> frames of each video; takes long on footage, and may show progress."""


def from_ucf_crime(
    path: Path, videos: Mapping[str, FoundVideo], count: Count, convention: Convention = MATLAB
) -> AnnotatedVideos:
    """Temporal_Anomaly_Annotation.txt."""
    return _from_lines(path, videos, lambda text, frames: ucfcrime(text, frames, convention), count)


def from_xd_violence(path: Path, videos: Mapping[str, FoundVideo], count: Count) -> AnnotatedVideos:
    """annotations.txt; videos that it omits are normal."""
    matched, text, left = _lines_of(path, videos)
    used = {id(video) for video in matched.values()}
    matched |= {name: video for name, video in videos.items() if id(video) not in used}
    return AnnotatedVideos(matched, xd_violence(text, count(matched)), left)


def from_shanghaitech(folder: Path, videos: Mapping[str, FoundVideo], count: Count) -> AnnotatedVideos:
    """test_frame_mask/*.npy, a mask for each test video."""
    names = [p.stem for p in sorted(folder.glob("*.npy"))]
    if not names:
        raise UsageError(f"{folder}: holds no masks like 01_0014.npy; give the folder test_frame_mask")
    matched = by_name(names, videos)
    return AnnotatedVideos(matched, shanghaitech(folder, count(matched)), [n for n in names if n not in matched])


def from_ucsd(path: Path, videos: Mapping[str, FoundVideo], count: Count) -> AnnotatedVideos:
    """UCSDped2.m, ped2.mat, pixel masks in one .npz by video, or the folder with Test001_gt/*.bmp."""
    matched = by_number(videos, "Test{:03}")
    frames = count(matched)
    if path.is_dir():
        folders = {p.name.removesuffix(MASKS): p for p in sorted(path.glob(f"*{MASKS}")) if p.is_dir()}
        masks = ((name, _pictures(folder)) for name, folder in folders.items())
        return _from_masks(masks, matched, frames, path)
    if path.suffix == ".npz":
        return _from_masks(_arrays(path), matched, frames, path)
    truth = gt_mat(path, frames) if path.suffix == ".mat" else ucsd(_text(path), frames)
    return AnnotatedVideos(matched, truth, [])


def from_avenue(path: Path, videos: Mapping[str, FoundVideo], count: Count) -> AnnotatedVideos:
    """testing_label_mask/1_label.mat ..., or avenue.mat of future-frame codes."""
    matched = by_number(videos, "{:02}")
    frames = count(matched)
    if not path.is_dir():
        return AnnotatedVideos(matched, gt_mat(path, frames), [])
    labels = {name: path / f"{int(name)}_label.mat" for name in matched}
    return AnnotatedVideos(matched, {name: avenue_pixels(label, frames[name]) for name, label in labels.items()}, [])


@dataclass(frozen=True, slots=True)
class AnnotatedVideos:
    """Annotated videos."""

    videos: Mapping[str, FoundVideo]
    truth: Truth
    missing: Sequence[str]
    """Annotated names that no video was found for."""

    def entries(self, manifest: Path, split: str | None) -> list[ManifestEntry]:
        """For a manifest at that place."""
        return [
            ManifestEntry(
                video=Path(os.path.relpath(self.videos[name].path, manifest.parent)).as_posix(),
                path=self.videos[name].path,
                split=split,
                label=int(bool(intervals)),
                anomalies=intervals,
            )
            for name, intervals in sorted(self.truth.items())
            if name in self.videos
        ]


def _from_lines(
    path: Path, videos: Mapping[str, FoundVideo], parse: Callable[[str, Mapping[str, int]], Truth], count: Count
) -> AnnotatedVideos:
    matched, text, left = _lines_of(path, videos)
    return AnnotatedVideos(matched, parse(text, count(matched)), left)


def _lines_of(path: Path, videos: Mapping[str, FoundVideo]) -> tuple[dict[str, FoundVideo], str, list[str]]:
    """Videos by annotated name, the lines about them, and the names of those that are not there."""
    lines = [line for line in _text(path).splitlines() if line.strip()]
    names = [line.split()[0] for line in lines]
    matched = by_name(names, videos)
    kept = "\n".join(line for line, name in zip(lines, names, strict=True) if name in matched)
    return matched, kept, [name for name in names if name not in matched]


def _from_masks(
    masks: Iterable[tuple[str, np.ndarray]], videos: Mapping[str, FoundVideo], frames: Mapping[str, int], path: Path
) -> AnnotatedVideos:
    truth: Truth = {}
    missing = []
    for own, mask in masks:
        number = NUMBER.search(own)
        name = f"Test{int(number[1]):03}" if number else own
        if name in videos:
            truth[name] = from_mask(mask, own, frames[name])
        else:
            missing.append(own)
    if not truth:
        raise UsageError(f"{path}: holds no mask of one of the videos")
    return AnnotatedVideos(videos, truth, missing)


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                yield name, arrays[name]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read the masks ({error})") from error


def _pictures(folder: Path) -> np.ndarray:
    """Masks (N, H, W) of a folder of pictures."""
    masks = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in pictures_in(folder)]
    known = [mask for mask in masks if mask is not None]
    if not known or len(known) != len(masks):
        raise ConfigError(f"{folder}: {len(known)} of {len(masks)} masks can be read as pictures; get them again")
    return np.stack(known)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{path}: cannot read the annotation ({reason})") from error


def _stem(name: str) -> str:
    # XD-Violence names films, dots and all.
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in VIDEO_SUFFIXES else name
