"""Doubts: which messages have to be listed again, since they may have changed unheard.

The ledger holds their ids, flow by flow. Once a page has shown them again, `store.coverage.advance`
lifts the doubt, along with recording what the page proves.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import bindparam, case, func, not_, null, select, update

from archiver.store.bulk import Key, keys_of
from archiver.store.connection import Transaction
from archiver.store.coverage import ALL_DUE
from archiver.store.pipelining import Statement, send
from archiver.store.schema import ledger

MANY_DOUBTS_BYTES = 4000
"""The stored size from which doubts are joined to one: some hundreds of ranges. What lies between
is listed then, too."""


async def open_streams(tx: Transaction, flow_keys: Iterable[int]) -> None:
    """Begin a new epoch of flows: their streams were opened, and nobody knows what was missed.

    The service does not list past edits, so all that is due has to be listed again. A flow of which
    nothing is due yet has missed nothing: all of it will be listed from now on. It is without doubt
    from now on, except for single messages that were doubted before.
    """
    assured_at = case((ledger.c.due > 0, null()), else_=func.now())
    await tx.execute(
        update(ledger)
        .where(ledger.c.flow_key == func.any(bindparam("keys", sorted(flow_keys))))
        .values(epoch=ledger.c.epoch + 1, doubted=ledger.c.doubted + ALL_DUE, assured_at=assured_at)
    )


async def doubt_flows(
    tx: Transaction, flow_keys: Iterable[int], *, before: datetime, now: datetime, most: int
) -> int:
    """Have flows listed again, as far as they are due, that have been without doubt for long.

    These are flows without doubt since a time before *before* or, because a clock was wrong, since
    a time after *now*. Doubted single messages do not count. At most *most* flows are chosen, those
    without doubt for longest first; flows that are being listed again already are left out. Returns
    how many were chosen.
    """
    chosen = (
        select(ledger.c.flow_key)
        .where(
            ledger.c.flow_key == func.any(bindparam("keys", sorted(flow_keys))),
            ledger.c.due > 0,
            func.isempty(ledger.c.doubted) | ledger.c.assured_at.is_not(None),
            not_(func.coalesce(ledger.c.assured_at, func.to_timestamp(0)).between(before, now)),
        )
        .order_by(ledger.c.assured_at.nulls_first(), ledger.c.flow_key)
        .limit(most)
        .with_for_update(key_share=True)
    )
    result = await tx.execute(
        update(ledger)
        .where(ledger.c.flow_key.in_(chosen.scalar_subquery()))
        .values(doubted=ledger.c.doubted + ALL_DUE, assured_at=None)
    )
    return result.rowcount


async def doubt_messages(tx: Transaction, keys: Iterable[Key]) -> None:
    """Have the messages *keys* listed again, since they were changed and nobody knows how.

    Requests that are under way cannot lift this doubt, as the change is newer than they are. The
    time since when the rest of each flow is without doubt does not change.
    """
    await send(tx, [Statement(_DOUBT, list(keys_of(keys).values()))])


_DOUBT = f"""
    UPDATE store.ledger AS held SET
        doubted = CASE WHEN pg_column_size(held.doubted) > {MANY_DOUBTS_BYTES}
            THEN int8multirange(range_merge(held.doubted + changed.ids))
            ELSE held.doubted + changed.ids END
    FROM (
        SELECT flow_key, range_agg(int8range(id, id, '[]')) AS ids
        FROM unnest($1::integer[], $2::bigint[]) AS asked (flow_key, id)
        GROUP BY flow_key
    ) AS changed
    WHERE held.flow_key = changed.flow_key
""".encode()  # noqa: S608
