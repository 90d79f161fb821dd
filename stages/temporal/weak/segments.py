"""A video of any length as a fixed number of segments, for training bags; and segment scores back to frames.

Sultani et al. (CVPR 2018), rules of their Save_C3DFeatures_32Segments.m and Evaluate_Anomaly_Detector.m;
Tian et al. (RTFM, ICCV 2021), rule of their process_feat.
"""

from __future__ import annotations

import numpy as np

SEGMENTS = 32


def unit_rows(x: np.ndarray) -> np.ndarray:
    """`x` (..., D) with every vector divided by its L2 norm; a zero vector stays zero."""
    norm = np.sqrt(np.sum(np.square(x, dtype=np.float64), axis=-1, keepdims=True))
    return (x / np.where(norm > 0, norm, 1)).astype(np.float32)


def sultani_bounds(clips: int, segments: int = SEGMENTS, *, paper: bool = False) -> np.ndarray:
    """First and last clip (0-based, inclusive) of each segment: int (segments, 2).

    Edges are round(linspace(1, clips, segments + 1)), halves away from zero, in integers so that no tie is lost;
    an empty range means its first clip alone. As published (`paper`) the last clip belongs to no segment of a video
    of 18 clips or more; by default the last segment ends with it.
    """
    _need(clips, segments)
    edges = (2 * (clips - 1) * np.arange(segments + 1) + segments) // (2 * segments)
    first, last = edges[:-1], np.maximum(edges[1:] - 1, edges[:-1])
    if not paper:
        last[-1] = clips - 1
    return np.stack([first, last], axis=1)


def pool_sultani(x: np.ndarray, segments: int = SEGMENTS, *, paper: bool = False) -> np.ndarray:
    """Clip features (N, D) -> segment features float32 (segments, D): the mean of a segment's clips, then unit length.

    Mean first and L2 afterwards, as the code has it (the paper tells it the other way round).
    """
    bounds = sultani_bounds(len(x), segments, paper=paper)
    return unit_rows(np.stack([x[first : last + 1].mean(axis=0, dtype=np.float64) for first, last in bounds]))


def pool_rtfm(x: np.ndarray, segments: int = SEGMENTS) -> np.ndarray:
    """Clip features (N, ..., D) -> segment features float32 (segments, ..., D): means, no normalisation.

    Segment i covers clips floor(i N / segments) up to the next edge, or the clip at its edge if that range is empty.
    """
    _need(len(x), segments)
    edges = np.linspace(0, len(x), segments + 1, dtype=int)
    ends = np.maximum(edges[1:], edges[:-1] + 1)
    return np.stack([x[a:b].mean(axis=0, dtype=np.float64) for a, b in zip(edges[:-1], ends, strict=True)]).astype(
        np.float32
    )


def segments_to_frames(
    scores: np.ndarray, clips: int, frames: int, *, clip_frames: int = 16, paper: bool = False
) -> np.ndarray:
    """Segment scores (S,) -> frame scores (frames,); where segments share a clip the later one counts.

    Frames after the last clip take the last value. As published (`paper`) the last clip of a video of 18 clips or
    more has no segment, so it and those frames are 0.
    """
    per_clip = np.zeros(clips, scores.dtype)
    for (first, last), score in zip(sultani_bounds(clips, len(scores), paper=paper), scores, strict=True):
        per_clip[first : last + 1] = score
    expanded = np.repeat(per_clip, clip_frames)[:frames]
    return np.concatenate([expanded, np.full(frames - len(expanded), per_clip[-1])])


def _need(clips: int, segments: int) -> None:
    if clips < 1 or segments < 1:
        raise ValueError(f"cannot make {segments} segments of {clips} clips")
