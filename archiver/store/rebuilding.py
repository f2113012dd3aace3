"""Reading and removing derived rows for a rebuild, one stretch of ids at a time."""

from collections.abc import Collection

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    DateTime,
    and_,
    bindparam,
    cast,
    delete,
    not_,
    null,
    select,
    text,
    union_all,
)

from archiver.store.bulk import bigint, integer
from archiver.store.connection import Transaction
from archiver.store.fetching import Query, fetch, query
from archiver.store.journal import Entry, entry_of, first_of, newest_of
from archiver.store.schema import journal, messages, sightings, threads
from archiver.store.search_queue import note

BATCH_IDS = 2000
"""The most ids in a stretch. The flow is locked while they are processed, so this should not take
long."""
BATCH_BYTES = 8_000_000
"""The most bytes of payloads in a stretch; a message with more is a stretch of its own."""


class Stretch(Struct, frozen=True):
    """Ids of one flow that are processed together: those after *after*, up to *last*."""

    flow_key: int
    after: int
    last: int
    ids: tuple[int, ...]
    """All ids that the journal or a derived table has in the stretch."""
    is_end: bool
    """Whether nothing came after it when it was read."""


async def bounds(tx: Transaction, flow_key: int) -> tuple[int, int]:
    """The first and the last id in the journal of a flow; both 0 if there is none."""
    found = await tx.execute(_BOUNDS, {"flow_key": flow_key})
    first, last = found.one()
    return first or 0, last or 0


async def next_stretch(tx: Transaction, flow_key: int, *, after: int) -> Stretch | None:
    """The next ids after *after*, as many as may be in a stretch; None if there are none."""
    asked = {
        "flow_key": integer(flow_key),
        "after": bigint(after),
        "most": bigint(BATCH_IDS),
        "bytes": bigint(BATCH_BYTES),
    }
    rows = await fetch(tx, _NEXT_IDS, asked)
    if not rows:
        return None
    ids = tuple(id_ for id_, _ in rows)
    is_end = len(ids) == rows[0][1] < BATCH_IDS
    return Stretch(flow_key, after, ids[-1], ids, is_end)


async def entries_of(tx: Transaction, stretch: Stretch) -> list[Entry]:
    """What `journal.about` returns for all messages of a stretch, by one scan of two indexes.

    An event that changes a message and lies in the stretch itself is returned only once.
    """
    asked = {
        "flow_key": integer(stretch.flow_key),
        "after": bigint(stretch.after),
        "last": bigint(stretch.last),
    }
    return [Entry(*row) for row in await fetch(tx, _TOLD, asked)]


async def stored_threads(tx: Transaction, flow_key: int, *, after: str) -> list[tuple[str, int]]:
    """Threads after *after*, each with the event that, according to its row, showed it."""
    asked = {"flow_key": flow_key, "after": after, "most": BATCH_IDS}
    return [(thread, as_of) for thread, as_of in await tx.execute(_THREADS, asked)]


async def remove_messages(tx: Transaction, flow_key: int, ids: Collection[int]) -> None:
    """Remove rows of messages; the journal is not changed."""
    await tx.execute(
        delete(messages).where(messages.c.flow_key == flow_key, messages.c.id.in_(ids))
    )
    await note(tx, [(flow_key, id_) for id_ in ids])


async def remove_threads(tx: Transaction, flow_key: int, ids: Collection[str]) -> None:
    """Remove rows of threads; the journal is not changed."""
    await tx.execute(
        delete(threads).where(threads.c.flow_key == flow_key, threads.c.thread_id.in_(ids))
    )


_BOUNDS = text("SELECT min(id), max(id) FROM store.journal WHERE flow_key = :flow_key")

_NEXT_IDS = Query.of("""
    WITH found AS (
        SELECT id FROM (
            (SELECT DISTINCT id FROM store.journal
             WHERE flow_key = %(flow_key)s AND id > %(after)s ORDER BY id LIMIT %(most)s)
            UNION
            (SELECT id FROM store.messages
             WHERE flow_key = %(flow_key)s AND id > %(after)s ORDER BY id LIMIT %(most)s)
            UNION
            (SELECT DISTINCT message_id FROM store.revisions
             WHERE flow_key = %(flow_key)s AND message_id > %(after)s
             ORDER BY message_id LIMIT %(most)s)
        ) AS any_table ORDER BY id LIMIT %(most)s
    ), about AS (
        SELECT id, payload FROM store.journal
        WHERE flow_key = %(flow_key)s AND id > %(after)s AND id <= (SELECT max(id) FROM found)
        UNION ALL
        SELECT target_id, payload FROM store.journal
        WHERE flow_key = %(flow_key)s
        AND target_id > %(after)s AND target_id <= (SELECT max(id) FROM found)
    ), weights AS (
        SELECT id, sum(octet_length(CAST(payload AS text))) AS bytes FROM about GROUP BY id
    ), weighed AS (
        SELECT id, sum(coalesce(bytes, 0)) OVER (ORDER BY id) - coalesce(bytes, 0) AS before,
               count(*) OVER () AS found
        FROM found LEFT JOIN weights USING (id)
    )
    SELECT id, found FROM weighed WHERE before < CAST(%(bytes)s AS bigint) ORDER BY id
""")

_THREADS = text("""
    SELECT thread_id, as_of FROM store.threads
    WHERE flow_key = :flow_key AND thread_id > :after ORDER BY thread_id LIMIT :most
""")

_NEWEST = newest_of(journal, sightings)
_OF_FLOW = journal.c.flow_key == bindparam("flow_key")
_OWN = and_(journal.c.id > bindparam("after"), journal.c.id <= bindparam("last"))
_TARGETED = and_(journal.c.target_id > bindparam("after"), journal.c.target_id <= bindparam("last"))
_TOLD = query(
    union_all(
        select(
            *entry_of(journal, witness=_NEWEST.witness),
            _NEWEST.as_of,
            _NEWEST.shown_at,
            *first_of(journal, sightings),
        )
        .outerjoin_from(
            journal,
            sightings,
            and_(
                sightings.c.flow_key == journal.c.flow_key,
                sightings.c.id == journal.c.id,
                sightings.c.form == journal.c.form,
            ),
        )
        .where(_OF_FLOW, _OWN),
        select(
            *entry_of(journal, witness=journal.c.witness),
            journal.c.as_of,
            journal.c.received_at,
            cast(null(), BigInteger),
            cast(null(), DateTime(timezone=True)),
        ).where(_OF_FLOW, _TARGETED, not_(_OWN)),
    )
)
