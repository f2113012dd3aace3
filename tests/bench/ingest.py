"""Ingest: events over real sockets until they are committed, against ``psql \\copy`` of the rows.

The daemon follows the feeder's streams as it would Flowdock's. The clock runs from the first byte
to the moment at which the last event of every flow can be read by another session; then the archive
must hold every event, and its coverage must reach the newest of each flow. That last part is late
by the settling time on purpose, so it is checked and not waited for on the clock.

The limit: the rows of that very archive, copied out, are copied by ``psql`` into an empty one.

A daemon of two processes (``sharing.processes``) uses two cores: that is measured as well, in runs
between those of one, and held against the same limit.

Texts for the search are made in the background meanwhile, as far as writing leaves time for it,
so the clock of what is searchable runs on until every message can be found. Its limit copies the
rows of the search after the others, into their indexes. This is measured once.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from time import monotonic

from msgspec import Struct

from tests.bench.copying import TABLES, copy_again
from tests.bench.figures import Figure, Target
from tests.bench.lab import SETTLING_SECONDS, Archive, Feeder, Lab, wait_for
from tests.bench.options import Options
from tests.bench.processes import cpu_seconds

FLOWS = 200
LEASE_SECONDS = 5.0


class Ingested(Struct, frozen=True, kw_only=True):
    """What one run took."""

    began_at: float
    """By the monotonic clock."""
    seconds: float
    daemon_seconds: float
    """Of processor time."""
    postgres_seconds: float


_COUNT = """
    SELECT count(*) FROM store.flows AS f
    CROSS JOIN LATERAL (
        SELECT FROM store.journal AS j WHERE j.flow_key = f.flow_key AND j.id > %s AND j.form = 0
    ) AS held
"""
_IS_HELD = "SELECT EXISTS (SELECT FROM store.journal WHERE (flow_key, id) = (%s, %s))"


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the figures of ingest, and the processor time behind it."""
    events = options.amount(500_000, quick=20_000)
    with lab.feeder() as feeder:
        with lab.archive() as archive:
            with ingesting(lab, archive, feeder, events=events) as first:
                wait_until_found(archive)
                found_seconds = monotonic() - first.began_at
            copied, texts_copied = copy_again(lab, archive, TABLES, ("texts",))
        done, limits = [first], [events / copied]
        with lab.archive() as archive:
            shared = [ingest(lab, archive, feeder, events=events, processes=2)]
        for _ in range(options.runs(3) - 1):
            with lab.archive() as archive:
                done.append(ingest(lab, archive, feeder, events=events))
                limits += [events / one for one in copy_again(lab, archive, TABLES)]
            with lab.archive() as archive:
                shared.append(ingest(lab, archive, feeder, events=events, processes=2))
    yield Figure(
        bench="ingest",
        unit="events/s",
        values=[events / one.seconds for one in done],
        limits=limits,
        target=Target("ratio", "at least", 0.7),
    )
    yield Figure(
        bench="ingest, searchable",
        unit="events/s",
        values=[events / found_seconds],
        limits=[events / (copied + texts_copied)],
        target=Target("ratio", "at least", 0.7),
    )
    yield Figure(
        bench="ingest, two processes",
        unit="events/s",
        values=[events / one.seconds for one in shared],
        limits=[median(limits)] * len(shared),
        target=Target("ratio", "at least", 0.7),
    )
    daemon = [one.daemon_seconds / events * 1e6 for one in done]
    postgres = [one.postgres_seconds / events * 1e6 for one in done]
    yield Figure(bench="ingest, CPU of daemon", unit="µs/event", values=daemon)
    yield Figure(bench="ingest, CPU of server", unit="µs/event", values=postgres)


def ingest(lab: Lab, archive: Archive, feeder: Feeder, **scene: int) -> Ingested:
    """As `ingesting`, and no longer than that takes."""
    with ingesting(lab, archive, feeder, **scene) as done:
        return done


@contextmanager
def ingesting(
    lab: Lab,
    archive: Archive,
    feeder: Feeder,
    *,
    events: int,
    flows: int = FLOWS,
    seed: int = 1,
    after: int = 0,
    processes: int = 1,
) -> Iterator[Ingested]:
    """Have a scene archived, as fast as that goes; the daemon goes on until the end of the block.

    All ids are above *after*, below which the archive may hold others.
    """
    newest = feeder.scene(events=events, flows=flows, seed=seed, after=after)
    settings = {
        "ARCHIVER_SHARING_PROCESSES": f"{processes}",
        "ARCHIVER_SHARING_LEASE_SECONDS": f"{LEASE_SECONDS}",
    }
    with lab.daemon(archive, feeder, settings) as daemon:
        if processes > 1:
            wait_until_shared(archive, processes=processes, flows=flows)
        feeder.wait_until_followed()
        last = last_events(archive, newest)
        pids = [daemon.process.pid, *daemon.further_processes()]
        before, pg_before = sum(map(cpu_seconds, pids)), lab.postgres_seconds()
        began = monotonic()
        feeder.go(rate=0)
        wait_until_held(archive, last)
        seconds = monotonic() - began
        spent = sum(map(cpu_seconds, pids)) - before
        pg_spent = lab.postgres_seconds() - pg_before
        came = archive.value(_COUNT, [after])
        if came != events:
            raise AssertionError(f"{came} of {events} events are archived")
        wait_for(lambda: covers_all(archive, last), seconds=SETTLING_SECONDS + 5)
        yield Ingested(
            began_at=began,
            seconds=seconds,
            daemon_seconds=spent,
            postgres_seconds=pg_spent,
        )


def wait_until_shared(archive: Archive, *, processes: int, flows: int) -> None:
    """Wait until each of the processes has a fair part of the flows."""
    parts: list[tuple[str, int]] = []

    def are_shared() -> bool:
        parts[:] = archive.sql.execute("SELECT daemon, captures FROM archive.daemons").fetchall()
        return [count > flows // (processes + 1) for _, count in parts] == [True] * processes

    try:
        wait_for(are_shared, seconds=60)
    except TimeoutError as late:
        late.add_note(f"flows by process: {dict(parts)}")
        raise


def flow_keys(archive: Archive) -> dict[str, int]:
    """The keys of the feeder's flows by their numbers."""
    rows = archive.sql.execute("SELECT path, flow_key FROM store.flows").fetchall()
    return {path.rpartition("-")[2]: key for path, key in rows}


def last_events(archive: Archive, newest: Mapping[str, int]) -> dict[int, int]:
    """The *newest* ids of a scene, by the keys of their flows."""
    keys = flow_keys(archive)
    return {keys[number]: id_ for number, id_ in newest.items()}


def wait_until_held(archive: Archive, last: dict[int, int]) -> None:
    """Wait until the last event of each flow can be read; each flow is written in order."""
    # One after the other: to look for all of them each time took a third of the server's time.
    missing = list(last.items())

    def holds_all() -> bool:
        while missing and archive.value(_IS_HELD, missing[-1]):
            missing.pop()
        return not missing

    wait_for(holds_all, seconds=600)


def covers_all(archive: Archive, last: dict[int, int]) -> bool:
    """Tell whether the last event of each flow lies in what the ledger claims."""
    found = archive.sql.execute(
        "SELECT count(*) FROM unnest(%s::int[], %s::bigint[]) AS last (flow_key, id)"
        " JOIN store.ledger AS l USING (flow_key) WHERE l.streamed @> last.id",
        [list(last), list(last.values())],
    ).fetchone()
    return found is not None and found[0] == len(last)


def wait_until_found(archive: Archive) -> None:
    """Wait until no message is left to be made searchable."""
    asked = "SELECT NOT EXISTS (SELECT FROM store.changes)"
    wait_for(lambda: bool(archive.value(asked)), seconds=1800, every_seconds=0.1)
