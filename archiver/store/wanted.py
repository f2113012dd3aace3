"""What is to be asked for: the gaps of the ledger, and what is doubted of it.

It is read every second, of all flows, so it is read as cheaply as can be.
"""

from msgspec import Struct
from sqlalchemy import Text, cast, func, not_, select

from archiver.domain.coverage import Ranges
from archiver.store.connection import Transaction
from archiver.store.coverage import ALL_DUE, read_ranges
from archiver.store.fetching import fetch, query
from archiver.store.schema import ledger


class Wanting(Struct, frozen=True, kw_only=True):
    """What is to be asked for of one flow."""

    missing: Ranges
    """Due, and proven by nobody."""
    doubted: Ranges
    due: int
    epoch: int
    is_early: bool = False
    """There are doubts, which a listing cannot lift yet, and so they are left out."""


async def wanting(tx: Transaction) -> dict[int, Wanting]:
    """By flow key: what is to be asked for, of the flows of which anything is."""
    return {
        flow_key: Wanting(
            missing=read_ranges(missing), doubted=read_ranges(doubted), due=due, epoch=epoch
        )
        for flow_key, missing, doubted, due, epoch in await fetch(tx, _WANTING)
    }


_STANDING = select(
    ledger.c.flow_key,
    (ALL_DUE - ledger.c.streamed - ledger.c.listed).label("missing"),
    (ledger.c.doubted * ALL_DUE).label("doubted"),
    ledger.c.due,
    ledger.c.epoch,
).subquery()
_WANTING = query(
    select(
        _STANDING.c.flow_key,
        cast(_STANDING.c.missing, Text),
        cast(_STANDING.c.doubted, Text),
        _STANDING.c.due,
        _STANDING.c.epoch,
    ).where(not_(func.isempty(_STANDING.c.missing) & func.isempty(_STANDING.c.doubted)))
)
