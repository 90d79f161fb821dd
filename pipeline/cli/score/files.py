"""Which files a `score` is about: each with its camera and the name of its CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.archive.job import FileToScore
from pipeline.archive.records import csv_owners
from pipeline.cameras.models import model_specs
from pipeline.cameras.spec import make_spec
from pipeline.config.schema import Config
from stages.errors import UsageError
from stages.files.atomic import longest_name
from stages.text import printable


def files_to_score(paths: Sequence[str], config: Config, out: Path) -> tuple[list[FileToScore], list[str]]:
    """What to score, and one line for each path that names nothing. Raises CheckpointError or ConfigError.

    What an earlier `score` left in `out` (snapshots) is not footage, should a folder be searched that holds it.
    """
    from stages.decode.redact import redact
    from stages.decode.source import Source, expand

    sources: dict[str, Source] = {}
    missing = []
    for path in paths:
        try:
            sources |= {s.uri: s for s in expand([path]) if _is_in(path, out) or not _is_in(s.uri, out)}
        except UsageError as error:
            missing.append(str(error))
    for source in [s for s in sources.values() if s.live]:
        missing.append(f"{source.redacted}: a live camera never ends; watch it with 'oddwatch run'")
        del sources[source.uri]
    for source in [s for s in sources.values() if "://" in s.uri and redact(s.uri) != s.uri]:
        missing.append(f"{source.redacted}: has a login, which workers would share through Redis; download it first")
        del sources[source.uri]
    specs = model_specs(config.models)
    files: dict[str, FileToScore] = {}
    owners = csv_owners(out)
    stems = [_stem(s.uri) for s in sources.values()]
    for source in sources.values():
        camera, n = source.camera, 2
        while camera in files:  # the same content twice
            camera, n = f"{source.camera[:60]}-{n}", n + 1
        stem = _stem(source.uri)
        csv = f"{stem}.scores.csv"
        taken = stems.count(stem) > 1 or owners.get(csv, camera) != camera
        if taken or not _can_be_named(out, csv):
            csv = f"{camera}.scores.csv"
        spec = make_spec(
            config, camera=camera, source=_whole(source.uri), kind=source.kind, specs=specs,
        )  # fmt: skip
        files[camera] = FileToScore(spec, source.uri, csv)
    return list(files.values()), missing


def _stem(uri: str) -> str:
    path = Path(uri)
    return path.name if path.is_dir() else path.stem


def _can_be_named(out: Path, csv: str) -> bool:
    """Whether a file may have this name there, and everybody can write it down."""
    return csv == printable(csv) and len(csv.encode()) <= longest_name(out)


def _is_in(uri: str, folder: Path) -> bool:
    return "://" not in uri and Path(uri).resolve().is_relative_to(folder.resolve())


def _whole(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).resolve())
