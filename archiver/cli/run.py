"""``archiver run``: the daemon, and what watches over it.

With ``sharing.processes``, this is the first of several processes, and supervises the others. Each
of those runs this command too, with its number as an option (`archiver.processes`).
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import click

from archiver import daemon
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import (
    Place,
    guard,
    open_database,
    open_for_changes,
    serve_database,
)
from archiver.cli.reload import reload_on_signal
from archiver.errors import ArchiverError, leaves
from archiver.observing.endpoints import serve
from archiver.observing.health import Observed
from archiver.observing.metrics import Metrics
from archiver.observing.surveys import keep_surveying
from archiver.observing.systemd import OWN, Notifier, keep_telling
from archiver.processes import Processes, same_command
from archiver.settings import Settings
from archiver.store.sessions import AnotherHistory
from archiver.works import Works

log = logging.getLogger(__name__)

FIRST = 1
STDIN = 0
MISSES = 3
STANDSTILL_SECONDS = 15.0
"""How long a daemon that hangs may keep its flows locked; then others can write to them."""
STOP_SECONDS = 0.7
"""How long the tasks may take to stop; they wait for nothing but a slow database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What the operator or supervisor wants; set by signals."""

    stop: asyncio.Event
    reload: asyncio.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The environment in which a process of the daemon runs."""

    load: LoadSettings
    settings: Settings
    place: Place
    notifier: Notifier
    processes: Processes
    """The processes that this one supervises."""
    early: Sequence[int]
    """Signals that came before they could be handled."""


@click.command
@click.option("--process", "number", type=int, default=FIRST, hidden=True)
@click.pass_obj
def run(load: LoadSettings, number: int) -> None:
    """Follow the streams of all flows, and fill every gap, until stopped.

    It may be killed at any time: what was not committed is fetched again. SIGTERM and SIGINT stop
    it at once. SIGHUP makes it read again which flows are wanted. With metrics.listen set, it
    answers /metrics, /healthz and /readyz. Under systemd (Type=notify) it reports when it
    captures, and feeds the watchdog.
    """
    if number != FIRST:
        end_with_first()
    early = keep_hangups()
    load = replace(load, process=number)
    settings = load()
    settings.require_accounts()
    processes = Processes(
        settings.sharing.processes if number == FIRST else 1, command=same_command()
    )
    notifier = Notifier(os.environ)
    for name in OWN:  # a private database would report its own state to systemd
        os.environ.pop(name, None)
    notifier.starting()
    told_at = logging.INFO if number == FIRST else logging.DEBUG
    while True:
        with serve_database(settings, told_at=told_at) as place:
            surroundings = Surroundings(
                load=load,
                settings=settings,
                place=place,
                notifier=notifier,
                processes=processes,
                early=early,
            )
            if _archived(surroundings):
                # Logged before a private database stops, which may take longer than we wait for it.
                log.log(told_at, "stopped")
                return
        early = [*keep_hangups(), signal.SIGHUP]  # the settings may have changed since


def _archived(given: Surroundings) -> bool:
    """Archive until told to stop; False if the command that ran the private server has ended."""
    try:
        asyncio.run(_run(given))
    except (ArchiverError, BaseExceptionGroup) as error:
        is_told = all(isinstance(one, ArchiverError) for one in leaves(error))
        if not is_told or not given.place.is_shared or given.place.answers():
            raise
        log.warning("the command that ran the private database has ended: starting it again")
        return False
    return True


def keep_hangups() -> Sequence[int]:
    """Collect SIGHUP, which would end us, until it can be handled: a database may start slowly.

    On a terminal, it does end us, since it says that the terminal was closed.
    """
    early: list[int] = []
    if not os.isatty(STDIN):
        signal.signal(signal.SIGHUP, lambda number, _: early.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked while we were imported
    return early


def end_with_first() -> None:
    """End this process as soon as its supervisor has ended: standard input is a pipe from it.

    A thread watches the pipe, so this also works while the database is being opened, and when the
    event loop hangs.
    """

    def watch() -> None:
        with suppress(OSError):
            while os.read(STDIN, 1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="first", daemon=True).start()


async def _run(given: Surroundings) -> None:
    """Archive until told to stop; start afresh if the database has gone back to an earlier state.

    All that this process knew of it may be wrong then, so nothing is kept but the signals.
    """
    signals = Signals(stop=asyncio.Event(), reload=asyncio.Event())
    _hear_signals(signals, given)
    if not given.place.private:
        async with open_for_changes(given.place):
            pass  # a database that cannot be used fails here; from now on, it is waited for
    while not signals.stop.is_set():
        try:
            await _archive(given, signals)
        except* AnotherHistory:
            log.warning("the database went back to an earlier state: starting afresh")
            signals.reload.set()


async def _archive(given: Surroundings, signals: Signals) -> None:
    async with (
        open_database(given.place, standstill_seconds=STANDSTILL_SECONDS) as engine,
        daemon.works(given.settings, engine) as works,
        _observing(works, given.processes) as observed,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(given.processes.keep(stop=signals.stop))
        beside = [
            group.create_task(guard(given.place, misses=MISSES)),
            group.create_task(keep_telling(given.notifier, observed)),
            group.create_task(reload_on_signal(signals.reload, given.load, works, given.notifier)),
        ]
        await daemon.archive(works, stop=signals.stop)
        for task in beside:
            task.cancel()


def _hear_signals(signals: Signals, given: Surroundings) -> None:
    """Install the handlers of signals."""
    loop = asyncio.get_running_loop()

    def on_stop() -> None:
        signals.stop.set()
        given.notifier.stopping()
        # A database that does not answer must not delay us; a private one ends with this process.
        last_resort = threading.Timer(STOP_SECONDS, os._exit, [0])
        last_resort.daemon = True
        last_resort.start()

    had_terminal = os.isatty(STDIN)

    def hung_up() -> None:
        # A terminal that is closed sends it too; then there is nobody left to stop us.
        if had_terminal and not os.isatty(STDIN):
            on_stop()
        else:
            signals.reload.set()
            given.processes.reload()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    if given.early:
        signals.reload.set()


@asynccontextmanager
async def _observing(works: Works, processes: Processes) -> AsyncIterator[Observed]:
    """The observable state of the daemon; served over HTTP during the block, if that is wanted.

    Raises:
        ArchiverError: the address in the settings cannot be listened on.
    """
    settings = works.settings.metrics
    observed = Observed(
        tally=works.tally,
        intake=works.intake,
        gates=works.gates,
        heads_seconds=settings.heads_seconds,
        began_at=asyncio.get_running_loop().time(),
        processes=processes.tallies,
    )
    if settings.listen is None:
        yield observed
        return
    metrics = Metrics(observed, flows=settings.flows)
    async with serve(settings.listen, observed, metrics) as url, asyncio.TaskGroup() as group:
        log.info("serving metrics", extra={"url": f"{url}/metrics"})
        surveying = group.create_task(
            keep_surveying(works.engine, metrics, now=daemon.utc_now, wants=works.wants)
        )
        yield observed
        surveying.cancel()
