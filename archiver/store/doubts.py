"""What has to be listed again: messages that may have changed while nobody listened.

The ledger holds their ids, flow by flow. What a page showed since is doubted no more; it is
`store.coverage.advance` that takes it out, with what the page proves.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import bindparam, case, func, not_, null, select, update

from archiver.store.bulk import Key, keys_of
from archiver.store.connection import Transaction
from archiver.store.coverage import ALL_DUE, MANY_RANGES_BYTES
from archiver.store.pipelining import Statement, send
from archiver.store.schema import ledger


async def open_streams(tx: Transaction, flow_keys: Iterable[int]) -> None:
    """Begin an epoch of flows: their streams were opened, and nobody knows what was missed.

    The service does not list past edits, so all that is due has to be listed again. Where nothing
    is due yet, nothing was missed: whatever is listed from now on is as good as heard, but for
    single messages that were doubted before.
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
    """Have all that is due of flows listed again, if they have been without doubt since *before*.

    Or since a time that is yet to come, by a clock that was wrong. Single messages that are doubted
    do not count. Of these flows, the *most* that have been so for longest; one that is being listed
    again already is left to it. Returns how many they were.
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
    """Have the messages *keys* listed again: they were changed, and nobody knows how.

    Whatever is asked for meanwhile does not lift that, as what changed them is newer. Since when
    the rest of their flows is without doubt, stays as it is.
    """
    await send(tx, [Statement(_DOUBT, list(keys_of(keys).values()))])


_DOUBT = f"""
    UPDATE store.ledger AS held SET
        doubted = CASE WHEN pg_column_size(held.doubted) > {MANY_RANGES_BYTES}
            THEN int8multirange(range_merge(held.doubted + changed.ids))
            ELSE held.doubted + changed.ids END
    FROM (
        SELECT flow_key, range_agg(int8range(id, id, '[]')) AS ids
        FROM unnest($1::integer[], $2::bigint[]) AS asked (flow_key, id)
        GROUP BY flow_key
    ) AS changed
    WHERE held.flow_key = changed.flow_key
""".encode()  # noqa: S608
