"""`oddwatch score`: archived footage in, one CSV per file out, every frame accounted for."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import redis
import typer

from pipeline.archive.claims import reap
from pipeline.archive.records import RECORDS, FileResult, csv_owners, scored_otherwise, write_summary
from pipeline.archive.run import Plan, ScoreRun
from pipeline.cameras.models import model_specs
from pipeline.cameras.spec import CameraSpec, make_spec
from pipeline.cli.progress import Progress
from pipeline.cli.score.remote import RemoteWorkers
from pipeline.cli.session import Session, cores, host_for, local_workers, named_models, open_session, redis_url
from pipeline.config.load import load_config
from pipeline.config.schema import Config
from pipeline.pixels.sweep import swept
from pipeline.supervisor.supervisor import LocalWorkers
from stages.errors import BusError, UsageError
from stages.files.atomic import check_writable
from stages.text import counted

NAMED = 5
"""Files of other settings that are named; the others are counted."""
OUTAGE_S = 60.0
"""How long a `score` waits for a Redis that went away; what was finished stays finished."""


def score(
    paths: Annotated[list[str], typer.Argument(help="Files, folders (searched), globs, folders of pictures.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for scores, alerts and the report.")],
    config: Annotated[Path | None, typer.Option(help="Configuration file.")] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="Checkpoint; may be given several times. Default: adaptive novelty.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Keep the files that an earlier run has finished.")] = True,
    workers: Annotated[
        bool, typer.Option(help="--no-workers: leave the work to 'oddwatch worker' processes on the same Redis.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json at the end instead of lines.")] = False,
) -> None:
    """Score archived footage."""
    settings = load_config(config)
    if model:
        settings = settings.model_copy(update={"models": named_models(model)})
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # both end it cleanly
    try:
        scoring = score_files(paths, out, settings, resume=resume, workers=workers, quiet=as_json)
    except KeyboardInterrupt:
        sys.stderr.write(
            "oddwatch: interrupted; give the same command again: finished files are kept, the others begin again\n"
        )
        raise typer.Exit(130) from None
    one = Path(scoring.results[0].file).name if len(scoring.results) == 1 else ""
    scoring.report(one or counted(len(scoring.results), "file"))
    if as_json:
        typer.echo((out / "summary.json").read_text())
    else:
        for line in scoring.closing_lines():
            typer.echo(line)
    if scoring.missing or any(r.failed for r in scoring.results):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """A finished `score`: results in the order of the arguments, and what could not even be planned."""

    config: Config
    out: Path
    results: list[FileResult]
    missing: list[str]
    took_s: float
    """Wall clock of this run, which scored all but `kept`."""
    kept: frozenset[str] = frozenset()
    """Cameras of the results that an earlier run left."""
    foreign: tuple[str, ...] = ()
    """Names of score files in `out` that other models or settings have made of other videos."""

    def report(self, title: str) -> None:
        """Write `report.html` beside the scores."""
        from pipeline.cli.score.report import write_score_report

        write_score_report(self.out / "report.html", self, title)

    def warmup_lines(self) -> list[str]:
        """Says how much could not be alerted on, if anything."""
        frames = sum(r.provisional for r in self.results)
        if not frames:
            return []
        were = f"{counted(frames, 'frame')} {'was' if frames == 1 else 'were'}"
        return [f"{were} warm-up (no alerts in it): learn from normal footage first, see 'oddwatch fit'"]

    def closing_lines(self) -> list[str]:
        """For a person: totals, and where to look next."""
        frames = sum(r.decoded for r in self.results)
        gaps = frames - sum(r.scored for r in self.results)
        opened = sum(a["phase"] == "open" for r in self.results for a in r.alerts)
        kept = f" ({len(self.kept)} of {counted(len(self.results), 'file')} done before)" if self.kept else ""
        lines = [
            f"{counted(frames, 'frame')} decoded = {frames - gaps} scored + {gaps} in gaps; "
            f"{counted(opened, 'alert')}; {self.took_s:.1f} s{kept}",
            f"scores, alerts.jsonl, summary.json and report.html are in {self.out}",
        ]
        lines += self.warmup_lines()
        if self.foreign:
            lines.append(f"not of these models and settings, and not in summary.json: {_some(self.foreign)}")
        failed = [r for r in self.results if r.failed]
        if failed or self.missing:
            bad = len(failed) + len(self.missing)
            need = "needs" if bad == 1 else "need"
            lines.append(f"{bad} of {len(self.results) + len(self.missing)} {need} attention:")
            lines += [f"  {line}" for line in self.missing]
            lines += [f"  {named_problem(r)}" for r in failed]
        return lines


def _some(names: Sequence[str]) -> str:
    """The first few of so many names."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def named_problem(result: FileResult) -> str:
    """One line that names the file and what is wrong with it."""
    problem = result.status.removeprefix("error: ")
    return problem if result.file in problem else f"{result.file}: {problem}"


def score_files(
    paths: Sequence[str],
    out: Path,
    config: Config,
    *,
    resume: bool = True,
    workers: bool = True,
    quiet: bool = False,
    on_alert: Callable[[dict], None] | None = None,
) -> Scoring:
    """Score files through all stages and write everything but the report.

    Without `workers`, those of other processes on the same Redis do the work. Raises UsageError when there is
    nothing to score, OddwatchError when --out cannot be written.
    """
    begun_s = time.monotonic()
    if not workers and redis_url(config) is None:
        raise UsageError(
            "--no-workers needs a Redis to share with the workers: set REDIS_URL, or redis.url in --config"
        )
    plans, missing = plan_files(paths, config, out)
    for line in missing:
        sys.stderr.write(f"oddwatch: {line}\n")
    if not plans:
        raise UsageError("nothing to score" if missing else "give at least one file or folder to score")
    check_writable(out, RECORDS)
    foreign = _foreign(out, plans)
    if workers:
        _check_buildable(plans[0].spec)
    with (
        open_session(config) as session,
        swept(session.bus, session.embedded) as sweeper,
        Progress(plans, quiet=quiet, on_alert=on_alert) as progress,
    ):
        reap(session.bus)
        run = ScoreRun(
            session.bus, plans, out, progress, window=2 * cores(), resume=resume, forget_frames=sweeper.forget
        )
        try:
            with _workers(config, session, plans[0].spec, workers) as crew:
                _drive(run, session, crew, lambda: _write(run, plans, out, list(config.models)))
        except BaseException:
            run.abandon()
            raise
    results = _write(run, plans, out, list(config.models))
    used = config.model_copy(update={"decode": plans[0].spec.decode})
    return Scoring(used, out, results, missing, time.monotonic() - begun_s, frozenset(run.kept), foreign)


def _foreign(out: Path, plans: Sequence[Plan]) -> tuple[str, ...]:
    """Score files of other models or settings that will stay. Says so now, while nothing is replaced yet."""
    found = scored_otherwise(out, plans[0].spec.config_hash)
    cameras = {plan.spec.camera for plan in plans}
    stay = tuple(csv for csv, camera in found.items() if camera not in cameras)
    if found:
        named = f" ({_some(stay)})" if stay else ""
        sys.stderr.write(
            f"oddwatch: {out}: holds scores of other models or settings: {len(found) - len(stay)} to be replaced, "
            f"{len(stay)} to stay{named}; to keep them apart, stop and give another --out\n"
        )
    return stay


@contextmanager
def _workers(config: Config, session: Session, spec: CameraSpec, here: bool) -> Iterator[LocalWorkers | RemoteWorkers]:
    if here:
        with local_workers(config, host_for(config, session.url), [spec]) as crew:
            yield crew
    else:
        yield RemoteWorkers(session.bus)


def _drive(
    run: ScoreRun, session: Session, crew: LocalWorkers | RemoteWorkers, on_result: Callable[[], object]
) -> None:
    """Turn until done. A Redis that goes away is waited for."""
    known, away_since_s = 0, 0.0
    while not run.done:
        try:
            crew.check()
            run.turn()
            away_since_s = 0.0
        except (redis.ConnectionError, redis.TimeoutError) as error:
            away_since_s = away_since_s or time.monotonic()
            if session.embedded or time.monotonic() - away_since_s > OUTAGE_S:
                raise BusError(
                    f"Redis at {session.shown} went away ({error}); run the same command again to go on"
                ) from error
            time.sleep(0.5)
        if len(run.results) != known:
            known = len(run.results)
            on_result()


def _write(run: ScoreRun, plans: Sequence[Plan], out: Path, models: list[str]) -> list[FileResult]:
    results = [run.results[p.spec.camera] for p in plans if p.spec.camera in run.results]
    write_summary(out, results, models, plans[0].spec.config_hash)
    return results


def plan_files(paths: Sequence[str], config: Config, out: Path) -> tuple[list[Plan], list[str]]:
    """What to score, and one line for each path that names nothing. Raises CheckpointError or ConfigError.

    What an earlier `score` left in `out` (snapshots) is not footage, should a folder be searched that holds it.
    """
    from stages.decode.source import Source, expand

    sources: dict[str, Source] = {}
    missing = []
    for path in paths:
        try:
            sources |= {s.uri: s for s in expand([path]) if _is_in(path, out) or not _is_in(s.uri, out)}
        except UsageError as error:
            missing.append(str(error))
    for source in [s for s in sources.values() if s.kind == "live"]:
        missing.append(f"{source.redacted}: a live camera never ends; watch it with 'oddwatch run'")
        del sources[source.uri]
    for source in [s for s in sources.values() if s.redacted != s.uri]:
        missing.append(f"{source.redacted}: has a login, which workers would share through Redis; download it first")
        del sources[source.uri]
    specs = model_specs(config.models)
    plans: dict[str, Plan] = {}
    owners = csv_owners(out)
    stems = [_stem(s.uri) for s in sources.values()]
    for source in sources.values():
        camera, n = source.camera, 2
        while camera in plans:  # the same content twice
            camera, n = f"{source.camera[:60]}-{n}", n + 1
        stem = _stem(source.uri)
        csv = f"{stem}.scores.csv"
        if stems.count(stem) > 1 or owners.get(csv, camera) != camera:
            csv = f"{camera}.scores.csv"
        spec = make_spec(
            config, camera=camera, source=_whole(source.uri), kind=source.kind, specs=specs,
        )  # fmt: skip
        plans[camera] = Plan(spec, source.redacted, csv)
    return list(plans.values()), missing


def _stem(uri: str) -> str:
    path = Path(uri)
    return path.name if path.is_dir() else path.stem


def _is_in(uri: str, folder: Path) -> bool:
    return "://" not in uri and Path(uri).resolve().is_relative_to(folder.resolve())


def _whole(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).resolve())


def _check_buildable(spec: CameraSpec) -> None:
    """Say now, not from a worker, that weights are missing or a checkpoint does not fit."""
    from pipeline.workers.build import processor_builder

    build = processor_builder("cpu", False)
    for stage in (*spec.stages("features"), *spec.stages("temporal")):
        build(spec, stage)
