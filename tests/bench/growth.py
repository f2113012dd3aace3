"""Growth: what an event costs in an archive of half a million, two and five million messages.

The archive is filled by SQL, with rows like those of the feeder's messages, in all flows alike, and
with the indexes made at the end; then events come as in the bench of ingest. The cost is processor
time, of daemon and server. The rows that it was filled with count as searchable: to make millions
of them so in the background would be measured instead. For the same reason each run waits until
what it brought is searchable, so that the next one finds nothing left to do; and one run goes
before all others and is not counted, because the search's tables are empty until then.
"""

from collections.abc import Iterator
from itertools import count

from archiver.domain.query_text import VERSION
from archiver.settings.sections import SearchSettings
from tests.bench import ingest
from tests.bench.figures import Figure, Target
from tests.bench.lab import Archive, Feeder, Lab
from tests.bench.options import Options

SIZES = (500_000, 2_000_000, 5_000_000)
LARGEST = 20_000_000
FIRST_RUN = LARGEST
RUN_TO_RUN = 10_000_000
"""The ids of a run lie above those of the rows that were filled in, and of the run before."""


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the cost at each size, as a ratio to that at the first."""
    sizes = [20_000, 100_000] if options.quick else [*SIZES]
    if options.full:
        sizes.append(LARGEST)
    events = options.amount(50_000, quick=10_000)
    first: list[float] = []
    runs = count()
    with lab.feeder() as feeder, lab.archive() as archive:
        held = 0
        for size in sizes:
            fill(archive, first=held, last=size)
            if not held:
                cost(lab, archive, feeder, events=events, run=next(runs))
            held = size
            costs = [
                cost(lab, archive, feeder, events=events, run=next(runs))
                for _ in range(options.runs(3))
            ]
            first = first or costs
            yield Figure(
                bench=f"growth, {size / 1e6:g} million",
                unit="µs/event",
                values=costs,
                limits=first,
                target=Target("ratio", "at most", 1.3),
            )


def cost(lab: Lab, archive: Archive, feeder: Feeder, *, events: int, run: int) -> float:
    """The processor time of an event, in microseconds, in the *run* of that number."""
    # Above all that is there, and that the runs before have brought.
    after = FIRST_RUN + RUN_TO_RUN * run
    archive.sql.execute(_PROVEN, [after])
    archive.sql.execute("VACUUM (ANALYZE)")
    archive.sql.execute("CHECKPOINT")
    with ingest.ingesting(lab, archive, feeder, events=events, seed=run, after=after) as taken:
        ingest.wait_until_found(archive)
    return (taken.daemon_seconds + taken.postgres_seconds) / events * 1e6


def fill(archive: Archive, *, first: int, last: int) -> None:
    """Add the messages from the number *first* to *last*, dealt out to the flows."""
    archive.sql.execute(_FLOWS, {"flows": ingest.FLOWS})
    archive.sql.execute(_SEARCHABLE, {"version": VERSION, "language": SearchSettings().language})
    with archive.unindexed("journal", "messages"):
        archive.sql.execute(_FILL, {"flows": ingest.FLOWS, "first": first, "last": last})


# The feeder lists nothing: let nothing be missing, and nothing be due to be listed again.
_PROVEN = """
    UPDATE store.ledger
    SET streamed = streamed + int8multirange(int8range(1, %s, '[]')), due = 0, doubted = '{}'
"""
_FLOWS = """
    WITH made AS (
        INSERT INTO store.flows (flow_id, path, first_seen_at)
        SELECT '00f10d0c-0000-0000-0000-' || lpad(to_hex(n), 12, '0'), 'acme/project-' || n, now()
        FROM generate_series(0, %(flows)s - 1) AS n
        ON CONFLICT (flow_id) DO NOTHING RETURNING flow_key
    )
    INSERT INTO store.ledger (flow_key) SELECT flow_key FROM made
"""
_SEARCHABLE = """
    WITH made AS (
        INSERT INTO store.lexicon (version, language) VALUES (%(version)s, %(language)s)
        ON CONFLICT DO NOTHING
    )
    INSERT INTO store.walks (flow_key, below) SELECT flow_key, 0 FROM store.flows
    ON CONFLICT DO NOTHING
"""
_FILL = """
    WITH made AS (
        SELECT flow_key, 1 + n / %(flows)s AS id, n,
               to_timestamp(1600000000 + n) AS at, repeat(md5(n::text) || ' ', 5) AS content
        FROM generate_series(%(first)s::bigint, %(last)s::bigint - 1) AS n
        JOIN store.flows ON path = 'acme/project-' || n %% %(flows)s
    ), journalled AS (
        INSERT INTO store.journal (flow_key, id, form, digest, witness, event, user_id, sent_at,
                                   received_at, as_of, payload)
        SELECT flow_key, id, 0, md5(n::text)::uuid, 'stream', 'message', '1', at, at, id,
               json_build_object('app', 'chat', 'event', 'message', 'id', id, 'content', content,
                                 'tags', '[]'::json, 'uuid', md5(n::text), 'user', '1')
        FROM made
    )
    INSERT INTO store.messages (flow_key, id, event, user_id, sent_at, content, tags, edits,
                                removed, app, uuid, as_of, revisions)
    SELECT flow_key, id, 'message', '1', at, content, '{}', 0, false, 'chat', md5(n::text), id, 0
    FROM made
"""
