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
from typing import Literal

from stages.decode.redact import redact
from stages.errors import UsageError

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".amv", ".asf", ".avc", ".avi", ".dav", ".divx", ".dv", ".f4v", ".flv", ".gif",
    ".gxf", ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg",
    ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm",
    ".rmvb", ".tod", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".xvid", ".y4m",
})
IMAGE_SUFFIXES = frozenset({
    ".bmp", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on
LIVE_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "rtp")
REMOTE_FILE_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
"""Over HTTP these end and have a clock of their own. Not .ts, .flv, .mjpeg: cameras serve those without end."""

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
DEVICE = re.compile(r"/dev/video\d+\Z")
SAMPLE_BYTES = 1 << 20

Kind = Literal["file", "images", "live"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Something that can be opened."""

    kind: Kind
    uri: str = field(repr=False)
    """A path or an address; may hold a password, so never print it."""
    redacted: str
    """The same, fit for logs, streams, metrics and reports."""
    camera: str
    """Matches stages.messages.CAMERA_NAME."""


def expand(paths: Sequence[str]) -> list[Source]:
    """The sources that arguments of a command line mean, each once, in natural order within an argument.

    Files named outright are taken whatever their extension; folders are searched to the bottom for videos, and a
    folder within them that holds pictures and no video is one image sequence; `*`, `?`, `[...]` and `**` are globs;
    rtsp(s)://, http(s):// and the like and /dev/videoN are live, except a web address that ends like a video file.
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
    if DEVICE.match(uri):
        return Source(kind="live", uri=uri, redacted=uri, camera=camera)
    scheme = SCHEME.match(uri)
    if scheme is None or scheme[1].lower() not in LIVE_SCHEMES:
        raise UsageError(f"{redact(uri)}: not a camera; give {', '.join(LIVE_SCHEMES)}:// or /dev/videoN")
    if re.search(r"\s", uri):
        raise UsageError(f"{scheme[0]}...: the address of camera {camera} holds a space; write it as %20")
    return Source(kind="live", uri=uri, redacted=redact(uri), camera=camera)


def natural_key(path: str | Path) -> tuple:
    """Sorts `clip2` before `clip10`, folder by folder."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in str(path).split(os.sep)]
    return [[int(s) if i % 2 else s for i, s in enumerate(part)] for part in parts], str(path)


def camera_name(path: Path) -> str:
    """A stable camera name for a file or a folder of pictures: its stem and 8 hex digits of its content.

    The content of a file is its size and 1 MiB at its head, middle and tail; that of a folder the names and sizes of
    its pictures, the first and the last. It does not depend on where they lie. Raises OSError.
    """
    if path.is_dir():
        return _named(path.resolve().name, _folder_digest(path))
    return _named(path.stem, _file_digest(path))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in natural order. Raises OSError."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return sorted((p for p in found if p.is_file()), key=natural_key)


def _meant_by(path: str) -> list[Source]:
    scheme = SCHEME.match(path)
    if scheme and scheme[1].lower() == "file":
        return _meant_by(path[len(scheme[0]) :])
    if scheme or DEVICE.match(path):
        return [_remote(path)]
    here = Path(path).expanduser()
    try:
        if here.is_dir():
            return _in_folder(here)
        if here.is_file():
            return [_local("file", here)]
        if here.exists():
            raise UsageError(f"{path}: neither a file nor a folder; give videos, folders, globs or camera addresses")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if glob.has_magic(path):
        return _in_glob(str(here))
    raise UsageError(f"{path}: no such file or folder; check the path")


def _remote(uri: str) -> Source:
    name = _named(re.sub(SCHEME, "", redact(uri)), hashlib.sha256(redact(uri).encode()))
    source = live_source(uri, name)
    is_file = uri.lower().startswith("http") and Path(re.split(r"[?#]", uri)[0]).suffix.lower() in REMOTE_FILE_SUFFIXES
    return Source(kind="file", uri=uri, redacted=source.redacted, camera=name) if is_file else source


def _local(kind: Kind, path: Path) -> Source:
    try:
        name = camera_name(path)
    except OSError:
        # Whoever opens it will say what is wrong; until then it needs a name.
        name = _named(path.stem, hashlib.sha256(os.fsencode(path)))
    return Source(kind=kind, uri=str(path), redacted=redact(str(path)), camera=name)


def _in_glob(pattern: str) -> list[Source]:
    # `*.dat` asks for those files; `*` asks for what is worth scoring.
    asked = Path(pattern).suffix != "" and not Path(pattern).suffix.endswith("*")
    sources: list[Source] = []
    for path in map(Path, sorted(glob.glob(pattern, recursive=True), key=natural_key)):
        if path.is_dir() and "**" not in pattern:
            sources += _sources_below(path)
        elif path.is_file() and (asked or path.suffix.lower() in VIDEO_SUFFIXES):
            sources.append(_local("file", path))
    if not sources:
        raise UsageError(f"{pattern}: matches no video; check the pattern, and quote it so that the shell leaves it be")
    return sources


def _in_folder(folder: Path) -> list[Source]:
    sources = _sources_below(folder)
    if not sources:
        raise UsageError(f"{folder}: holds no videos and no pictures; name the files themselves if they are videos")
    return sources


def _sources_below(top: Path) -> list[Source]:
    found: list[tuple[Kind, Path]] = []
    for folder in _folders(top):
        names = [p for p in folder.iterdir() if not p.name.startswith(".") and not p.is_dir()]
        videos = [p for p in names if p.suffix.lower() in VIDEO_SUFFIXES]
        found += [("file", p) for p in videos]
        if not videos and pictures_in(folder):
            found.append(("images", folder))
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
    pictures = pictures_in(folder)
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(os.fsencode(picture.name) + f"\0{picture.stat().st_size}\0".encode())
    for picture in (pictures[0], pictures[-1]) if pictures else ():
        digest.update(picture.read_bytes())
    return digest
