"""`archiver run`: the daemon."""

import asyncio
import logging
import os
import signal
import threading
from typing import NoReturn

import click

from archiver import daemon
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, serve_database
from archiver.errors import ArchiverError
from archiver.settings import Settings

GUARD_SECONDS = 1.0
MISSES = 3
STOP_SECONDS = 0.7
"""How long the tasks have to leave when told to stop; they wait for nothing but a slow database."""


@click.command
@click.pass_obj
def run(load: LoadSettings) -> None:
    """Follow the streams of all flows, and fill every gap, until stopped.

    SIGTERM and SIGINT stop it at once: what was not committed is asked for again next time.
    """
    settings = load()
    settings.require_accounts()
    with serve_database(settings, told_at=logging.INFO) as place:
        asyncio.run(_run(settings, place))


async def _run(settings: Settings, place: Place) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told_to_stop() -> None:
        stop.set()
        # A database that does not answer must not hold us; a private one ends with this process.
        last_resort = threading.Timer(STOP_SECONDS, os._exit, [0])
        last_resort.daemon = True
        last_resort.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop)
    async with open_database(place) as engine, asyncio.TaskGroup() as group:
        guard = group.create_task(_guard(place))
        await daemon.run(settings, engine, stop=stop)
        guard.cancel()


async def _guard(place: Place) -> NoReturn:
    """Look after a private database, which nobody else restarts.

    Raises:
        ArchiverError: it is gone; whoever starts the archiver again starts it, too.
    """
    missed = 0
    while True:
        await asyncio.sleep(GUARD_SECONDS)
        missed = 0 if await asyncio.to_thread(place.answers) else missed + 1
        if missed == MISSES:
            raise ArchiverError("the private database has ended; start the archiver again")
