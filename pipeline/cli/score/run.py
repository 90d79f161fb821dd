"""Score files through all stages: run the workers, write what is finished, wait for a Redis that went away."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import redis

from pipeline.alerts.sink import open_sinks
from pipeline.archive.claims import reap
from pipeline.archive.job import FileToScore
from pipeline.archive.records import RECORDS, scored_otherwise
from pipeline.archive.run import ScoreRun
from pipeline.archive.summary import Summaries
from pipeline.archive.tell import Teller
from pipeline.cameras.spec import CameraSpec
from pipeline.cli.score.files import files_to_score, hints
from pipeline.cli.score.progress import ScoreProgress
from pipeline.cli.score.remote import RemoteWorkers
from pipeline.cli.score.result import ScoreResult, first_few
from pipeline.cli.session import Session, cores, local_workers, open_session, redis_url, worker_settings
from pipeline.config.schema import Config
from pipeline.pixels.sweep import swept
from pipeline.supervisor.supervisor import LocalWorkers
from stages.errors import BusError, OddwatchError, UsageError
from stages.files.atomic import check_writable
from stages.text import printable

FULL_AGAIN_S = 0.5
OUTAGE_S = 60.0
"""How long a `score` waits for a Redis that went away; what was finished stays finished."""


def score_files(
    paths: Sequence[str],
    out: Path,
    config: Config,
    *,
    resume: bool = True,
    workers: bool = True,
    quiet: bool = False,
    deliver: bool = False,
    on_alert: Callable[[dict], None] | None = None,
) -> ScoreResult:
    """Score files through all stages and write everything but the report.

    Without `workers`, those of other processes on the same Redis do the work. `deliver`: the configured sinks are told
    of the alerts, each of a file once. Raises UsageError when there is nothing to score, OddwatchError when --out
    cannot be written or a sink cannot be opened.
    """
    begun_s = time.monotonic()
    if not workers and redis_url(config) is None:
        raise UsageError(
            "--no-workers needs a Redis to share with the workers: set REDIS_URL, or redis.url in --config"
        )
    files, missing = files_to_score(paths, config, out)
    for line in [*missing, *hints(paths, files)]:
        sys.stderr.write(f"oddwatch: {printable(line)}\n")
    if not files:
        raise UsageError("nothing to score" if missing else "give at least one file or folder to score")
    check_writable(out, RECORDS)
    foreign = _foreign(out, files)
    if workers:
        _check_buildable(files[0].spec)
    teller = Teller(out, open_sinks(config.sinks_with_options()) if deliver else {})
    with (
        closing(teller),
        open_session(config) as session,
        swept(session.bus, session.embedded) as sweeper,
        ScoreProgress(files, quiet=quiet, on_alert=on_alert) as progress,
    ):
        reap(session.bus)
        run = ScoreRun(
            session.bus, files, out, progress, window=2 * cores(), resume=resume, forget_frames=sweeper.forget
        )
        summaries = Summaries(out, files, list(config.models))
        try:
            with _workers(config, session, files[0].spec, workers) as at_work:
                _drive(run, session, at_work, lambda: summaries.update(run.results))
        except BaseException:
            run.abandon()
            with suppress(OddwatchError):
                summaries.write(run.results)
            raise
        # Now, not between turns: a slow sink must not cost the claims on files that are being scored.
        run.results |= {camera: teller.tell(result) for camera, result in list(run.results.items())}
        results = summaries.write(run.results)
    used = config.model_copy(update={"decode": files[0].spec.decode})
    return ScoreResult(
        used, out, results, missing, time.monotonic() - begun_s, frozenset(run.kept), foreign,
        tuple(teller.problems.values()),
    )  # fmt: skip


def _foreign(out: Path, files: Sequence[FileToScore]) -> tuple[str, ...]:
    """Score files of other models or settings that will stay. Says so now, while nothing is replaced yet."""
    found = scored_otherwise(out, files[0].spec.config_hash)
    cameras = {file.spec.camera for file in files}
    stay = tuple(csv for csv, camera in found.items() if camera not in cameras)
    if found:
        named = f" ({first_few(stay)})" if stay else ""
        sys.stderr.write(
            f"oddwatch: {out}: holds scores of other models or settings: {len(found) - len(stay)} to be replaced, "
            f"{len(stay)} to stay{named}; to keep them apart, stop and give another --out\n"
        )
    return stay


@contextmanager
def _workers(config: Config, session: Session, spec: CameraSpec, here: bool) -> Iterator[LocalWorkers | RemoteWorkers]:
    if here:
        with local_workers(config, worker_settings(config, session.url), [spec]) as at_work:
            yield at_work
    else:
        yield RemoteWorkers(session.bus)


def _drive(
    run: ScoreRun, session: Session, workers: LocalWorkers | RemoteWorkers, on_result: Callable[[], object]
) -> None:
    """Turn until done. A Redis that is full, or goes away, is waited for."""
    known, away_since_s, full = 0, 0.0, False
    while not run.done:
        try:
            workers.check()
            run.turn()
            away_since_s, full = 0.0, False
        except redis.ResponseError as error:
            if not _is_full(error):
                raise
            if not full:
                sys.stderr.write("oddwatch: Redis is full; waiting until there is room (maxmemory, redis.memory_mb)\n")
            full = True
            time.sleep(FULL_AGAIN_S)
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


def _is_full(error: redis.ResponseError) -> bool:
    """Whether there is no room: in time, the readers of what is there make some."""
    return isinstance(error, redis.OutOfMemoryError) or "OOM" in str(error)  # the latter of a transaction


def _check_buildable(spec: CameraSpec) -> None:
    """Say now, not from a worker, that weights are missing or a checkpoint does not fit."""
    from pipeline.workers.build import processor_builder

    build = processor_builder("cpu", False)
    for stage in (*spec.stages("features"), *spec.stages("temporal")):
        build(spec, stage)
