"""Bringing snippets of any size to the fixed input of a network. All take and give uint8 (..., T, H, W, 3) RGB."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch.nn import functional as F

CROPS = 10


def at_least(pixels: np.ndarray, frames: int) -> np.ndarray:
    """`pixels` (T, H, W, 3); missing frames are made up by repeating the last."""
    missing = max(frames - len(pixels), 0)
    return np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])


def exactly(pixels: np.ndarray, frames: int) -> np.ndarray:
    """`frames` of the frames, evenly spread from the first to the last; too few are made up by repeating the last."""
    if len(pixels) <= frames:
        return at_least(pixels, frames)
    return pixels[np.arange(frames) * (len(pixels) - 1) // (frames - 1)]


def squashed(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture, aspect not kept; area when shrinking, bilinear when growing."""
    if pixels.shape[1:3] == (height, width):
        return pixels
    how = cv2.INTER_AREA if pixels.shape[1] >= height and pixels.shape[2] >= width else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in pixels])


def bilinear(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """As torchvision's video transforms resize: without smoothing when shrinking, rounded to 8 bits."""
    if pixels.shape[1:3] == (height, width):
        return pixels
    channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    resized = F.interpolate(channels_first, size=(height, width), mode="bilinear", align_corners=False)
    return np.ascontiguousarray(resized.round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def short_side(pixels: np.ndarray, side: int) -> np.ndarray:
    """`bilinear` to a shorter side of `side`, aspect kept as torchvision does."""
    height, width = pixels.shape[1:3]
    if height <= width:
        return bilinear(pixels, side, side * width // height)
    return bilinear(pixels, side * height // width, side)


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle `side` x `side`; half a pixel is rounded as torchvision does."""
    top, left = (round((size - side) / 2) for size in pixels.shape[1:3])
    return np.ascontiguousarray(pixels[:, top : top + side, left : left + side])


def ten(pixels: np.ndarray, side: int) -> np.ndarray:
    """(10, T, side, side, 3): top left, top right, bottom left, bottom right, middle; then the same mirrored."""
    height, width = pixels.shape[1:3]
    corners = [(0, 0), (0, width - side), (height - side, 0), (height - side, width - side)]
    five = [pixels[:, top : top + side, left : left + side] for top, left in corners] + [centre(pixels, side)]
    return np.stack(five + [crop[:, :, ::-1] for crop in five])
