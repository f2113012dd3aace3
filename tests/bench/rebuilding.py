"""Rebuild: all messages, revisions and threads from the journal, against the ingest of the same.

The time is what the program tells: as that of the ingest, it is without the start of Python.
"""

from collections.abc import Iterator

from tests.bench.exporting import timed
from tests.bench.figures import Figure, Target
from tests.bench.ingest import FLOWS, ingest
from tests.bench.lab import Lab
from tests.bench.options import Options


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield how many events of the journal are replayed in a second, their rows being gone."""
    events = options.amount(500_000, quick=10_000)
    # Each flow costs some statements: of fewer events there are fewer flows as well.
    flows = options.amount(FLOWS, quick=FLOWS // 10)
    with lab.feeder() as feeder, lab.archive() as archive:
        limit = events / ingest(lab, archive, feeder, events=events, flows=flows).seconds
        rows = archive.value("SELECT count(*) FROM store.messages")
        archive.sql.execute("TRUNCATE store.messages, store.revisions, store.threads")
        seconds, _ = timed(archive, "rebuild")
        if archive.value("SELECT count(*) FROM store.messages") != rows:
            raise AssertionError("other messages came of the journal than were there")
    yield Figure(
        bench="rebuild",
        unit="events/s",
        values=[events / seconds],
        limits=[limit],
        target=Target("ratio", "at least", 1.0),
    )
