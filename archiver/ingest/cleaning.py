"""What follows an erasure: nothing computed from what was erased may stay where it can be read."""

import asyncio
from collections.abc import Collection, Sequence

from archiver.ingest.indexing import catch_up
from archiver.ingest.rewording import spellings
from archiver.store import cleaning
from archiver.store.cleaning import Left
from archiver.store.connection import Engine
from archiver.store.engine import see_one_moment, transaction

PAUSE_SECONDS = 0.5
MOST_PAUSES = 120


async def clean(engine: Engine, phrases: Collection[str]) -> Sequence[Left]:
    """Bring the search index up to date and remove dead rows; returns where a phrase still is.

    It may be repeated, as after it was interrupted.
    """
    for _ in range(MOST_PAUSES):
        if not await catch_up(engine):
            break
        await asyncio.sleep(PAUSE_SECONDS)  # a daemon is at it
    await cleaning.vacuum(engine)
    left = await _look(engine, phrases)
    if any(one.is_statistics for one in left):
        await cleaning.forget_statistics(engine, left)
        left = await _look(engine, phrases)
    return left


async def _look(engine: Engine, phrases: Collection[str]) -> Sequence[Left]:
    async with transaction(engine) as tx:
        await see_one_moment(tx)
        sought = [spelling for one in phrases for spelling in spellings(one)]
        return await cleaning.what_is_left(tx, sought)
