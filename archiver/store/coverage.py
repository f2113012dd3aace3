"""The ledger: what is proven complete, by which witness, and each page that proved it.

Sets of ids only grow, by union, so the result is the same whoever writes them, in whatever order.
Each connection adds a range to what streams prove. Of a flow with very many such ranges, those that
a listing has proven too are dropped, which does not change what is proven.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Text, case, cast, func, select, text

from archiver.domain.coverage import Ranges
from archiver.domain.model import LARGEST_ID
from archiver.store.bulk import Key, instant, key_table, keys_of, numbers, records
from archiver.store.connection import Transaction
from archiver.store.fetching import fetch, query
from archiver.store.pipelining import Statement, send
from archiver.store.schema import ledger

NOTHING: Mapping[int, Ranges] = MappingProxyType({})

NEWEST_PROVABLE = LARGEST_ID - 1
"""Postgres stores the end of a range as the id after it, which the very last id does not have."""

MANY_RANGES_BYTES = 1000
"""The stored size from which what streams prove is made smaller: some dozens of ranges.

Each claim rewrites the row. From 2 KB on, Postgres would compress it each time and store it
elsewhere, which costs twenty times as much."""

ALL_DUE = case(
    (ledger.c.due > 0, func.int8multirange(func.int8range(1, ledger.c.due, "[]"))),
    else_=text("'{}'::int8multirange"),
)

Purpose = Literal["backfill", "audit", "verify", "head"]


class Standing(Struct, frozen=True, kw_only=True):
    """What the ledger says of one flow; or, as a gain, what is to be added to that."""

    streamed: Ranges = Ranges()
    listed: Ranges = Ranges()
    due: int = 0
    """Ids up to this are old enough to be proven; 0 if none is, or no id of the flow is known."""
    epoch: int = 0
    """How often a stream of the flow has been opened, by any daemon. Of a gain: as known when the
    page was requested; `listed` lifts doubts only if it still is the same."""
    doubted: Ranges = Ranges()
    """Ids whose messages may have changed while nobody listened, and were not listed since."""

    @property
    def proven(self) -> Ranges:
        """The ids that any witness has proven."""
        return self.streamed | self.listed


class PageRow(Struct, frozen=True, kw_only=True):
    """One request for a page: the range that was requested, and the range that it proved.

    Both bounds are inclusive ids. If there is an error too, not all of *proven* is proven.
    """

    flow_key: int
    run: str
    purpose: Purpose
    asked: tuple[int, int]
    proven: tuple[int, int] | None
    messages: int
    as_of: int
    requested_at: datetime
    error: str | None = None


async def lock(tx: Transaction, flow_keys: Iterable[int]) -> None:
    """Lock these flows for writing until the end of this transaction; waits for other writers.

    They are locked in the order of their keys, so that writers cannot deadlock.
    """
    await send(tx, [Statement(LOCK, [numbers(sorted(set(flow_keys)), bits=32)])])


async def advance(
    tx: Transaction,
    gains: Mapping[int, Standing],
    *,
    unsure: Mapping[int, Ranges] = NOTHING,
    pages: Sequence[PageRow] = (),
    now: datetime,
    commits: bool = False,
) -> None:
    """Add *gains*, by flow key, to what is proven, due and doubted; all else stays as it is.

    Doubt about ids that were listed is lifted, unless a stream was opened since the request: the
    epoch of a gain is the one known when the request was sent. Ids that are *unsure* remain
    doubted in any case. *pages* are recorded with what they proved, or why they failed. If
    *commits*, the transaction may be committed when this returns, so nothing may follow.
    """
    rows = [
        {
            "flow_key": flow_key,
            "streamed": _written(gain.streamed),
            "listed": _written(gain.listed),
            "assured": _written(gain.listed - unsure.get(flow_key, Ranges())),
            "due": min(gain.due, NEWEST_PROVABLE),
            "epoch": gain.epoch,
            "doubted": _written(gain.doubted),
        }
        for flow_key, gain in gains.items()
    ]
    added = [Statement(_ADVANCE, [records(rows), instant(now)])] if rows else []
    if pages:
        added.append(Statement(_ADD_PAGES, [records([_page(row) for row in pages])]))
    if added:
        await send(tx, added, commits=commits)


async def claimed_by_stream(tx: Transaction, keys: Iterable[Key]) -> set[int]:
    """The keys of flows in which a stream has proven at least one of the ids in *keys*."""
    return {flow_key for (flow_key,) in await fetch(tx, _CLAIMED, keys_of(keys))}


async def drop_audits(
    tx: Transaction, *, before: datetime, until: datetime, looked_through: int = 0
) -> int:
    """Drop rows of pages from *before* that nobody needs any more.

    These are the pages of audits and verifications that succeeded and, of failed requests for the
    same range, all but the last. Of requests for the newest message of a flow, whatever its id was,
    the last that succeeded and the last that failed are left. Of audits and verifications that
    succeeded, rows are passed over whose keys are at most *looked_through*; returns that for the
    next call. Without it, all pages that filled a gap, which are kept for good, would be read each
    time. Rows dated after *until*, the present, do not hold that up: they are looked through again
    after a restart only.
    """
    bounds = {"before": before, "until": until, "above": looked_through}
    young = (await tx.execute(_FIRST_YOUNG, bounds)).scalar_one()
    await tx.execute(_DROP_AUDITS, bounds | {"young": young})
    await tx.execute(_DROP_HEADS, {"before": before})
    await tx.execute(_DROP_FAILURES, {"before": before})
    return int(young) - 1


async def heads(tx: Transaction, flow_keys: Iterable[int]) -> dict[int, int]:
    """By flow key: the newest id that the flow is known to have; 0 if none is known."""
    rows = await tx.execute(_HEADS, {"keys": list(flow_keys)})
    return {row.flow_key: row.newest for row in rows}


async def standings(tx: Transaction) -> dict[int, Standing]:
    """What the ledger says of every flow."""
    return {
        flow_key: Standing(
            streamed=read_ranges(streamed),
            listed=read_ranges(listed),
            due=due,
            epoch=epoch,
            doubted=read_ranges(doubted),
        )
        for flow_key, streamed, listed, due, epoch, doubted in await fetch(tx, _STANDINGS)
    }


def _page(row: PageRow) -> dict[str, object]:
    """A row of `pages`, by column."""
    proven = row.proven and _span(*row.proven)
    return asdict(row) | {"asked": _span(*row.asked), "proven": proven}


def _written(ranges: Ranges) -> str:
    """*ranges* as the text of a multirange."""
    return "{" + ",".join([_span(*span) for span in ranges]) + "}"


def _span(first: int, last: int) -> str:
    return f"[{first},{min(last, NEWEST_PROVABLE) + 1})"


def read_ranges(multirange: str) -> Ranges:
    """Parse a multirange as Postgres writes it, ``{[1,5),[7,9)}``, ten times as fast as psycopg."""
    bounds = map(int, _BOUND.findall(multirange))
    return Ranges(tuple((first, end - 1) for first, end in zip(bounds, bounds, strict=True)))


_BOUND = re.compile("[0-9]+")

_STANDINGS = query(
    select(
        ledger.c.flow_key,
        cast(ledger.c.streamed, Text),
        cast(ledger.c.listed, Text),
        ledger.c.due,
        ledger.c.epoch,
        cast(ledger.c.doubted, Text),
    )
)

_ASKED = key_table()
_CLAIMED = query(
    select(ledger.c.flow_key)
    .distinct()
    .join_from(_ASKED, ledger, ledger.c.flow_key == _ASKED.c.flow_key)
    .where(ledger.c.streamed.contains(_ASKED.c.id))
)

# Keys grow with time, but for what was under way; such a row is dropped when those before it are.
_FIRST_YOUNG = text("""
    SELECT coalesce(
        (SELECT page_key FROM store.pages
         WHERE page_key > :above AND purpose IN ('audit', 'verify') AND error IS NULL
           AND requested_at >= :before AND requested_at <= :until
         ORDER BY page_key LIMIT 1),
        greatest((SELECT max(page_key) FROM store.pages), CAST(:above AS bigint)) + 1)
""")

_DROP_AUDITS = text("""
    DELETE FROM store.pages
    WHERE page_key > :above AND page_key < :young
      AND purpose IN ('audit', 'verify') AND error IS NULL AND requested_at < :before
""")

_DROP_HEADS = text("""
    DELETE FROM store.pages AS page USING (
        SELECT flow_key, error IS NULL AS is_told, max(page_key) AS last FROM store.pages
        WHERE purpose = 'head' AND requested_at < :before GROUP BY 1, 2
    ) AS head
    WHERE page.purpose = 'head' AND page.flow_key = head.flow_key
      AND page.page_key < head.last AND (page.error IS NULL) = head.is_told
""")

_DROP_FAILURES = text("""
    DELETE FROM store.pages AS page USING (
        SELECT flow_key, purpose, asked, max(page_key) AS last FROM store.pages
        WHERE error IS NOT NULL AND requested_at < :before GROUP BY flow_key, purpose, asked
    ) AS failed
    WHERE page.error IS NOT NULL AND page.page_key < failed.last
      AND (page.flow_key, page.purpose, page.asked)
          = (failed.flow_key, failed.purpose, failed.asked)
""")

_HEADS = text("""
    SELECT flow_key, greatest(due, (
        SELECT id FROM store.journal AS j WHERE j.flow_key = l.flow_key ORDER BY id DESC LIMIT 1
    )) AS newest
    FROM store.ledger AS l WHERE flow_key = ANY(:keys)
""")

LOCK = b"""
    SELECT FROM store.ledger WHERE flow_key = ANY ($1::integer[])
    ORDER BY flow_key FOR NO KEY UPDATE
"""

_ADVANCE = f"""
    UPDATE store.ledger AS held SET
        streamed = CASE WHEN pg_column_size(held.streamed) > {MANY_RANGES_BYTES}
            THEN held.streamed - held.listed ELSE held.streamed END + gain.streamed,
        listed = held.listed + gain.listed,
        due = greatest(held.due, gain.due),
        due_at = CAST($2 AS timestamptz),
        doubted = CASE WHEN held.epoch = gain.epoch
            THEN held.doubted - gain.assured ELSE held.doubted END + gain.doubted,
        assured_at = CASE WHEN held.epoch = gain.epoch AND held.assured_at IS NULL
            AND NOT isempty(held.doubted) AND isempty(held.doubted - gain.assured)
            THEN CAST($2 AS timestamptz) ELSE held.assured_at END
    FROM json_to_recordset(CAST($1 AS json)) AS gain (
        flow_key integer, streamed int8multirange, listed int8multirange,
        assured int8multirange, due bigint, epoch integer, doubted int8multirange)
    WHERE held.flow_key = gain.flow_key
""".encode()  # noqa: S608

_ADD_PAGES = b"""
    INSERT INTO store.pages
        (flow_key, run, purpose, asked, proven, messages, as_of, requested_at, error)
    SELECT flow_key, run, purpose, asked, proven, messages, as_of, requested_at, error
    FROM json_populate_recordset(NULL::store.pages, CAST($1 AS json))
"""
