"""Backfill: a history from a server that answers instantly, against the requests alone.

``archiver backfill`` fills an empty archive. Then another program makes the very same requests,
as many at a time, and throws the answers away: that is all that the network and the server cost.
It says nothing of rows, which nobody writes faster than ``psql \\copy`` does. So the same is also
held against the slower of the two: the requests alone, or the rows of that archive copied again.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from time import monotonic

import aiohttp
import msgspec
from msgspec import Struct

from archiver.ingest.source import STREAM_FIRST_SECONDS
from tests.bench.copying import TABLES, copy_again
from tests.bench.figures import Figure, Target
from tests.bench.lab import UNHURRIED, Archive, Feeder, Lab
from tests.bench.options import Options
from tests.bench.processes import peak_until_it_ends
from tests.oracle.programs import PROGRAM, ROOT, surroundings

CONCURRENCY = 8
MOST_BYTES = 300e6


class Filled(Struct, frozen=True, kw_only=True):
    """What one backfill took."""

    seconds: float
    peak_bytes: int


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the figures of one large flow and of many small ones."""
    share = 50 if options.quick else 1
    scenes = {
        "backfill, one flow": (1, 500_000 // share),
        "backfill, many flows": (1000 // share, 500),
    }
    with lab.feeder() as feeder:
        for bench, (flows, messages) in scenes.items():
            count = flows * messages
            done, limits, bounds = [], [], []
            for _ in range(options.runs(2)):
                feeder.scene(flows=flows, messages=messages)
                with lab.archive() as archive:
                    done.append(fill(lab, archive, feeder, count))
                    copied = count / sum(copy_again(lab, archive, TABLES))
                limits.append(count / ask_again(feeder))
                bounds.append(min(limits[-1], copied))
            yield Figure(
                bench=bench,
                unit="messages/s",
                values=[count / one.seconds for one in done],
                limits=limits,
                target=Target("ratio", "at least", 0.7),
            )
            yield Figure(
                bench=f"{bench}, of the slower bound",
                unit="messages/s",
                values=[count / one.seconds for one in done],
                limits=bounds,
                target=Target("ratio", "at least", 0.7),
            )
            yield Figure(
                bench=f"memory, {bench}",
                unit="MB",
                values=[one.peak_bytes / 1e6 for one in done],
                target=Target("value", "at most", MOST_BYTES / 1e6),
            )


def fill(lab: Lab, archive: Archive, feeder: Feeder, messages: int) -> Filled:
    """Fill *archive*; the clock runs from the first request to the end of the program.

    It stands while the program waits on purpose, for what the streams of a daemon might prove.
    """
    settings = {
        **UNHURRIED,
        "ARCHIVER_DATABASE_URL": archive.url,
        "ARCHIVER_API_URL": feeder.url,
        "ARCHIVER_STREAM_URL": feeder.url,
        "ARCHIVER_BACKFILL_CONCURRENCY": str(CONCURRENCY),
        "ARCHIVER_INGEST_SETTLING_SECONDS": "0",
    }
    with (lab.home / "backfill.log").open("wb") as log:
        filling = subprocess.Popen(
            [*PROGRAM, "backfill"], env=surroundings(settings), stdout=log, stderr=log, cwd=ROOT
        )
        peak = peak_until_it_ends(filling)
    seconds = monotonic() - feeder.tell("stats")["first_asked_at"] - STREAM_FIRST_SECONDS
    held = archive.value("SELECT count(*) FROM store.messages")
    if filling.returncode != 0 or held != messages:
        said = (lab.home / "backfill.log").read_text()[-2000:]
        raise AssertionError(f"{held} of {messages} messages are archived: {said}")
    return Filled(seconds=seconds, peak_bytes=peak)


def ask_again(feeder: Feeder) -> float:
    """Make the requests that were made, in a program of its own; returns the seconds they took."""
    asked = feeder.tell("asked")
    command = [sys.executable, "-m", "tests.bench.backfill", feeder.url]
    done = subprocess.run(
        command, input=msgspec.json.encode(asked), capture_output=True, check=True, cwd=ROOT
    )
    return float(done.stdout)


async def discard(url: str, asked: list[str]) -> float:
    """Make requests, so many at a time, and throw the bodies away; returns the seconds."""
    waiting = iter(asked)

    async def work(session: aiohttp.ClientSession) -> None:
        for path in waiting:
            async with session.get(url + path) as answer:
                async for _ in answer.content.iter_any():
                    pass

    async with aiohttp.ClientSession() as session:
        began = monotonic()
        await asyncio.gather(*(work(session) for _ in range(CONCURRENCY)))
        return monotonic() - began


if __name__ == "__main__":
    print(asyncio.run(discard(sys.argv[1], msgspec.json.decode(sys.stdin.buffer.read()))))
