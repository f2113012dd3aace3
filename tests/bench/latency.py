"""Latency: from the moment at which the server writes an event until another session reads it.

One daemon hears of ten events a second, then of five hundred, then of three thousand. Every so
often one of them is waited for: from the moment at which it is due it is asked for again and again,
with a tenth of a millisecond between, so it is told about as exactly. The limit is what any program
pays that keeps a row for good: an INSERT of one row and its commit by psycopg, in the same archive
just before, and as often in a second, or as often as can be: what is asked rarely takes longer, as
nothing is at hand any more.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median, quantiles
from time import monotonic, sleep

from tests.bench import traffic
from tests.bench.figures import Figure, Target
from tests.bench.ingest import FLOWS, flow_keys, wait_until_found
from tests.bench.lab import Archive, Feeder, Lab
from tests.bench.options import Options

RATES = (10, 500, 3000)
SAMPLES_A_SECOND = 20
POLL_SECONDS = 0.0001
INSERT_SECONDS = 5
"""For how long to insert at most."""
P99_MS = 100.0


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the median and the 99th of a hundred at each rate."""
    seconds = options.amount(30, quick=2)
    with lab.feeder() as feeder, lab.archive() as archive:
        count = sum(RATES) * seconds
        feeder.scene(events=count, flows=FLOWS)
        waiting = traffic.events(count, flows=FLOWS)
        archive.sql.execute("CREATE TABLE public.one (id serial PRIMARY KEY, payload json)")
        with lab.daemon(archive, feeder):
            feeder.wait_until_followed()
            keys = flow_keys(archive)
            for rate in RATES:
                events = [next(waiting) for _ in range(rate * seconds)]
                limit = 1000 * median(single_inserts(archive, events[0].frame.decode(), rate))
                told = [1000 * one for one in latencies(archive, feeder, keys, rate, events)]
                yield from figures(rate, told, limit)
                # What is left to be made searchable would slow down the next.
                wait_until_found(archive)


def figures(rate: int, told: Sequence[float], limit: float) -> Iterator[Figure]:
    """What the latencies at one rate come to, in milliseconds."""
    yield Figure(
        bench=f"latency p50, {rate}/s",
        unit="ms",
        values=[median(told)],
        limits=[limit],
        target=Target("ratio", "at most", 5.0),
    )
    yield Figure(
        bench=f"latency p99, {rate}/s",
        unit="ms",
        values=[quantiles(told, n=100)[98]],
        target=Target("value", "at most", P99_MS) if rate == 500 else None,
    )


def single_inserts(archive: Archive, payload: str, rate: int) -> list[float]:
    """How many seconds an INSERT of one row and its commit take, so many times a second."""
    taken = []
    began = monotonic()
    for number in range(min(300, INSERT_SECONDS * rate)):
        sleep(max(0.0, began + number / rate - monotonic()))
        at = monotonic()
        archive.sql.execute("INSERT INTO public.one (payload) VALUES (%s)", [payload])
        taken.append(monotonic() - at)
    return taken


def latencies(
    archive: Archive,
    feeder: Feeder,
    keys: Mapping[str, int],
    rate: int,
    events: Sequence[traffic.Sent],
) -> Sequence[float]:
    """How many seconds it took until events could be read, of some in each second."""
    seen = {}
    began = feeder.go(rate=rate, events=len(events))
    for place in range(0, len(events), max(1, rate // SAMPLES_A_SECOND)):
        # To ask for what cannot be there yet would take time of the server that is measured.
        sleep(max(0.0, began + place / rate - monotonic()))
        one = events[place]
        await_event(archive, keys[str(one.flow)], one.id)
        seen[one.flow, one.id] = monotonic()
    written = {(flow, id_): at for flow, id_, at in feeder.tell("written")}
    return [at - written[key] for key, at in seen.items()]


def await_event(archive: Archive, flow_key: int, id_: int) -> None:
    """Wait until this session can read an event."""
    query = "SELECT FROM store.journal WHERE flow_key = %s AND id = %s"
    until = monotonic() + 60
    while not archive.sql.execute(query, [flow_key, id_], prepare=True).rowcount:
        if monotonic() > until:
            raise TimeoutError(f"event {id_} was not archived within a minute")
        sleep(POLL_SECONDS)
