"""What follows an erasure: nothing computed from what was erased may stay where it can be read."""

import asyncio
from collections.abc import Collection, Sequence

from msgspec import Struct

from archiver.ingest.indexing import catch_up
from archiver.ingest.rewording import spellings
from archiver.store import cleaning, search_queue
from archiver.store.cleaning import Left
from archiver.store.connection import Engine
from archiver.store.engine import keep_from_log, see_one_moment, transaction

PAUSE_SECONDS = 0.5
MOST_PAUSES = 120


class Cleaned(Struct, frozen=True):
    """What is left after it."""

    left: Sequence[Left]
    """Where a phrase still is."""
    is_indexed: bool
    """Whether the search index has nothing of what was erased."""

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing is left."""
        return self.is_indexed and not self.left


async def clean(engine: Engine, phrases: Collection[str]) -> Cleaned:
    """Bring the search index up to date, remove dead rows, and look for what is left.

    It may be repeated, as after it was interrupted.
    """
    async with transaction(engine) as tx:
        noted = await search_queue.newest_note(tx)
    for _ in range(MOST_PAUSES):
        if not await catch_up(engine):
            break
        await asyncio.sleep(PAUSE_SECONDS)  # a daemon is at it
    async with transaction(engine) as tx:
        is_indexed = not await search_queue.is_behind(tx, noted)
    await cleaning.vacuum(engine)
    left = await _look(engine, phrases)
    if any(one.is_statistics for one in left):
        await cleaning.forget_statistics(engine, left)
        left = await _look(engine, phrases)
    return Cleaned(left, is_indexed)


async def _look(engine: Engine, phrases: Collection[str]) -> Sequence[Left]:
    async with transaction(engine) as tx:
        await see_one_moment(tx)
        await keep_from_log(tx)
        sought = [spelling for one in phrases for spelling in spellings(one)]
        return await cleaning.what_is_left(tx, sought)
