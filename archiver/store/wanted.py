"""What is to be asked for: the gaps of the ledger, and what is doubted of it.

It is read every second, of all flows, so it is read as cheaply as can be.
"""

from msgspec import Struct
from sqlalchemy import Text, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.domain.coverage import Ranges
from archiver.store.coverage import ALL_DUE, read_ranges
from archiver.store.fetching import fetch, query
from archiver.store.schema import ledger

NO_IDS = Ranges()


class Wanting(Struct, frozen=True, kw_only=True):
    """What is to be asked for of one flow."""

    missing: Ranges
    """Due, and proven by nobody."""
    doubted: Ranges
    due: int
    epoch: int


async def wanting(tx: AsyncConnection) -> dict[int, Wanting]:
    """By flow key: what is to be asked for, of all flows, so that every epoch is told."""
    return {
        flow_key: Wanting(
            missing=read_ranges(missing) if missing else NO_IDS,
            doubted=read_ranges(doubted) if doubted else NO_IDS,
            due=due,
            epoch=epoch,
        )
        for flow_key, missing, doubted, due, epoch in await fetch(tx, _WANTING, {})
    }


_MISSING = ALL_DUE - ledger.c.streamed - ledger.c.listed
# Nearly all are empty, and null is cheaper to read than a set.
_WANTING = query(
    select(
        ledger.c.flow_key,
        *(
            cast(func.nullif(ids, text("'{}'::int8multirange")), Text)
            for ids in (_MISSING, ledger.c.doubted)
        ),
        ledger.c.due,
        ledger.c.epoch,
    )
)
