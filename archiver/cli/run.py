"""`archiver run`: the daemon."""

import asyncio
import signal

import click

from archiver import daemon
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, serve_database
from archiver.settings import Settings


@click.command
@click.pass_obj
def run(load: LoadSettings) -> None:
    """Follow the streams of all flows, and fill every gap, until stopped.

    SIGTERM and SIGINT stop it at once: what was not committed is asked for again next time.
    """
    settings = load()
    settings.require_accounts()
    with serve_database(settings) as place:
        asyncio.run(_run(settings, place))


async def _run(settings: Settings, place: Place) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_database(place) as engine:
        await daemon.run(settings, engine, stop=stop)
