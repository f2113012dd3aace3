"""Sightings: of all listings that showed a form, the newest and the first count."""

from datetime import timedelta
from itertools import permutations

from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import journal
from archiver.store.engine import connect, transaction
from archiver.store.journal import Sighting
from tests.ingest.arriving import NOW, frame, new_flow, streamed

SEEN = [(5, 0), (5, 2), (9, 1)]
"""Positions of listings, and the seconds at which they were asked for."""


async def test_the_newest_sighting_stays_in_whatever_order_they_are_written(
    database_url,
):
    async with connect(database_url) as engine:
        for order in permutations(SEEN):
            flow_key = await new_flow(engine)
            await apply(engine, Batch(now=NOW, arrivals=[streamed(frame(1), flow_key)]))
            async with transaction(engine) as tx:
                for as_of, seconds in order:
                    shown_at = NOW + timedelta(seconds=seconds)
                    one = Sighting(
                        flow_key=flow_key,
                        id=1,
                        form=0,
                        as_of=as_of,
                        shown_at=shown_at,
                        first_as_of=5,
                        first_shown_at=NOW,
                    )
                    await journal.sight(tx, [one])
                (entry,) = await journal.about(tx, [(flow_key, 1)])
            newest = (9, NOW + timedelta(seconds=1), "list")
            assert (entry.as_of, entry.received_at, entry.witness) == newest
            assert (entry.first_as_of, entry.first_shown_at) == (5, NOW)
