"""The queue of messages that are not in `texts` yet: those just written, and older ones.

A transaction that writes messages adds one row with their keys to the queue. So none is missed: a
row becomes visible when the messages do, and there is no high-water mark below which a transaction
could commit late. Messages that were there before the queue are walked through, flow by flow, from
the newest id down.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import bindparam, delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import BigInteger

from archiver.domain.model import LARGEST_ID
from archiver.store.bulk import Key, keys_of
from archiver.store.connection import Transaction
from archiver.store.rows import Rows, add_rows
from archiver.store.schema import changes, lexicon, walks

ONE_AT_A_TIME = 0x7365656B
"""The first advisory lock of whoever fills `texts`. If two did, the slower one would overwrite
newer texts with older ones."""
SESSIONS = 2
"""How many sessions one filler may use. As one may outlive the other, each has its own lock."""
MOST_NOTES = 500


class Lexicon(Struct, frozen=True):
    """How the searched texts were made; if that changes, all are made again."""

    version: int
    language: str


class Portion(Struct, frozen=True):
    """Messages of one flow that are not in `texts` yet."""

    flow_key: int
    below: int
    """The id below which to continue; 0 if these are the last."""
    ids: tuple[int, ...]


class Backlog(Struct, frozen=True, kw_only=True):
    """How much cannot be found yet."""

    changes: int
    """The number of messages in the queue; one that was written twice counts twice."""
    since: datetime | None
    """When the oldest of them was written."""
    flows: int
    """The number of flows whose older messages are not all in `texts` yet."""


async def note(tx: Transaction, keys: Iterable[Key]) -> None:
    """Queue messages, in the transaction that writes them, since `texts` is outdated for them."""
    await add_rows(tx, noted(keys))


def noted(keys: Iterable[Key]) -> Rows:
    """The row that `note` inserts; none if there are no *keys*."""
    some = list(keys)
    return Rows(changes, ["flow_keys", "ids"], [tuple(keys_of(some).values())] if some else [])


async def begin(*sessions: Transaction) -> bool:
    """Try to become the one who fills `texts`, until the transactions of these sessions end.

    Returns False if somebody else is filling it. One or two sessions may be given.
    """
    for number in range(SESSIONS):
        tx = sessions[number % len(sessions)]
        found = await tx.execute(_LOCK, {"key": ONE_AT_A_TIME + number})
        if not found.scalar_one():
            return False
    return True


async def lexicon_of(tx: Transaction) -> Lexicon | None:
    """How the texts are made; None if there are none yet."""
    row = (await tx.execute(select(lexicon))).one_or_none()
    return None if row is None else Lexicon(row.version, row.language)


async def adopt(tx: Transaction, wanted: Lexicon) -> Lexicon | None:
    """Have all texts made as *wanted* says; the old ones are searched until they are replaced.

    Returns how they were made before; None if there were none. Waits for whoever is filling
    `texts`, since texts still made in the old way would otherwise not be made again. Also waits for
    others who call this.
    """
    if (made := await lexicon_of(tx)) == wanted:
        return made
    for number in range(SESSIONS):
        await tx.execute(_WAIT_FOR_LOCK, {"key": ONE_AT_A_TIME + number})
    if (made := await lexicon_of(tx)) == wanted:  # somebody else was about to do the same
        return made
    if made is not None:  # otherwise `walks` has nothing but the rows of `pass_over`
        await tx.execute(delete(lexicon))
        await tx.execute(delete(walks))
    await tx.execute(insert(lexicon).values(version=wanted.version, language=wanted.language))
    return made


async def pass_over(tx: Transaction, flow_keys: Iterable[int]) -> None:
    """Mark new flows as walked to the end: all that will be written there is queued."""
    if rows := [{"flow_key": flow_key, "below": 0} for flow_key in flow_keys]:
        await tx.execute(insert(walks).on_conflict_do_nothing(), rows)


async def take_changes(tx: Transaction, *, enough: int) -> list[Key]:
    """Take messages from the queue, the newest rows first, until there are *enough*.

    Rows are taken whole, so there may be more; but at most `MOST_NOTES` rows are taken.
    """
    taken = (await tx.execute(_TAKE, {"most": MOST_NOTES, "enough": enough})).all()
    return [key for row in taken for key in zip(row.flow_keys, row.ids, strict=True)]


async def next_portion(tx: Transaction, *, most: int) -> Portion | None:
    """The next older messages to add to `texts`; None if all flows are walked to the end."""
    while flow := (await tx.execute(_NEXT_FLOW)).one_or_none():
        asked = {"flow_key": flow.flow_key, "below": flow.below, "most": most}
        ids: Sequence[int] = (await tx.execute(_IDS, asked)).scalars().all()
        if ids:
            below = ids[-1] if len(ids) == most else 0
            return Portion(flow.flow_key, below, tuple(ids))
        await advance(tx, Portion(flow.flow_key, 0, ()))
    return None


async def advance(tx: Transaction, portion: Portion) -> None:
    """Record that the messages of *portion* are in `texts`."""
    await tx.execute(_ADVANCE, {"flow_key": portion.flow_key, "below": portion.below})


async def backlog(tx: Transaction) -> Backlog:
    """How much cannot be found yet."""
    row = (await tx.execute(_BACKLOG)).one()
    return Backlog(changes=int(row.changes), since=row.since, flows=row.flows)


async def newest_note(tx: Transaction) -> int:
    """The newest row of the queue; 0 if it is empty."""
    return int((await tx.execute(_NEWEST)).scalar_one())


async def is_behind(tx: Transaction, note: int) -> bool:
    """Tell whether `texts` may be outdated for messages that were queued up to the row *note*."""
    return bool((await tx.execute(_IS_BEHIND, {"note": note})).scalar_one())


_NEWEST = text("SELECT coalesce(max(change_key), 0) FROM store.changes")

_IS_BEHIND = text("""
    SELECT EXISTS (SELECT FROM store.texts)
       AND EXISTS (SELECT FROM store.changes WHERE change_key <= :note)
""")

_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")

_WAIT_FOR_LOCK = text("SELECT pg_advisory_xact_lock(:key)")

_TAKE = text("""
    DELETE FROM store.changes WHERE change_key IN (
        SELECT change_key FROM (
            SELECT change_key, cardinality(ids) AS its,
                   sum(cardinality(ids)) OVER (ORDER BY change_key DESC) AS together
            FROM (SELECT * FROM store.changes ORDER BY change_key DESC LIMIT :most) AS newest
        ) AS summed WHERE together - its < :enough
    ) RETURNING flow_keys, ids
""")

_NEXT_FLOW = text("""
    SELECT f.flow_key, coalesce(w.below, :largest) AS below
    FROM store.flows AS f LEFT JOIN store.walks AS w USING (flow_key)
    WHERE w.below IS NULL OR w.below > 0 ORDER BY w.below IS NULL, f.flow_key LIMIT 1
""").bindparams(bindparam("largest", LARGEST_ID, BigInteger))

_IDS = text("""
    SELECT id FROM store.messages WHERE flow_key = :flow_key AND id < :below
    ORDER BY id DESC LIMIT :most
""")

_ADVANCE = text("""
    INSERT INTO store.walks (flow_key, below) VALUES (:flow_key, :below)
    ON CONFLICT (flow_key) DO UPDATE SET below = excluded.below
""")

_BACKLOG = text("""
    SELECT coalesce(sum(cardinality(ids)), 0) AS changes, min(changed_at) AS since,
           (SELECT count(*) FROM store.flows AS f LEFT JOIN store.walks AS w USING (flow_key)
            WHERE coalesce(w.below, 1) > 0) AS flows
    FROM store.changes
""")
