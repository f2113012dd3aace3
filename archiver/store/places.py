"""Which messages of a flow are held, in a range or next to an id, and which of them are gone."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import func, select, text

from archiver.store.bulk import numbers
from archiver.store.connection import Transaction
from archiver.store.fetching import rows_in
from archiver.store.pipelining import Statement, send
from archiver.store.schema import messages

INBOX = "influx"
"""The ``app`` of messages that integrations put into the team inbox (messages documentation)."""


class Place(Struct, frozen=True):
    """A message that is held, and what tells whether a listing may lack it."""

    id: int
    is_inbox: bool
    is_deleted: bool
    """Known to be deleted: by an edit to nothing, by a removal, or because it was not found."""
    is_removed: bool
    """Deleted by a ``message-delete``, so that the service cannot show it any more."""


_PLACES = select(
    messages.c.id,
    func.coalesce(messages.c.app == INBOX, text("false")),
    messages.c.deleted_at.is_not(None),
    messages.c.removed,
)


async def between(
    tx: Transaction, flow_key: int, first: int, last: int, *, newest: bool, most: int
) -> list[Place]:
    """The messages held from *first* to *last*, in the order of ids.

    If there are more than *most*, the newest or the oldest of them, as *newest* says.
    """
    number = messages.c.id
    statement = _PLACES.where(messages.c.flow_key == flow_key, number.between(first, last))
    statement = statement.order_by(number.desc() if newest else number).limit(most)
    held = [Place(*row) for row in await tx.execute(statement)]
    return held[::-1] if newest else held


async def occupied(
    tx: Transaction, spans: Sequence[tuple[int, int, int]]
) -> set[tuple[int, int, int]]:
    """The *spans*, each a flow key with a first and a last id, in which a message is held.

    The transaction may be committed when this returns, so nothing may follow.
    """
    flow_keys, firsts, lasts = zip(*spans, strict=True)
    bounds = numbers(firsts, bits=64), numbers(lasts, bits=64)
    asked = Statement(_OCCUPIED, [numbers(flow_keys, bits=32), *bounds])
    (answer,) = await send(tx, [asked], commits=True)
    return {(key, first, last) for key, first, last in rows_in(tx, answer)}


async def beside(
    tx: Transaction, flow_key: int, id_: int, *, older: bool, with_inbox: bool, most: int
) -> list[Place]:
    """The *most* messages held next to *id_*, on one side of it, the nearest first."""
    number = messages.c.id
    statement = _PLACES.where(
        messages.c.flow_key == flow_key, number < id_ if older else number > id_
    )
    if not with_inbox:
        statement = statement.where(messages.c.app.is_distinct_from(INBOX))
    statement = statement.order_by(number.desc() if older else number).limit(most)
    return [Place(*row) for row in await tx.execute(statement)]


async def changed_not_held(
    tx: Transaction, flow_key: int, first: int, last: int, *, most: int
) -> list[int]:
    """The newest ids from *first* to *last* of messages that events change but are not held."""
    asked = {"flow_key": flow_key, "first": first, "last": last, "most": most}
    return list(await tx.scalars(_UNHEARD_OF, asked))


_UNHEARD_OF = text("""
    SELECT DISTINCT target_id FROM store.journal AS j
    WHERE flow_key = :flow_key AND target_id BETWEEN :first AND :last
      AND NOT EXISTS (
          SELECT FROM store.messages AS m WHERE m.flow_key = j.flow_key AND m.id = j.target_id
      )
    ORDER BY target_id DESC LIMIT :most
""")

# Written so that it uses the index, whatever the planner's statistics say.
_OCCUPIED = b"""
    SELECT flow_key, first, last
    FROM unnest(CAST($1 AS integer[]), CAST($2 AS bigint[]), CAST($3 AS bigint[]))
        AS span (flow_key, first, last)
    CROSS JOIN LATERAL (
        SELECT id FROM store.messages WHERE flow_key = span.flow_key AND id >= first
        ORDER BY id LIMIT 1
    ) AS next
    WHERE next.id <= last
"""
