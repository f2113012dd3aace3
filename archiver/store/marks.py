"""How far the journal of a flow goes, told when the flow is locked to be written to.

Nearly all that arrives lies beyond that, or where the journal holds nothing, and so is known to be
new without another look.
"""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from archiver.domain.coverage import Ranges
from archiver.store.bulk import numbers
from archiver.store.connection import Transaction
from archiver.store.coverage import LOCK
from archiver.store.fetching import rows_in
from archiver.store.pipelining import Answer, Statement, send


class Marks(Struct, frozen=True):
    """What the journal of a flow need not be asked for, since it does not hold it."""

    newest: int = 0
    """The newest id."""
    newest_target: int = 0
    """The newest message that an event changes, be it there or not."""
    vacant: Ranges = Ranges()
    """Ids below these of which it holds no event, and none that changes them."""

    def may_hold(self, id_: int) -> bool:
        """Tell whether the journal has to be asked for the event *id_*."""
        return id_ <= self.newest and id_ not in self.vacant

    def may_change(self, id_: int) -> bool:
        """Tell whether the journal has to be asked for what changes the message *id_*."""
        return id_ <= self.newest_target and id_ not in self.vacant


async def lock_to_write(
    tx: Transaction,
    flow_keys: Collection[int],
    listed: Mapping[int, Ranges],
    *,
    beside: Sequence[Statement] = (),
) -> tuple[dict[int, Marks], list[Answer]]:
    """Lock flows as `coverage.lock` does, and then tell how far the journal of each goes.

    And which of the ranges *listed*, by flow key, are vacant: what fills a gap lies below the
    newest id, and is new all the same. What stands *beside* is done after that; its answers are
    returned too. All this, and the begin of the transaction, cost one wait for the server.
    """
    keys = numbers(sorted(flow_keys), bits=32)
    spans = [(key, *span) for key, ranges in listed.items() for span in ranges]
    vacant: dict[int, list[tuple[int, int]]] = {}
    # Each is one of its own, so that it sees what others wrote while the first waited.
    asked = [Statement(LOCK, [keys]), Statement(_MARKS, [keys])]
    if spans:
        flows_, firsts, lasts = zip(*spans, strict=True)
        bounds = numbers(firsts, bits=64), numbers(lasts, bits=64)
        asked.append(Statement(_VACANT, [numbers(flows_, bits=32), *bounds]))
    _, told, *answers = await send(tx, [*asked, *beside])
    if spans:
        for flow_key, first, last in rows_in(tx, answers.pop(0)):
            vacant.setdefault(flow_key, []).append((first, last))
    marks = {
        flow_key: Marks(newest or 0, target or 0, Ranges.of(vacant.get(flow_key, ())))
        for flow_key, newest, target in rows_in(tx, told)
    }
    return marks, answers


# The ends of two indexes, whatever the planner knows of the table.
_MARKS = b"""
    SELECT flow_key, own.id, change.target_id
    FROM unnest($1::integer[]) AS asked (flow_key)
    LEFT JOIN LATERAL (
        SELECT id FROM store.journal WHERE flow_key = asked.flow_key ORDER BY id DESC LIMIT 1
    ) AS own ON true
    LEFT JOIN LATERAL (
        SELECT target_id FROM store.journal
        WHERE flow_key = asked.flow_key AND target_id IS NOT NULL ORDER BY target_id DESC LIMIT 1
    ) AS change ON true
"""

_VACANT = b"""
    SELECT flow_key, first, last
    FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS span (flow_key, first, last)
    LEFT JOIN LATERAL (
        SELECT id FROM store.journal WHERE flow_key = span.flow_key AND id >= first
        ORDER BY id LIMIT 1
    ) AS own ON true
    LEFT JOIN LATERAL (
        SELECT target_id FROM store.journal WHERE flow_key = span.flow_key AND target_id >= first
        ORDER BY target_id LIMIT 1
    ) AS change ON true
    WHERE coalesce(least(own.id, change.target_id) > last, true)
"""
