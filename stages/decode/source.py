"""What may be watched or scored: which paths and addresses mean which sources, and what they are called."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages.decode.natural_order import natural_key, pictures_in
from stages.decode.redact import redact
from stages.decode.sources.registry import SOURCES, SourceKind
from stages.errors import UsageError
from stages.text import printable

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Something that can be opened."""

    kind: str
    """Name of its SourceKind."""
    uri: str = field(repr=False)
    """A path or an address; may hold a password, so never print it."""
    redacted: str
    """The same, fit for logs, streams, metrics and reports."""
    camera: str
    """Matches stages.messages.CAMERA_NAME."""

    @property
    def live(self) -> bool:
        """Whether it never ends. Raises ConfigError for an unknown kind."""
        return SOURCES.get(self.kind).live


def expand(paths: Sequence[str]) -> list[Source]:
    """The sources that arguments of a command line mean, each once, in natural order within an argument.

    Files named outright are taken whatever their extension; folders are searched to the bottom for videos, and a
    folder within them that holds pictures and no video is one image sequence; `*`, `?`, `[...]` and `**` are globs;
    rtsp(s)://, http(s):// and the like and /dev/videoN are live, except a web address that ends like a video file.
    Other kinds of source that are installed claim other endings, folders and addresses (SourceKind).
    Hidden files are passed over. Two files with the same content and stem share a camera name.
    Raises UsageError for a path that does not exist, a folder or a glob that holds nothing to score.
    """
    found: dict[str, Source] = {}
    for path in paths:
        for source in _meant_by(path):
            key = source.uri if SCHEME.match(source.uri) else os.path.realpath(source.uri)
            found.setdefault(key, source)
    return list(found.values())


def live_source(uri: str, camera: str) -> Source:
    """A camera that a configuration names. Raises UsageError for an address that cannot be one."""
    live = [kind for kind in SOURCES.all() if kind.live]
    claiming = [kind for kind in live if kind.claims_address(uri)]
    if not claiming:
        addresses = " or ".join(kind.addresses for kind in live if kind.addresses)
        # Without its scheme an address looks like a path, and may have a login all the same.
        shown = redact(uri) if SCHEME.match(uri) or "@" not in uri else f"***@{uri.rpartition('@')[2]}"
        raise UsageError(f"{redact(shown)}: not a camera; give {addresses}")
    _refuse_spaces(uri, camera)
    _refuse_raw_login(uri, camera)
    return Source(kind=claiming[0].name, uri=uri, redacted=redact(uri), camera=camera)


def _refuse_spaces(uri: str, camera: str) -> None:
    scheme = SCHEME.match(uri)
    if scheme is not None and re.search(r"\s", uri):
        raise UsageError(f"{scheme[0]}...: the address of camera {camera} holds a space; write it as %20")


def _refuse_raw_login(uri: str, camera: str) -> None:
    """A '/', '?' or '#' in a password ends what is read as the host: the rest would be asked for as a path."""
    scheme = SCHEME.match(uri)
    if scheme is None or "@" not in uri:
        return
    authority = re.split(r"[/?#]", uri[scheme.end() :], maxsplit=1)[0]
    port = authority.rpartition(":")[2] if ":" in authority.rpartition("]")[2] else ""
    if "@" not in authority and port and not port.isdigit():
        raise UsageError(
            f"{scheme[0]}***: the login of camera {camera} holds a raw '/', '?' or '#'; percent-encode it "
            "(%2F, %3F, %23; and %40 for @)"
        )


def camera_name(path: Path) -> str:
    """A stable camera name for a file or a folder of pictures: its stem and 8 hex digits of its content.

    The content of a file is its size and 1 MiB at its head, middle and tail; that of a folder the names and sizes of
    its pictures, the first and the last. It does not depend on where they lie. Raises OSError.
    """
    if path.is_dir():
        return _named(path.resolve().name, _folder_digest(path))
    return _named(path.stem, _file_digest(path))


def _meant_by(path: str) -> list[Source]:
    scheme = SCHEME.match(path)
    if scheme and scheme[1].lower() == "file":
        return _meant_by(path[len(scheme[0]) :])
    if not path.strip():
        raise UsageError("one of the paths is empty; if it comes from a variable, set that first")
    kinds = SOURCES.all()
    if scheme or any(kind.claims_address(path) for kind in kinds):
        return [_remote(path, kinds)]
    here = Path(path).expanduser()
    try:
        if here.is_dir():
            return _in_folder(here)
        if here.is_file():
            return [_local(_kind_of_file(here, kinds, named=True), here)]
        if here.exists():
            raise UsageError(f"{path}: neither a file nor a folder; give videos, folders, globs or camera addresses")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if glob.has_magic(path):
        return _in_glob(str(here))
    raise UsageError(f"{path}: no such file or folder; check the path")


def _remote(uri: str, kinds: Sequence[SourceKind]) -> Source:
    name = _named(re.sub(SCHEME, "", redact(uri)), hashlib.sha256(redact(uri).encode()))
    recordings = [kind for kind in kinds if not kind.live and kind.claims_address(uri)]
    if not recordings:
        return live_source(uri, name)
    _refuse_spaces(uri, name)
    return Source(kind=recordings[0].name, uri=uri, redacted=redact(uri), camera=name)


def _kind_of_file(path: Path, kinds: Sequence[SourceKind], *, named: bool = False) -> SourceKind | None:
    """`named`: whatever it is called, it is a source."""
    claiming = [kind for kind in kinds if path.suffix.lower() in kind.suffixes]
    if named and not claiming:
        claiming = [kind for kind in kinds if kind.claims_file(path)] or [kind for kind in kinds if kind.any_file]
    return next(iter(claiming), None)


def _local(kind: SourceKind | None, path: Path) -> Source:
    assert kind is not None
    try:
        name = camera_name(path)
    except OSError:
        # Whoever opens it will say what is wrong; until then it needs a name.
        name = _named(path.stem, hashlib.sha256(os.fsencode(path)))
    return Source(kind=kind.name, uri=str(path), redacted=printable(redact(str(path))), camera=name)


def _in_glob(pattern: str) -> list[Source]:
    # `*.dat` asks for those files; `*` asks for what is worth scoring.
    asked = Path(pattern).suffix != "" and not Path(pattern).suffix.endswith("*")
    kinds = SOURCES.all()
    sources: list[Source] = []
    for path in map(Path, sorted(glob.glob(pattern, recursive=True), key=natural_key)):
        if path.is_dir() and "**" not in pattern:
            sources += _sources_below(path)
        elif path.is_file() and (kind := _kind_of_file(path, kinds, named=asked)):
            sources.append(_local(kind, path))
    if not sources:
        raise UsageError(f"{pattern}: matches no video; check the pattern, and quote it so that the shell leaves it be")
    return sources


def _in_folder(folder: Path) -> list[Source]:
    sources = _sources_below(folder)
    if not sources:
        raise UsageError(f"{folder}: holds no videos and no pictures; name the files themselves if they are videos")
    return sources


def _sources_below(top: Path) -> list[Source]:
    kinds = SOURCES.all()
    found: list[tuple[SourceKind, Path]] = []
    for folder in _folders(top):
        files = [p for p in folder.iterdir() if not p.name.startswith(".") and not p.is_dir()]
        sources = [(kind, p) for p in files if (kind := _kind_of_file(p, kinds))]
        whole = () if sources else [(kind, folder) for kind in kinds if kind.claims_folder(folder)][:1]
        found += [*sources, *whole]
    return [_local(kind, path) for kind, path in sorted(found, key=lambda item: natural_key(item[1]))]


def _folders(top: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions") from error

    seen: set[tuple[int, int]] = set()
    for folder, below, _ in os.walk(top, followlinks=True, onerror=refuse):
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in seen:
            below.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        # In order, so that it is always the same one of two links to a folder that is followed.
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(folder)


def _named(stem: str, digest: hashlib._Hash) -> str:
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-.")[:55].rstrip("-.")
    return f"{safe or 'video'}-{digest.hexdigest()[:8]}"


def _file_digest(path: Path) -> hashlib._Hash:
    with path.open("rb") as f:
        size = f.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for start in (0, (size - SAMPLE_BYTES) // 2, size - SAMPLE_BYTES):
            f.seek(max(0, start))
            digest.update(f.read(SAMPLE_BYTES))
    return digest


def _folder_digest(folder: Path) -> hashlib._Hash:
    pictures = pictures_in(folder) or sorted((p for p in folder.iterdir() if p.is_file()), key=natural_key)
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(os.fsencode(picture.name) + f"\0{picture.stat().st_size}\0".encode())
    for picture in (pictures[0], pictures[-1]) if pictures else ():
        digest.update(picture.read_bytes())
    return digest
