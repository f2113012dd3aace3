"""What the archive holds, for people: counts, proofs and gaps of each flow.

Built for ten million events in two thousand flows. What comes from the ledger and the ends of
indexes is exact. Counting a large table would read all of it. Instead, the ids of each flow are
divided into stretches, the first rows of each are counted, and the rest of the stretch is assumed
to be as dense as these.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import RowMapping, text

from archiver.store import files
from archiver.store.connection import Transaction
from archiver.store.missing import FOUND_EMPTY, untold, why_unread
from archiver.store.surveying import LAG, PROOF

STRETCHES = 16
COUNTED_ROWS = 32
"""How many rows of a stretch are counted; a flow with fewer in each stretch is counted exactly."""
SMALL_INDEX_BYTES = 100_000_000
"""The size of the primary key up to which a table is counted exactly: some three million rows.
Counting these takes as long as estimating two thousand flows."""


class Count(Struct, frozen=True):
    """How many there are."""

    rows: int
    exact: bool = True

    def __add__(self, other: "Count") -> "Count":
        """The sum of both."""
        return Count(self.rows + other.rows, self.exact and other.exact)


class FlowReport(Struct, frozen=True, kw_only=True):
    """What the archive holds of one flow, and what it lacks."""

    flow: str
    joined: bool | None
    disabled: bool | None
    events: Count
    messages: Count
    newest_at: datetime | None
    """When the newest event was sent or, if it does not tell that, received."""
    newest_id: int
    """The newest id that the flow is known to have; 0 if none is known."""
    lag_seconds: float | None
    """For how long the first id above all that is proven has been known; 0 if all is proven. None
    if no id is known."""
    gaps: int | None
    """None as long as it is not known how far the ids of the flow go."""
    missing_ids: int | None
    """The number of ids in gaps; not all of them need to be events of the flow. None if *gaps* is
    None."""
    proven: float | None
    """Of the ids that are old enough to be proven, the share that is. None if there are none, or as
    long as nobody knows what is new."""
    not_told: str | None
    """Why nobody knows what is new in the flow; None if that is known."""
    last_error: str | None
    """Why the newest request for a page failed; None if it did not."""

    @property
    def not_read(self) -> str | None:
        """Why the flow's gaps stay, since no account can read it; None if they do not."""
        return why_unread(self.joined, self.disabled) if self.gaps else None


class Totals(Struct, frozen=True, kw_only=True):
    """What the archive holds beside events and messages."""

    signals: Count
    rejects: Count
    files: files.Counts
    database_bytes: int
    written_at: datetime | None
    """When the ledger was last written, or the newest event of any flow received, whichever is
    later: an event is stored before it proves anything."""


async def flow_reports(
    tx: Transaction, flow_keys: Sequence[int], *, now: datetime, exact: bool
) -> list[FlowReport]:
    """Reports on these flows, in this order; *exact* counts every row, however long it takes."""
    keys = {"keys": list(flow_keys)}
    rows = await tx.execute(_STANDINGS, {**keys, "now": now})
    standings = {row["flow_key"]: row for row in rows.mappings()}
    ends = await untold(tx, flow_keys)
    events = await _counts(tx, "journal", keys, exact=exact)
    messages = await _counts(tx, "messages", keys, exact=exact)
    return [
        _report(
            standings[key], events.get(key, Count(0)), messages.get(key, Count(0)), ends.get(key)
        )
        for key in flow_keys
        if key in standings
    ]


async def totals(tx: Transaction, *, exact: bool) -> Totals:
    """Totals over all flows; *exact* counts every row, however long it takes."""
    row = (await tx.execute(_TOTALS)).one()
    return Totals(
        signals=await _count(tx, "signals", exact=exact),
        rejects=await _count(tx, "rejects", exact=exact),
        files=await files.counts(tx),
        database_bytes=row.bytes,
        written_at=row.written_at,
    )


def _report(row: RowMapping, events: Count, messages: Count, not_told: str | None) -> FlowReport:
    due, missing = row["due"], int(row["missing_ids"])
    return FlowReport(
        flow=row["path"],
        joined=row["joined"],
        disabled=row["disabled"],
        events=events,
        messages=messages,
        newest_at=row["newest_at"],
        newest_id=row["newest_id"],
        lag_seconds=None if row["lag_seconds"] is None else max(0.0, float(row["lag_seconds"])),
        gaps=row["gaps"] if row["is_measured"] else None,
        missing_ids=missing if row["is_measured"] else None,
        proven=(due - missing) / due if due and not_told is None else None,
        not_told=not_told,
        last_error=row["last_error"],
    )


async def _counts(
    tx: Transaction, table: str, keys: Mapping[str, object], *, exact: bool
) -> dict[int, Count]:
    """By flow key: the number of rows of *table*, with each event counted once.

    Flows without rows may be left out.
    """
    once = "AND form = 0" if table == "journal" else ""
    if exact or await _is_small(tx, table):
        counted = text(
            f"SELECT flow_key, count(*) AS rows, true AS exact FROM store.{table}"  # noqa: S608
            f" WHERE flow_key = ANY(:keys) {once} GROUP BY flow_key"
        )
    else:
        counted = text(_ESTIMATE.format(table=table, once=once)).bindparams(
            counted=COUNTED_ROWS, stretches=STRETCHES
        )
    rows = await tx.execute(counted, keys)
    return {row.flow_key: Count(int(row.rows), row.exact) for row in rows}


async def _count(tx: Transaction, table: str, *, exact: bool) -> Count:
    """The number of rows of *table*; for a large one, the estimate of its last ANALYZE."""
    if not exact and not await _is_small(tx, table):
        estimate = text("SELECT reltuples FROM pg_class WHERE oid = CAST(:table AS regclass)")
        rows = int((await tx.execute(estimate, {"table": f"store.{table}"})).scalar_one())
        if rows >= 0:
            return Count(rows, exact=False)
    counted = text(f"SELECT count(*) FROM store.{table}")  # noqa: S608
    return Count((await tx.execute(counted)).scalar_one())


async def _is_small(tx: Transaction, table: str) -> bool:
    size = text("SELECT pg_relation_size(CAST(:index AS regclass))")
    found = await tx.execute(size, {"index": f"store.{table}_pkey"})
    return int(found.scalar_one()) <= SMALL_INDEX_BYTES


_ESTIMATE = """
    SELECT asked.flow_key,
           sum(CASE WHEN seen < :counted THEN seen
                    ELSE round(seen::numeric * (newest_id - first_id + 1)
                                             / (last_id - first_id + 1))
               END) AS rows,
           bool_and(seen < :counted) AS exact
    FROM unnest(CAST(:keys AS integer[])) AS asked(flow_key)
    CROSS JOIN LATERAL (
        SELECT min(id) AS lowest, max(id) - min(id) + 1 AS width
        FROM store.{table} AS t WHERE t.flow_key = asked.flow_key
    ) AS ends
    CROSS JOIN generate_series(0, :stretches - 1) AS n
    CROSS JOIN LATERAL (
        SELECT lowest + width * n / :stretches AS from_id,
               lowest + width * (n + 1) / :stretches AS until_id
    ) AS stretch
    CROSS JOIN LATERAL (
        SELECT count(*) AS seen, min(id) AS first_id, max(id) AS last_id
        FROM (
            SELECT id FROM store.{table} AS t
            WHERE t.flow_key = asked.flow_key AND id >= from_id AND id < until_id {once}
            ORDER BY id LIMIT :counted
        ) AS first
    ) AS counted
    CROSS JOIN LATERAL (
        SELECT max(id) AS newest_id FROM store.{table} AS t
        WHERE t.flow_key = asked.flow_key AND id >= from_id AND id < until_id
    ) AS newest
    GROUP BY asked.flow_key
"""

# Requests dated in the future, by a clock that was ahead, are ignored; a minute ahead is normal.
_STANDINGS = text(f"""
    SELECT f.flow_key, path, joined, disabled, newest_at, gaps, missing_ids, last_error,
           coalesce(due, 0) AS due,
           due > 0 OR newest_id IS NULL AND {FOUND_EMPTY} AS is_measured,
           greatest(due, proven_to, newest_id, 0) AS newest_id,
           CASE WHEN greatest(due, proven_to, newest_id, 0) = 0 THEN NULL
                ELSE {LAG}
           END AS lag_seconds
    FROM store.flows AS f
    LEFT JOIN store.ledger AS l USING (flow_key)
    {PROOF}
    LEFT JOIN LATERAL (
        SELECT id AS newest_id, coalesce(sent_at, received_at) AS newest_at
        FROM store.journal AS j
        WHERE j.flow_key = f.flow_key ORDER BY id DESC, form DESC LIMIT 1
    ) AS newest ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS gaps, coalesce(sum(upper(gap) - lower(gap)), 0) AS missing_ids
        FROM unnest(int8multirange(int8range(1, due + 1)) - listed - streamed) AS gap
    ) AS missing
    LEFT JOIN LATERAL (
        SELECT error AS last_error FROM store.pages AS p
        WHERE p.flow_key = f.flow_key
          AND requested_at <= CAST(:now AS timestamptz) + interval '1 minute'
        ORDER BY requested_at DESC LIMIT 1
    ) AS asked ON true
    WHERE f.flow_key = ANY(:keys)
""")  # noqa: S608

_TOTALS = text("""
    SELECT pg_database_size(current_database()) AS bytes,
           greatest((SELECT max(due_at) FROM store.ledger), (
               SELECT max(received_at) FROM store.flows AS f CROSS JOIN LATERAL (
                   SELECT received_at FROM store.journal AS j
                   WHERE j.flow_key = f.flow_key ORDER BY id DESC, form DESC LIMIT 1
               ) AS newest
           )) AS written_at
""")
