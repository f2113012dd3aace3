"""``archiver simulate``: a Flowdock on this machine, to develop, demonstrate and test against."""

import asyncio
import gc
import json
import signal
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from archiver.cli.numbers import Number, Whole
from archiver.cli.options import FileName, refuse_beside
from archiver.cli.tables import counted
from archiver.errors import ArchiverError
from archiver.simulator.control import MOST_RATE
from archiver.simulator.faults import Fault, from_json
from archiver.simulator.official import write_exports
from archiver.simulator.seeding import (
    EARLIEST_END,
    HISTORY_DAYS,
    HISTORY_ENDS_AT,
    LATEST_END,
    settle,
    stored,
    write_history,
)
from archiver.simulator.server import Simulator
from archiver.simulator.world import World

PORT = Whole(0, 65_535)


class BadOptions(ArchiverError):
    """The options ask for the impossible: a port that is taken, a file that holds no faults."""


SERVING = (
    *("host", "port", "stream_port", "rate", "listing_delay", "keepalive", "replay"),
    *("replay_window", "faults_file", "as_json"),
)
"""The parameters that say how the simulated service is served."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=PORT, default=8700, show_default=True, help="Port of the API; 0 for any."
)
@click.option(
    "--stream-port",
    type=PORT,
    default=8701,
    show_default=True,
    help="Port of the streams; 0 for any.",
)
@click.option(
    "--seed", type=Whole(), default=1, show_default=True, help="The same seed gives the same world."
)
@click.option("--flows", type=Whole(1, 2_000), default=3, show_default=True, help="How many flows.")
@click.option(
    "--users", type=Whole(1, 10_000), default=5, show_default=True, help="How many users."
)
@click.option(
    "--history",
    type=Whole(0, 10_000_000),
    default=300,
    show_default=True,
    help="Messages that exist at the start, in all flows and conversations.",
)
@click.option(
    "--history-until",
    default="fixed",
    show_default=True,
    help="When the history ends: 'now', an ISO time, or 'fixed' (July 2023, the same every run).",
)
@click.option(
    "--rate",
    type=Number(0, MOST_RATE),
    default=0.0,
    show_default=True,
    help="Live events a second; 0 for none.",
)
@click.option(
    "--listing-delay",
    type=Number(0, 86_400),
    default=1.0,
    show_default=True,
    help="Seconds until a message is listed.",
)
@click.option(
    "--keepalive",
    type=Number(0.01, 86_400),
    default=25.0,
    show_default=True,
    help="Seconds between keep-alives.",
)
@click.option(
    "--replay",
    type=click.Choice(["all", "none"]),
    default="all",
    show_default=True,
    help="What an event-stream repeats after Last-Event-ID.",
)
@click.option(
    "--replay-window",
    type=Whole(0, 10_000_000),
    default=10_000,
    show_default=True,
    help="Events kept for replay.",
)
@click.option(
    "--faults",
    "faults_file",
    type=FileName(),
    help='A JSON file: a list of faults, or {"faults": [...]}.',
)
@click.option(
    "--export",
    "export_to",
    type=FileName(file_okay=False),
    help="Write official exports of all flows, and users.json, into this directory, and exit.",
)
@click.option("--token", help="The API token to accept; by default made from the seed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when ready.")
def simulate(
    *,
    faults_file: Path | None,
    as_json: bool,
    history_until: str,
    export_to: Path | None,
    **settings: Any,
) -> None:
    """Serve a simulated Flowdock, until interrupted.

    It prints the settings that point an archiver at it.
    """
    _check_host(settings["host"])
    if export_to is not None:
        refuse_beside("--export writes files, and serves nothing", *SERVING)
        _export(settings, until=_milliseconds(history_until), to=export_to)
        return
    faults = [] if faults_file is None else read_faults(faults_file)
    until = _milliseconds(history_until)
    asyncio.run(_run(settings, until=until, faults=faults, as_json=as_json))


def _check_host(host: str) -> None:
    if not host:  # a socket would take it for every address of the machine
        raise BadOptions("--host is empty: name an address to listen on, 0.0.0.0 for all")
    try:
        host.encode("idna")  # as a look-up of the address does
    except UnicodeError:
        raise BadOptions(f"--host {host!r} is not an address to listen on") from None


def _export(settings: Mapping[str, Any], *, until: int, to: Path) -> None:
    world = World(seed=settings["seed"], clock=lambda: until)
    settle(world, flows=settings["flows"], users=settings["users"], token=settings["token"])
    write_history(world, seed=settings["seed"], messages=settings["history"], until=until)
    try:
        written = write_exports(world, to)
    except OSError as error:
        raise BadOptions(f"--export {to}: {error.strerror}") from None
    for path in written:
        click.echo(path)


def read_faults(path: Path) -> list[Fault]:
    """Return the faults of a JSON file; raise `BadOptions` with what is wrong in it."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise BadOptions(f"--faults {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadOptions(f"--faults {path}: {error}") from None
    listed = document.get("faults") if isinstance(document, dict) else document
    if not isinstance(listed, list):
        raise BadOptions(f"--faults {path}: a list of faults is expected")
    try:
        return [from_json(each) for each in listed]
    except (ValueError, TypeError) as error:
        raise BadOptions(f"--faults {path}: {error}") from None


async def _run(
    settings: Mapping[str, Any], *, until: int, faults: list[Fault], as_json: bool
) -> None:
    stop = asyncio.Event()
    # Making a history takes long and blocks the loop, so Python itself has to handle Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        async with Simulator.start(
            seed=settings["seed"],
            flows=settings["flows"],
            users=settings["users"],
            history=settings["history"],
            history_until=until,
            listing_delay_seconds=settings["listing_delay"],
            keepalive_seconds=settings["keepalive"],
            replay=settings["replay"],
            replay_window=settings["replay_window"],
            host=settings["host"],
            port=settings["port"],
            stream_port=settings["stream_port"],
            token=settings["token"],
        ) as flowdock:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            for fault in faults:
                flowdock.faults.add(fault)
            if settings["rate"] > 0:
                flowdock.go_live(seed=settings["seed"], rate=settings["rate"])
            _announce(flowdock, as_json=as_json)
            await stop.wait()
            # Otherwise, the interpreter would free a long history message by message at exit.
            gc.freeze()
    except OSError as error:
        where = f"{settings['host']}, ports {settings['port']} and {settings['stream_port']}"
        raise BadOptions(
            f"cannot listen on {where}: {error.strerror}; choose with --port and --stream-port"
        ) from None


def _announce(flowdock: Simulator, *, as_json: bool) -> None:
    flows = [flow.path for flow in flowdock.world.flows]
    if as_json:
        ready = {"api_url": flowdock.api_url, "stream_url": flowdock.stream_url,
                 "token": flowdock.token, "email": flowdock.me.email,
                 "password": flowdock.me.password, "user": flowdock.me.id,
                 "flows": flows}  # fmt: skip
        click.echo(json.dumps(ready))
        return
    in_flows, in_private = stored(flowdock.world)
    private = counted(len(flowdock.world.directory.conversations), "private conversation")
    click.echo(
        f"A Flowdock is running: {counted(in_flows + in_private, 'message')}, "
        f"{in_flows:,} in {counted(len(flows), 'flow')}, {in_private:,} in {private}."
    )
    click.echo(f"  API      {flowdock.api_url}")
    click.echo(f"  streams  {flowdock.stream_url}")
    click.echo(f"  truth    {flowdock.api_url}/_simulator/truth")
    click.echo("To point an archiver at it:\n")
    click.echo(f"export ARCHIVER_API_URL={flowdock.api_url} \\")
    click.echo(f"       ARCHIVER_STREAM_URL={flowdock.stream_url} \\")
    click.echo(f"       ARCHIVER_TOKEN={flowdock.token}")


def _milliseconds(text: str) -> int:
    if text == "fixed":
        return HISTORY_ENDS_AT
    if text == "now":
        return time.time_ns() // 1_000_000
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadOptions(f"--history-until {text!r}: not an ISO time, 'now' or 'fixed'") from None
    until = round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    if not EARLIEST_END <= until <= LATEST_END:
        raise BadOptions(
            f"--history-until {text!r}: a history takes {HISTORY_DAYS} days, and ends from "
            "0001-01-31 to 9999-12-31 in UTC"
        )
    return until
