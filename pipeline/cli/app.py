"""The `oddwatch` command: the files and folders here, whose libraries are imported when they are needed."""

from __future__ import annotations

from pipeline.processes.this_process import single_thread_libraries

single_thread_libraries()  # before anything imports numpy

import io  # noqa: E402
import sys  # noqa: E402

import redis  # noqa: E402
import typer  # noqa: E402

from pipeline import __version__  # noqa: E402
from pipeline.bus.connect import reason  # noqa: E402
from pipeline.cli import check, demo, fit, import_weights, manifest, plan, weights  # noqa: E402
from pipeline.cli.evaluate import command as evaluate  # noqa: E402
from pipeline.cli.live import alerts, cameras, dead, run, status, worker  # noqa: E402
from pipeline.cli.score import command as score  # noqa: E402
from pipeline.cli.train import command as train  # noqa: E402
from stages.errors import OddwatchError  # noqa: E402
from stages.text import printable  # noqa: E402

app = typer.Typer(
    name="oddwatch",
    help="Watches the cameras you already have and tells you when something odd happens.",
    epilog="Exit codes: 0 done; 1 something failed and was named; 2 wrong usage or configuration.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("demo")(demo.demo)
app.command("score")(score.score)
app.command("run")(run.run)
app.command("worker")(worker.worker)
app.command("alerts")(alerts.alerts)
app.command("status")(status.status)
app.command("fit")(fit.fit)
app.command("evaluate")(evaluate.evaluate)
app.command("check")(check.check)
app.command("plan")(plan.plan)
app.add_typer(cameras.app, name="cameras")
app.add_typer(dead.app, name="dead")
app.add_typer(train.app, name="train")
app.add_typer(import_weights.app, name="import")
app.add_typer(manifest.app, name="manifest")
app.add_typer(weights.app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oddwatch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def main() -> None:
    """Entry point. A user's mistake is one line on stderr and an exit code, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app()
    except OddwatchError as error:
        sys.stderr.write(f"oddwatch: {printable(str(error))}\n")
        sys.exit(error.exit_code)
    except (redis.RedisError, redis.exceptions.RedisClusterException) as error:
        sys.stderr.write(f"oddwatch: Redis: {reason(error)}; check that it runs, then try again\n")
        sys.exit(1)
