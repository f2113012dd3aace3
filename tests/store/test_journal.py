"""Sightings: of all listings that showed a form, the first and the newest count."""

from datetime import timedelta
from itertools import permutations

from msgspec.structs import replace

from archiver.ingest.apply import apply
from archiver.ingest.batch import Arrival, Batch
from archiver.store import journal
from archiver.store.engine import connect, transaction
from archiver.store.journal import Sighting
from tests.ingest.arriving import NOW, frame, listed, new_flow, streamed

SEEN = [(5, 0), (5, 2), (9, 1)]
"""Positions of listings, and the seconds at which they were requested."""


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


async def test_the_newest_that_the_service_told_is_looked_for_among_the_newest(
    database_url, monkeypatch
):
    monkeypatch.setattr(journal, "NEWEST_FORMS", 3)
    async with connect(database_url) as engine:
        told, long_ago, never, often = [await new_flow(engine) for _ in range(4)]
        arrivals = [
            *(streamed(frame(1), flow_key) for flow_key in (told, long_ago)),
            *(imported(id_, flow_key) for id_ in (2, 3) for flow_key in (told, long_ago, never)),
            imported(4, long_ago),
            *(streamed(frame(id_), often) for id_ in (1, 2)),
            imported(3, often),
        ]
        await apply(engine, Batch(now=NOW, arrivals=arrivals))
        async with transaction(engine) as tx:
            assert await journal.newest(tx) == {told: 3, long_ago: 4, never: 3, often: 3}
            assert await journal.newest_from_service(tx) == {told: 1, often: 2}


def imported(id_: int, flow_key: int) -> Arrival:
    return replace(listed(frame(id_), flow_key, as_of=id_), witness="import")
