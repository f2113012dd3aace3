"""The way through all that is derived: a stretch of ids at a time, and what should not be there."""

from collections.abc import Collection

from msgspec import Struct
from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.store.schema import messages, threads
from archiver.store.search_queue import note

BATCH_IDS = 500
BATCH_BYTES = 16_000_000
"""Of payloads; a message with more is a batch of its own."""


class Stretch(Struct, frozen=True):
    """Ids of one flow that are looked at together: those after *after*, up to *last*."""

    flow_key: int
    after: int
    last: int
    ids: tuple[int, ...]
    """Of all that the journal or a derived table has in the stretch."""


async def read_only(tx: AsyncConnection) -> None:
    """Let this transaction see one moment of the database, and change nothing."""
    await tx.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


async def bounds(tx: AsyncConnection, flow_key: int) -> tuple[int, int]:
    """The first and the last id in the journal of a flow; twice 0 when there is none."""
    found = await tx.execute(_BOUNDS, {"flow_key": flow_key})
    first, last = found.one()
    return first or 0, last or 0


async def next_stretch(tx: AsyncConnection, flow_key: int, *, after: int) -> Stretch | None:
    """The ids that come after *after*, as many as fit into memory; None when there are none."""
    asked = {"flow_key": flow_key, "after": after, "most": BATCH_IDS, "bytes": BATCH_BYTES}
    ids = tuple((await tx.execute(_NEXT_IDS, asked)).scalars())
    return Stretch(flow_key, after, ids[-1], ids) if ids else None


async def stored_threads(
    tx: AsyncConnection, flow_key: int, *, after: str
) -> list[tuple[str, int]]:
    """Threads that come after *after*, and the event that is said to have shown each."""
    asked = {"flow_key": flow_key, "after": after, "most": BATCH_IDS}
    return [(thread, as_of) for thread, as_of in await tx.execute(_THREADS, asked)]


async def remove_messages(tx: AsyncConnection, flow_key: int, ids: Collection[int]) -> None:
    """Remove rows of messages; the journal stays as it is."""
    await tx.execute(
        delete(messages).where(messages.c.flow_key == flow_key, messages.c.id.in_(ids))
    )
    await note(tx, [(flow_key, id_) for id_ in ids])


async def remove_threads(tx: AsyncConnection, flow_key: int, ids: Collection[str]) -> None:
    """Remove rows of threads; the journal stays as it is."""
    await tx.execute(
        delete(threads).where(threads.c.flow_key == flow_key, threads.c.thread_id.in_(ids))
    )


_BOUNDS = text("SELECT min(id), max(id) FROM store.journal WHERE flow_key = :flow_key")

_NEXT_IDS = text("""
    WITH found AS (
        SELECT id FROM (
            (SELECT DISTINCT id FROM store.journal
             WHERE flow_key = :flow_key AND id > :after ORDER BY id LIMIT :most)
            UNION
            (SELECT id FROM store.messages
             WHERE flow_key = :flow_key AND id > :after ORDER BY id LIMIT :most)
            UNION
            (SELECT DISTINCT message_id FROM store.revisions
             WHERE flow_key = :flow_key AND message_id > :after ORDER BY message_id LIMIT :most)
        ) AS any_table ORDER BY id LIMIT :most
    ), weighed AS (
        SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before
        FROM found CROSS JOIN LATERAL (
            SELECT coalesce(sum(octet_length(CAST(payload AS text))), 0) AS bytes
            FROM (
                SELECT payload FROM store.journal AS own
                WHERE own.flow_key = :flow_key AND own.id = found.id
                UNION ALL
                SELECT payload FROM store.journal AS change
                WHERE change.flow_key = :flow_key AND change.target_id = found.id
            ) AS about
        ) AS weight
    )
    SELECT id FROM weighed WHERE before < :bytes ORDER BY id
""")

_THREADS = text("""
    SELECT thread_id, as_of FROM store.threads
    WHERE flow_key = :flow_key AND thread_id > :after ORDER BY thread_id LIMIT :most
""")
