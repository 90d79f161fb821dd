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
from stages.text import counted, printable


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


def hints(paths: Sequence[str], files: Sequence[FileToScore]) -> list[str]:
    """One line for each folder whose pictures are probably meant otherwise than they are taken: each picture as a video
    of its own, or none of them because videos lie beside them."""
    from stages.decode.natural_order import IMAGE_SUFFIXES, pictures_in

    files_in: dict[Path, list[Path]] = {}
    for path in (Path(f.spec.source) for f in files if "://" not in f.spec.source):
        if not path.is_dir():
            files_in.setdefault(path.parent, []).append(path)
    searched = [Path(path).resolve() for path in paths if path and Path(path).is_dir()]
    lines = []
    for folder, taken in files_in.items():
        single = [path for path in taken if path.suffix.lower() in IMAGE_SUFFIXES]
        if len(single) > 1:
            lines.append(
                f"{folder}: {len(single)} pictures are named one by one, and each is scored as a video of its own; "
                "name the folder to score them as one"
            )
        elif any(folder.is_relative_to(top) for top in searched):
            stems = {path.stem for path in taken}
            beside = [p for p in pictures_in(folder) if p.stem not in stems and p not in taken]
            if beside:
                lines.append(
                    f"{folder}: {counted(len(beside), 'picture')} beside {taken[0].name} left out; "
                    "to score them as one video, give them a folder of their own"
                )
    return lines


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
