"""Memory: what the daemon holds at most when things pile up.

Postgres is stopped for a minute while the feeder sends as fast as it can; then events of 10 MB
come. A backfill of everything is measured by the bench of that name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from os import kill
from signal import SIGCONT, SIGSTOP
from time import sleep

from tests.bench.figures import Figure, Target
from tests.bench.ingest import FLOWS, wait_for_streams
from tests.bench.lab import Archive, Feeder, Lab, wait_for
from tests.bench.options import Options

LARGE_BYTES = 10_000_000
BOUND = Target("value", "at most", 300.0)


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the most memory that was held in each trouble."""
    seconds, large = (4, 4) if options.quick else (60, 40)
    with lab.feeder() as feeder:
        with lab.archive() as archive:
            events = 40_000 if options.quick else 500_000
            feeder.scene(events=events, flows=FLOWS)
            peak = held_while_paused(lab, archive, feeder, events, seconds)
        yield Figure(
            bench=f"memory, {seconds} s pause", unit="MB", values=[peak / 1e6], target=BOUND
        )
        with lab.archive() as archive:
            feeder.scene(large=large, flows=4, content_bytes=LARGE_BYTES)
            peak = held_until_archived(lab, archive, feeder, large)
        yield Figure(bench="memory, 10 MB events", unit="MB", values=[peak / 1e6], target=BOUND)


def held_while_paused(
    lab: Lab, archive: Archive, feeder: Feeder, events: int, seconds: float
) -> int:
    """The most that is held when the server stands still under full load; nothing may be lost."""
    with lab.daemon(archive, feeder) as daemon:
        wait_for_streams(feeder)
        feeder.tell("go", rate=0)
        sleep(1)
        with paused(lab.server_pids()):
            sleep(seconds)
        wait_for(lambda: count(archive) >= events, seconds=900, every_seconds=1)
        return daemon.measure()


def held_until_archived(lab: Lab, archive: Archive, feeder: Feeder, events: int) -> int:
    """The most that is held until all events are archived."""
    with lab.daemon(archive, feeder) as daemon:
        wait_for_streams(feeder)
        feeder.tell("go", rate=0)
        wait_for(lambda: count(archive) >= events, seconds=900, every_seconds=1)
        return daemon.measure()


def count(archive: Archive) -> int:
    """How many events are archived."""
    return int(archive.value("SELECT count(*) FROM store.journal WHERE form = 0"))


@contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    """Stop processes where they are while the block lasts."""
    for pid in pids:
        kill(pid, SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            kill(pid, SIGCONT)
