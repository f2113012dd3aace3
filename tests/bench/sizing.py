"""Sizing: what the daemon holds of memory by the number of flows, and what an event takes of disk.

The simulator has a history in so many flows, with all kinds of messages, threads and edits. The
daemon fetches all of it, makes it searchable, and follows some traffic. Of the largest archive the
tables are measured, after a vacuum, with all their indexes.
"""

from collections.abc import Iterator, Mapping
from time import sleep

from tests.bench.figures import Figure
from tests.bench.lab import UNHURRIED, Archive, Lab, wait_for
from tests.bench.options import Options
from tests.oracle.programs import Daemon, Flowdock

SIZES = ((10, 10_000), (200, 50_000))
"""Flows, and how many events they have together."""
LARGEST = (2000, 50_000)
GROUPS: Mapping[str, str] = {
    "journal": "the journal",
    "messages": "messages",
    "revisions": "histories",
    "texts": "search",
    "threads": "threads",
}


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the memory at each number of flows, then the disk that an event takes."""
    sizes = [(10, 2000), (200, 4000)] if options.quick else [*SIZES]
    if options.full:
        sizes.append(LARGEST)
    seconds = options.amount(20, quick=5)
    for flows, history in sizes:
        with lab.archive() as archive:
            peak, resident = held(lab, archive, flows, history, seconds)
            name = f"sizing, {flows:,} flows, memory"
            yield Figure(bench=f"{name} at most", unit="MB", values=[peak / 1e6])
            yield Figure(bench=f"{name} afterwards", unit="MB", values=[resident / 1e6])
            if flows == sizes[-1][0]:
                yield from disk(archive)


def held(lab: Lab, archive: Archive, flows: int, history: int, seconds: float) -> tuple[int, int]:
    """The memory that is held at most, and in the end, in bytes."""
    world = {"flows": flows, "users": 50, "history": history, "history-until": "now"}
    options = [word for name, value in world.items() for word in (f"--{name}", str(value))]
    flowdock = Flowdock(lab.home, *options)
    settings = {
        **UNHURRIED,
        "ARCHIVER_AUDIT_REQUESTS_PER_SECOND": "10000",
        "ARCHIVER_API_URL": flowdock.api_url,
        "ARCHIVER_STREAM_URL": flowdock.stream_url,
        "ARCHIVER_TOKEN": flowdock.token,
        "ARCHIVER_DATABASE_URL": archive.url,
    }
    daemon = Daemon(lab.home, settings)
    try:
        wait_for(lambda: is_done(archive, history), seconds=900, every_seconds=1)
        flowdock.tell("play", seed=1, events=0, rate=20)
        sleep(seconds)
        return daemon.measure(), daemon.resident_bytes()
    finally:
        daemon.kill()
        daemon.close()
        flowdock.process.kill()  # busy as it is, it would take its time
        flowdock.stop()


def is_done(archive: Archive, history: int) -> bool:
    """Tell whether nearly all is there, proven, without doubt, and can be searched."""
    return bool(
        archive.value(f"""
            SELECT (SELECT count(*) FROM store.messages) >= {history} * 0.9
               AND NOT EXISTS (SELECT FROM archive.gaps)
               AND NOT EXISTS (SELECT FROM archive.doubts)
               AND NOT EXISTS (SELECT FROM store.walks WHERE below > 0)
               AND NOT EXISTS (SELECT FROM store.changes)
        """)
    )


def disk(archive: Archive) -> Iterator[Figure]:
    """Yield what an event takes, in the tables that are large and in all."""
    archive.sql.execute("VACUUM (ANALYZE)")
    events = archive.value("SELECT count(*) FROM store.journal WHERE form = 0")
    sizes: dict[str, tuple[int, int]] = dict(
        archive.sql.execute("""
            SELECT relname, ARRAY[pg_table_size(oid), pg_indexes_size(oid)] FROM pg_class
            WHERE relnamespace = CAST('store' AS regnamespace) AND relkind = 'r'
        """).fetchall()
    )
    for table, meaning in GROUPS.items():
        for size, what in zip(sizes.pop(table), ("rows", "indexes"), strict=True):
            name = f"sizing, {meaning}, {what}"
            yield Figure(bench=name, unit="bytes/event", values=[size / events])
    rest = sum(sum(pair) for pair in sizes.values())
    yield Figure(bench="sizing, all else", unit="bytes/event", values=[rest / events])
    yield Figure(bench="sizing, events", unit="events", values=[events])
