"""What the journal is not searched for is never something that it holds."""

from archiver.domain.coverage import Ranges
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store.engine import connect, transaction
from archiver.store.marks import Marks, lock_to_write
from tests.ingest.arriving import NOW, edit, frame, new_flow, streamed


async def test_a_range_is_vacant_if_it_holds_no_event_and_nothing_that_one_changes(database_url):
    asked = ((1, 1), (2, 4), (5, 6), (7, 7), (8, 8), (9, 12), (13, 20))
    async with connect(database_url) as engine:
        flow_key, other = await new_flow(engine), await new_flow(engine)
        heard = [frame(5), edit(12, 7, "of none that is held"), frame(13)]
        arrivals = [streamed(one, flow_key) for one in heard]
        arrivals += [streamed(one, other) for one in (frame(1), edit(99, 3, "elsewhere"))]
        await apply(engine, Batch(now=NOW, arrivals=arrivals))
        async with transaction(engine) as tx:
            told, _ = await lock_to_write(tx, [flow_key], {flow_key: Ranges(asked)})
    vacant = Ranges(((1, 4), (8, 8)))
    assert told == {flow_key: Marks(newest=13, newest_target=7, vacant=vacant)}
    marks = told[flow_key]
    assert [id_ for id_ in range(1, 16) if marks.may_hold(id_)] == [5, 6, 7, *range(9, 14)]
    assert [id_ for id_ in range(1, 16) if marks.may_change(id_)] == [5, 6, 7]
