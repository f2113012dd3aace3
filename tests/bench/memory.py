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
from tests.bench.ingest import FLOWS, last_events, wait_until_held
from tests.bench.lab import Archive, Feeder, Lab
from tests.bench.options import Options

LARGE_BYTES = 10_000_000
BOUND = Target("value", "at most", 300.0)


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the most memory that was held in each trouble."""
    seconds = options.amount(60, quick=4)
    events = options.amount(500_000, quick=40_000)
    large = options.amount(40, quick=4)
    with lab.feeder() as feeder:
        with lab.archive() as archive:
            newest = feeder.scene(events=events, flows=FLOWS)
            peak = held(lab, archive, feeder, newest, paused_seconds=seconds)
        yield Figure(
            bench=f"memory, {seconds} s pause", unit="MB", values=[peak / 1e6], target=BOUND
        )
        with lab.archive() as archive:
            newest = feeder.scene(large=large, flows=4, content_bytes=LARGE_BYTES)
            peak = held(lab, archive, feeder, newest)
        yield Figure(bench="memory, 10 MB events", unit="MB", values=[peak / 1e6], target=BOUND)


def held(
    lab: Lab,
    archive: Archive,
    feeder: Feeder,
    newest: dict[str, int],
    *,
    paused_seconds: float = 0.0,
) -> int:
    """The most that is held until all is archived; the server may stand still under full load."""
    with lab.daemon(archive, feeder) as daemon:
        feeder.wait_until_followed()
        last = last_events(archive, newest)
        feeder.go(rate=0)
        if paused_seconds:
            sleep(1)
            with paused(lab.server_pids()):
                sleep(paused_seconds)
        wait_until_held(archive, last)
        return daemon.measure()


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
