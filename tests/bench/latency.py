"""Latency: from the moment at which the server writes an event until another session reads it.

Every so often one event is waited for, by asking for it a thousand times a second. The limit is
what any program pays that keeps a row for good: an INSERT of one row and its commit by psycopg.
"""

from collections.abc import Iterator, Sequence
from statistics import median, quantiles
from time import monotonic, sleep

from tests.bench import traffic
from tests.bench.figures import Figure, Target
from tests.bench.ingest import FLOWS, flow_keys, wait_for_streams
from tests.bench.lab import Archive, Feeder, Lab
from tests.bench.options import Options

RATES = (10, 500, 3000)
SAMPLES_A_SECOND = 20
POLL_SECONDS = 0.0005
P99_MS = 100.0


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the median and the 99th of a hundred at each rate."""
    seconds = 2 if options.quick else 30
    with lab.feeder() as feeder:
        for rate in RATES:
            with lab.archive() as archive:
                limit = 1000 * median(single_inserts(archive))
                told = [1000 * one for one in latencies(lab, archive, feeder, rate, seconds)]
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


def single_inserts(archive: Archive) -> list[float]:
    """How many seconds an INSERT of one row and its commit take, again and again."""
    archive.sql.execute("CREATE TABLE public.one (id bigint PRIMARY KEY, payload json)")
    payload = next(iter(traffic.events(1, flows=1))).frame.decode()
    taken = []
    for number in range(300):
        began = monotonic()
        archive.sql.execute("INSERT INTO public.one VALUES (%s, %s)", [number, payload])
        taken.append(monotonic() - began)
    return taken


def latencies(
    lab: Lab, archive: Archive, feeder: Feeder, rate: int, seconds: int
) -> Sequence[float]:
    """How many seconds it took until events could be read, of some in each second."""
    count = rate * seconds
    feeder.scene(events=count, flows=FLOWS)
    sent = list(traffic.events(count, flows=FLOWS))
    watched = sent[:: max(1, rate // SAMPLES_A_SECOND)]
    with lab.daemon(archive, feeder):
        wait_for_streams(feeder)
        keys = flow_keys(archive)
        feeder.tell("go", rate=rate)
        seen = {}
        for one in watched:
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
