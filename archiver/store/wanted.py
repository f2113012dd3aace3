"""What is to be requested from the service: the gaps in the ledger, and what is doubted.

This is read every second, so the query is as cheap as possible, and leaves out flows that were
closed over the years: their gaps and doubts stay.
"""

from collections.abc import Collection

from msgspec import Struct
from sqlalchemy import Integer, Text, bindparam, cast, func, not_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import NullType

from archiver.domain.coverage import Ranges
from archiver.store.bulk import numbers
from archiver.store.connection import Transaction
from archiver.store.coverage import ALL_DUE, read_ranges
from archiver.store.fetching import fetch, query
from archiver.store.schema import ledger


class Wanting(Struct, frozen=True, kw_only=True):
    """What is to be requested of one flow."""

    missing: Ranges
    """The gaps: ids that are due, and that no witness has proven."""
    doubted: Ranges
    due: int
    epoch: int
    is_early: bool = False
    """Whether there are doubts that are left out here, since no listing can lift them yet."""


async def wanting(tx: Transaction, flow_keys: Collection[int]) -> dict[int, Wanting]:
    """By flow key: what is to be requested; of these flows, those with nothing are left out."""
    asked = {"keys": numbers(list(flow_keys), bits=32)}
    return {
        flow_key: Wanting(
            missing=read_ranges(missing), doubted=read_ranges(doubted), due=due, epoch=epoch
        )
        for flow_key, missing, doubted, due, epoch in await fetch(tx, _WANTING, asked)
    }


_KEYS = cast(bindparam("keys", type_=NullType()), ARRAY(Integer))
_STANDING = (
    select(
        ledger.c.flow_key,
        # Listings first: they leave little, while each connection adds a range to what streams
        # prove.
        (ALL_DUE - ledger.c.listed - ledger.c.streamed).label("missing"),
        (ledger.c.doubted * ALL_DUE).label("doubted"),
        ledger.c.due,
        ledger.c.epoch,
    )
    .where(ledger.c.flow_key == func.any(_KEYS))
    .subquery()
)
_WANTING = query(
    select(
        _STANDING.c.flow_key,
        cast(_STANDING.c.missing, Text),
        cast(_STANDING.c.doubted, Text),
        _STANDING.c.due,
        _STANDING.c.epoch,
    ).where(not_(func.isempty(_STANDING.c.missing) & func.isempty(_STANDING.c.doubted)))
)
