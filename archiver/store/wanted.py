"""What is to be asked for: the gaps of the ledger, and what is doubted of it.

It is read every second, of all flows, so it is read as cheaply as can be.
"""

import re

from msgspec import Struct
from sqlalchemy import Text, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.domain.coverage import Ranges
from archiver.store.coverage import ALL_DUE
from archiver.store.fetching import fetch, query
from archiver.store.schema import ledger

NO_IDS = Ranges()


class Wanting(Struct, frozen=True, kw_only=True):
    """What is to be asked for of one flow."""

    missing: Ranges
    """Due, and proven by nobody."""
    doubted: Ranges
    epoch: int


async def wanting(tx: AsyncConnection) -> dict[int, Wanting]:
    """By flow key: what is to be asked for, of all flows, so that every epoch is told."""
    return {
        flow_key: Wanting(
            missing=_read(missing) if missing else NO_IDS,
            doubted=_read(doubted) if doubted else NO_IDS,
            epoch=epoch,
        )
        for flow_key, missing, doubted, epoch in await fetch(tx, _WANTING, {})
    }


def _read(multirange: str) -> Ranges:
    """What Postgres writes as ``{[1,5),[7,9)}``; that costs a tenth of ranges of psycopg's own."""
    bounds = map(int, _BOUND.findall(multirange))
    return Ranges(tuple((first, end - 1) for first, end in zip(bounds, bounds, strict=True)))


_BOUND = re.compile("[0-9]+")

_MISSING = ALL_DUE - ledger.c.streamed - ledger.c.listed
# Nearly all are empty, and null is cheaper to read than a set.
_WANTING = query(
    select(
        ledger.c.flow_key,
        *(
            cast(func.nullif(ids, text("'{}'::int8multirange")), Text)
            for ids in (_MISSING, ledger.c.doubted)
        ),
        ledger.c.epoch,
    )
)
