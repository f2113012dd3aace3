"""Ranges without messages: each asker gets its own answer, whether asked together or alone."""

import asyncio
from contextlib import suppress

from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.vacancy import Vacancy
from archiver.store.connection import Engine
from tests.ingest.arriving import NOW, frame, new_flow, running, streamed


def test_what_holds_a_message_is_not_vacant_whoever_else_asks_or_is_cancelled(database_url):
    with running(database_url) as (run, engine):
        run(_ask_together(engine))


async def _ask_together(engine: Engine) -> None:
    flow_key, other = await new_flow(engine), await new_flow(engine)
    arrivals = [streamed(frame(id_), flow_key) for id_ in (5, 20)]
    await apply(engine, Batch(now=NOW, arrivals=arrivals))
    vacancy = Vacancy(engine)
    expected = {
        (flow_key, 1, 4): True,
        (flow_key, 5, 9): False,
        (flow_key, 1, 5): False,
        (flow_key, 6, 9): True,
        (other, 1, 9): True,
    }

    async def ask(*span: int) -> bool:
        return await vacancy.is_vacant(*span)

    asked = [asyncio.create_task(ask(*span)) for span in ((flow_key, 3, 3), *expected)]
    await asyncio.sleep(0)
    asked[0].cancel()
    with suppress(asyncio.CancelledError):
        await asked[0]

    # These are asked while the archive is answering the others.
    later = {(flow_key, 4, 5): False, (flow_key, 20, 20): False, (flow_key, 21, 30): True}
    for one in later:
        await asyncio.sleep(0)
        asked.append(asyncio.create_task(ask(*one)))
    assert await asyncio.gather(*asked[1:]) == [*expected.values(), *later.values()]
