"""What a verification asks of the stored messages."""

from datetime import UTC, datetime, timedelta

from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import verifying
from archiver.store.engine import connect, transaction
from tests.ingest.arriving import NOW, SENT, edit, frame, new_flow, streamed


async def test_what_was_sent_since_a_time_begins_with_what_was_sent_at_that_time(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        arrivals = [streamed(frame(id_), flow_key) for id_ in (3, 5, 9)]
        await apply(engine, Batch(now=NOW, arrivals=arrivals))
        first = []
        for later in (0, 4, 5, 6, 10):
            since = datetime.fromtimestamp(SENT / 1000, UTC) + timedelta(milliseconds=later)
            async with transaction(engine) as tx:
                first.append(await verifying.first_since(tx, flow_key, since))
    assert first == [1, 4, 4, 6, 10]


async def test_a_page_full_is_counted_by_what_is_there(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        arrivals = [streamed(frame(id_), flow_key) for id_ in (3, 5, 7, 9)]
        arrivals.append(streamed(edit(11, 5, ""), flow_key))
        await apply(engine, Batch(now=NOW, arrivals=arrivals))
        async with transaction(engine) as tx:
            counted = [await verifying.nth(tx, flow_key, 1, 99, number=n) for n in (1, 2, 3, 4)]
    assert counted == [3, 7, 9, 99]
