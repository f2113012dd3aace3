"""``archiver demo``: the whole system for half a minute, with a verdict at the end.

A private Postgres, the simulator and the daemon are started as a user would start them. This
process only watches them, cuts the streams once, and in the end compares the archive with the
simulator's truth.
"""

import asyncio
import fcntl
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, demo_settings, open_database, serve_database
from archiver.cli.demonstration.display import Display, choose_display
from archiver.cli.demonstration.performance import Performance, Plan
from archiver.cli.demonstration.programs import Program, ProgramEnded, run_program
from archiver.cli.demonstration.simulation import reach_simulator
from archiver.cli.demonstration.verdict import Verdict, describe, summarize
from archiver.cli.numbers import Number, Whole
from archiver.embedded.home import REMEDY
from archiver.errors import ArchiverError

USERS = 14
DAEMON = {
    "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "100",
    "ARCHIVER_AUDIT_REQUESTS_PER_SECOND": "10",
    "ARCHIVER_INGEST_SETTLING_SECONDS": "2",
    "ARCHIVER_LOG_FORMAT": "json",
}
"""Settings of the daemon, which need not spare a simulator as it does the real service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What has been set up when the demonstration begins."""

    plan: Plan
    place: Place
    home: Path
    simulated: Program
    display: Display


@click.command
@click.option(
    "--seconds",
    type=Number(1, 86_400),
    default=30.0,
    show_default=True,
    help="About how long it takes, with the comparison.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines; the last is the result.")
@click.option("--flows", type=Whole(1, 200), default=12, show_default=True, help="How many flows.")
@click.option(
    "--history",
    type=Whole(0, 1_000_000),
    default=20_000,
    show_default=True,
    help="Messages that exist before it starts, to be backfilled.",
)
@click.option(
    "--rate",
    type=Number(0.1, 2_000),
    default=80.0,
    show_default=True,
    help="Live events a second.",
)
@click.option(
    "--seed",
    type=Whole(),
    default=1,
    show_default=True,
    help="The same seed gives the same history.",
)
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), hidden=True)
@click.pass_obj
def demo(
    load: LoadSettings,
    /,
    *,
    seconds: float,
    as_json: bool,
    picture: Path | None,
    **world: Any,
) -> int:
    """Archive a simulated Flowdock before your eyes, and compare the archive with the truth.

    It takes about 30 seconds; longer on a slow machine, which has more to catch up with when the
    traffic ends.

    Nothing of yours is touched: the demo has a database of its own, emptied at each start and kept
    afterwards, so that archiver sql --demo and archiver search --demo can read it.

    Exit status: 0 when the archive equals the truth, 1 when anything differs.
    """
    plan = Plan(seconds=seconds, began=time.monotonic())
    settings = demo_settings(load())
    logging.getLogger("archiver").setLevel(logging.WARNING)
    display = choose_display(as_json=as_json, picture=picture)
    display.announce(f"starting; the demo has its own database in {settings.data_dir}")
    with (
        empty_directory(settings.data_dir) as home,
        simulator(home, world) as simulated,
        serve_database(settings) as place,
    ):
        stage = Stage(plan=plan, place=place, home=home, simulated=simulated, display=display)
        try:
            verdict = asyncio.run(_perform(stage))
        except KeyboardInterrupt:
            click.echo("stopped; nothing was compared", err=True)
            raise
        # Printed before the programs are stopped, which takes a few seconds.
        if as_json:
            click.echo(json.dumps(summarize(verdict)))
        else:
            describe(verdict)
    return 0 if verdict.is_good else 1


@contextmanager
def empty_directory(home: Path) -> Iterator[Path]:
    """Create or empty *home*, and lock it against other demonstrations while the block lasts.

    Raises:
        ArchiverError: another demonstration runs there, or it cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "lock").open("a")
    except OSError as error:
        raise _unusable(home, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for old in home.iterdir():
                if old.name != "lock":
                    _discard(old)
        except BlockingIOError:
            raise ArchiverError(
                f"another demo is running in {home}: wait until it ends, or set "
                "ARCHIVER_DATA_DIR to another directory"
            ) from None
        except OSError as error:
            raise _unusable(home, error) from error
        yield home


def _unusable(home: Path, error: OSError) -> ArchiverError:
    return ArchiverError(f"cannot keep a demo in {home}: {error.strerror}; {REMEDY}")


def _discard(old: Path) -> None:
    """Remove *old*; renamed first, since a server that is still stopping in it could interfere."""
    doomed = old.with_name(f"{old.name}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    old.rename(doomed)
    if doomed.is_dir():
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        doomed.unlink()


@contextmanager
def simulator(home: Path, world: Mapping[str, Any]) -> Iterator[Program]:
    """Run a simulated Flowdock on free ports, with a history that ends now."""
    options = {"port": 0, "stream-port": 0, "users": USERS, "history-until": "now", **world}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    log = home / "simulator.log"
    with run_program("simulate", "--json", *arguments, settings={}, log=log) as program:
        yield program


@contextmanager
def daemon(home: Path, told: Mapping[str, Any]) -> Iterator[Program]:
    """Run the daemon against the simulator that announced *told*."""
    settings = DAEMON | {
        "ARCHIVER_API_URL": told["api_url"],
        "ARCHIVER_STREAM_URL": told["stream_url"],
        "ARCHIVER_TOKEN": told["token"],
        "ARCHIVER_DATA_DIR": str(home),
    }
    with run_program("run", settings=settings, log=home / "daemon.log") as program:
        yield program


async def _perform(stage: Stage) -> Verdict:
    try:
        told = json.loads(stage.simulated.announcement())
    except ProgramEnded:
        await asyncio.sleep(0)  # after Ctrl-C, which ends both and is no error, we end here
        raise
    async with open_database(stage.place) as engine, reach_simulator(told["api_url"]) as simulation:
        with daemon(stage.home, told) as archiving, stage.display:
            performance = Performance(
                stage.plan,
                engine,
                simulation,
                display=stage.display,
                programs=(stage.simulated, archiving),
                me=told["user"],
            )
            return await performance.run()
