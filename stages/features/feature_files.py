"""Features that others extracted: `.npy`, `.npz` and `.txt` files, in the layouts research publishes them.

clip.npy                     (T, D), or (T, crops, D): UCF-Crime and ShanghaiTech as RTFM has them
clip.npy, where only clip__0.npy, clip__1.npy ... exist: one file per crop, as for XD-Violence
clip.npz                     the one array in it
all.npz#clip                 the array called `clip` of several
clip.txt                     a row of numbers per snippet or segment, as for C3D on UCF-Crime
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from stages.errors import SourceError

SUFFIXES = frozenset({".npy", ".npz", ".txt"})
MOST_CROPS = 10
FROM_FILES = "file"
"""What stands for the extractor of such features."""
LARGEST = 1e6
"""Features beyond this size are damage, here as when scoring."""


def extractor_of_files(dim: int) -> str:
    """What a checkpoint says it was trained on when that came from files: nothing that runs live."""
    return f"{FROM_FILES}@{dim}"


def is_from_files(extractor: str) -> bool:
    """Whether a checkpoint's `extractor` says that its features came from files."""
    return extractor.partition("@")[0] == FROM_FILES


def is_feature_file(path: Path) -> bool:
    """Whether a manifest's `video` names features rather than footage."""
    return _file_and_member(path)[0].suffix.lower() in SUFFIXES


def read_features(path: Path) -> np.ndarray:
    """The features of one video, float32 (T, crops, D); crops is 1 where the file has none.

    Raises SourceError naming the file, what was got and the remedy. Nothing pickled is loaded.
    """
    values = _layout(_crop_files(path) if _is_split(path) else _array(path), path)
    for start in range(0, len(values), 4096):  # A mapped file may be larger than memory.
        if not np.all(np.abs(values[start : start + 4096]) <= LARGEST):
            raise SourceError(f"{path}: holds numbers that are not finite or beyond {LARGEST:g}; extract it again")
    return values


def _is_split(path: Path) -> bool:
    return path.suffix.lower() == ".npy" and not path.exists() and _crop(path, 0).exists()


def _crop(path: Path, index: int) -> Path:
    return path.with_name(f"{path.stem}__{index}{path.suffix}")


def _crop_files(path: Path) -> np.ndarray:
    crops: list[np.ndarray] = []
    while (file := _crop(path, len(crops))).exists():
        crops.append(_array(file))
    if len({crop.shape for crop in crops}) != 1 or crops[0].ndim != 2:
        shapes = ", ".join(str(crop.shape) for crop in crops)
        raise SourceError(f"{_crop(path, 0)} and the other crops: expected equal shapes (T, D), got {shapes}")
    return np.stack(crops, axis=1)


def _array(path: Path) -> np.ndarray:
    file, member = _file_and_member(path)
    try:
        if file.suffix.lower() == ".npz":
            return _member(file, member)
        if file.suffix.lower() == ".txt":
            return np.loadtxt(file.read_text(encoding="ascii").replace(",", " ").splitlines(), np.float32, ndmin=2)
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:120]
        if "pickle" in reason:  # NumPy goes on to advise to load it unsafely.
            reason = "it is no file of NumPy's, or holds Python objects"
        raise SourceError(f"{file}: not an array of plain numbers ({reason}); save it with numpy.save") from error


def _file_and_member(path: Path) -> tuple[Path, str]:
    """`all.npz#clip` -> (`all.npz`, `clip`). Only there: videos of XD-Violence have a # in their names."""
    name, found, member = path.name.partition(".npz#")
    return (path.with_name(f"{name}.npz"), member) if found else (path, "")


def _member(file: Path, member: str) -> np.ndarray:
    with np.load(file, allow_pickle=False) as arrays:
        names = arrays.files
        if not member and len(names) == 1:
            member = names[0]
        if member not in names:
            wanted = f"no array {member!r}" if member else f"{len(names)} arrays"
            some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise SourceError(f"{file}: holds {wanted}; write {file.name}#NAME with one of: {some}")
        return arrays[member]


def _layout(values: np.ndarray, path: Path) -> np.ndarray:
    """(D,), (T, D), (T, crops, D), each with trailing axes of 1, as float32 (T, crops, D)."""
    if values.dtype.kind not in "fiu":
        raise SourceError(f"{path}: expected numbers, got {values.dtype}")
    got = values.shape
    while values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    values = values[None] if values.ndim == 1 else values
    values = values[:, None] if values.ndim == 2 else values
    if values.ndim != 3 or 0 in values.shape or values.shape[1] > MOST_CROPS:
        raise SourceError(
            f"{path}: expected (T, D) or (T, crops, D) with at most {MOST_CROPS} crops, got {got}; "
            "transpose it and save it again"
        )
    return values.astype(np.float32, copy=False)
