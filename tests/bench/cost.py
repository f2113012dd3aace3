"""Cost: where the processor time of an event goes, stage by stage, and the profile of them all.

Socket: the feeder's stream read and thrown away. Framing: cutting it into frames. Decode: frames to
arrivals. Fold: arrivals to messages. Database: what is left of writing batches of 4,000, in the
archiver and in the server. Each stage runs by itself, in this process, on the same events.
"""

import asyncio
import cProfile
import pstats
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import process_time

import aiohttp
from msgspec import Struct

from archiver.domain.model import FlowId
from archiver.flowdock.decode import decode
from archiver.flowdock.framing import EventStreamFramer
from archiver.ingest.apply import apply
from archiver.ingest.batch import Arrival, Batch
from archiver.memory import collect_rarely
from archiver.store import directory
from archiver.store.connection import Engine
from archiver.store.engine import create_engine, transaction
from tests.bench import decoding, traffic
from tests.bench.figures import Figure
from tests.bench.ingest import FLOWS
from tests.bench.lab import Feeder, Lab
from tests.bench.options import Options

BATCH = 4000
CHUNK_BYTES = 65_536
ROOT = Path(__file__).parents[2]


class Hot(Struct, frozen=True):
    """One line of the profile."""

    share: float
    function: str


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the processor time of each stage."""
    count = options.amount(100_000, quick=10_000)
    sent = list(traffic.events(count, flows=FLOWS))
    frames = [(one.flow, one.frame) for one in sent]
    told = traffic.as_event_stream(sent)
    stages: dict[str, list[float]] = {}
    collect_rarely()
    with lab.feeder() as feeder:
        for _ in range(options.runs(3)):
            decoded, server, ours = written(lab, sent)
            folded = decoding.time_fold(frames)
            for name, seconds in {
                "socket": socket(feeder, count),
                "framing": timed(lambda: framed(told)),
                "decode": decoded,
                "fold": folded,
                "database, archiver": ours - folded,
                "database, server": server,
            }.items():
                stages.setdefault(name, []).append(seconds / count * 1e6)
    for name, values in stages.items():
        yield Figure(bench=f"cost, {name}", unit="µs/event", values=values)


def hottest(lab: Lab, *, lines: int = 10) -> list[Hot]:
    """The functions that take the most time of their own, from bytes to what is committed."""
    sent = list(traffic.events(20_000, flows=FLOWS))
    profile = cProfile.Profile()
    written(lab, sent, profile=profile)
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    # Waiting for the server is no work of ours.
    own = {at: row[2] for at, row in found.items() if "poll" not in at[2]}
    total = sum(own.values())
    ranked = sorted(own.items(), key=lambda item: -item[1])[:lines]
    return [Hot(seconds / total, _named(*at)) for at, seconds in ranked]


def socket(feeder: Feeder, events: int) -> float:
    """The processor time of reading the events of a stream and throwing them away."""
    feeder.scene(events=events, flows=FLOWS)
    paths = ",".join(traffic.path_of(flow) for flow in range(FLOWS))
    ends = len(traffic.as_event_stream(traffic.events(events, flows=FLOWS)))

    async def read() -> float:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{feeder.url}/flows?filter={paths}") as answer,
        ):
            await asyncio.to_thread(feeder.go, rate=0)
            began = process_time()
            left = ends
            while left > 0:
                left -= len(await answer.content.readany())
            return process_time() - began

    return asyncio.run(read())


def framed(told: bytes) -> int:
    """Cut a stream into frames, as it comes off the wire."""
    framer = EventStreamFramer()
    chunks = range(0, len(told), CHUNK_BYTES)
    return sum(len(framer.feed(told[at : at + CHUNK_BYTES])) for at in chunks)


def written(
    lab: Lab, sent: Sequence[traffic.Sent], *, profile: cProfile.Profile | None = None
) -> tuple[float, float, float]:
    """Decode and write events; the time of decoding, of the server, and of what else is ours."""

    async def write(engine: Engine) -> tuple[float, float, float]:
        now = datetime.now(UTC)
        keys = await flow_keys(engine, now)
        before, pg_before = process_time(), lab.postgres_seconds()
        if profile:
            profile.enable()
        arrivals = [
            Arrival(
                frame=one.frame,
                decoded=decode(one.frame),
                flow_key=keys[one.flow],
                witness="stream",
                origin="bench 1",
                received_at=now,
            )
            for one in sent
        ]
        decoded = process_time()
        for at in range(0, len(arrivals), BATCH):
            await apply(engine, Batch(now=now, arrivals=arrivals[at : at + BATCH]))
        if profile:
            profile.disable()
        ours = process_time() - decoded
        return decoded - before, lab.postgres_seconds() - pg_before, ours

    async def open_and_write(url: str) -> tuple[float, float, float]:
        engine = create_engine(url)
        try:
            return await write(engine)
        finally:
            await engine.dispose()

    with lab.archive() as archive:
        return asyncio.run(open_and_write(archive.url))


async def flow_keys(engine: Engine, now: datetime) -> list[int]:
    """Make the feeder's flows; returns their keys by number."""
    names = [FlowId(traffic.id_of(number)) for number in range(FLOWS)]
    async with transaction(engine) as tx:
        keys = await directory.name_flows(tx, names, now=now)
    return [keys[name] for name in names]


def timed(work: Callable[[], object]) -> float:
    """The processor time of *work*."""
    began = process_time()
    work()
    return process_time() - began


def _named(file: str, line: int, function: str) -> str:
    """A function as a reader finds it."""
    path = Path(file)
    if file == "~":
        return function
    if path.is_relative_to(ROOT / "archiver"):
        return f"{path.relative_to(ROOT)}:{line} {function}"
    return f"{'/'.join(path.parts[-2:])}:{line} {function}"
