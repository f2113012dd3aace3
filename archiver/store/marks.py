"""How far the journal of a flow goes, which is read when the flow is locked for writing.

Nearly all events that arrive are beyond that, or in a range where the journal holds nothing, so
they are known to be new without another query.
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
    """What is known of the journal of a flow, so that it need not be queried for what is new."""

    newest: int = 0
    """The newest id in the journal."""
    newest_target: int = 0
    """The newest message that an event in the journal changes, whether that message is there or
    not."""
    vacant: Ranges = Ranges()
    """Ids below those two of which the journal holds neither the event nor a change of it."""

    def may_hold(self, id_: int) -> bool:
        """Tell whether the journal has to be queried for the event *id_*."""
        return id_ <= self.newest and id_ not in self.vacant

    def may_change(self, id_: int) -> bool:
        """Tell whether the journal has to be queried for changes of the message *id_*."""
        return id_ <= self.newest_target and id_ not in self.vacant


async def lock_to_write(
    tx: Transaction,
    flow_keys: Collection[int],
    listed: Mapping[int, Ranges],
    *,
    beside: Sequence[Statement] = (),
) -> tuple[dict[int, Marks], list[Answer]]:
    """Lock flows as `coverage.lock` does, and return how far the journal of each of them goes.

    Of the ranges *listed*, by flow key, it also finds those that are vacant, since what fills a gap
    is below the newest id and new nevertheless. The statements *beside* are run after that; their
    results are returned too. All this, including BEGIN, costs one round trip to the server.
    """
    keys = numbers(sorted(flow_keys), bits=32)
    spans = [(key, *span) for key, ranges in listed.items() for span in ranges]
    vacant: dict[int, list[tuple[int, int]]] = {}
    # Separate statements, so that those after the lock see what others wrote while it waited.
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


# Written so that it reads the ends of two indexes, whatever the planner's statistics say.
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
