"""What an export reads: one snapshot of the archive, part by part, as a stream.

A part is what one flow said in one month, so that each part is a file and a query of its own.
Everything is read in one transaction, or in two side by side that share a snapshot. An export that
was interrupted and is resumed later sees another snapshot. For each part that is already written,
Postgres then tells whether any of its rows was written since, by the row's transaction id.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Literal

from psycopg import sql
from sqlalchemy import text

from archiver.store import missing
from archiver.store.connection import Engine, Transaction, driver_of
from archiver.store.directory import flow_paths
from archiver.store.engine import DatabaseError, Fault, beside, fault, see_one_moment
from archiver.store.exporting_choice import (
    ALWAYS,
    UNDATED,
    Part,
    Selection,
    Subject,
    source,
    wanted,
)

Table = Literal["messages", "revisions", "threads", "journal", "sightings", "texts"]
"""Tables of the schema ``store``; each row belongs to one message, except in `threads`."""
PATIENCE_SECONDS = 3.0
"""How long to wait for a second connection; a pooler whose only one is in use would keep us waiting
for minutes."""


@asynccontextmanager
async def moment(engine: Engine) -> AsyncIterator[Transaction]:
    """A read-only transaction that sees one snapshot of the archive."""
    async with engine.connect() as tx:
        await see_one_moment(tx)
        # Plan for all rows, not for getting the first ones soon.
        await tx.execute(text("SET LOCAL cursor_tuple_fraction = 1"))
        # No limit: it holds no lock that others wait for, and writing files may take long.
        await tx.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        try:
            yield tx
        except BaseException:
            # In the middle of a COPY, the connection can do nothing else.
            await tx.invalidate()
            raise


@asynccontextmanager
async def same_moment(engine: Engine, tx: Transaction) -> AsyncIterator[Transaction | None]:
    """A second transaction with the snapshot of *tx*, so that Postgres can work on both at once.

    None if no second connection can be had, or not soon enough.
    """
    name = (await tx.execute(text("SELECT pg_export_snapshot()"))).scalar_one()
    alone = beside(engine)
    try:
        async with AsyncExitStack() as stack:
            other = None
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    other = await stack.enter_async_context(_moment_of(alone, name))
            except DatabaseError as error:
                if fault(error) is not Fault.SERVER:
                    raise
            except TimeoutError:
                pass
            yield other
    finally:
        await alone.dispose()


@asynccontextmanager
async def _moment_of(engine: Engine, name: str) -> AsyncIterator[Transaction]:
    async with moment(engine) as tx:
        await tx.execute(text(f"SET TRANSACTION SNAPSHOT '{name}'"))
        yield tx


async def read_by_index(tx: Transaction) -> None:
    """Have Postgres find each part by the index that begins with the flow.

    A table of few flows has no statistics, so the planner might read all messages for each flow.
    """
    await tx.execute(text("SET LOCAL enable_seqscan = off"))


async def snapshot(tx: Transaction) -> str:
    """The snapshot that *tx* sees, as Postgres writes it."""
    return str((await tx.execute(text("SELECT CAST(pg_current_snapshot() AS text)"))).scalar_one())


async def database(tx: Transaction) -> str:
    """Which server, timeline and database it is; in another, snapshots mean something else."""
    return str((await tx.execute(_DATABASE)).scalar_one())


async def names_digest(tx: Transaction) -> str:
    """A digest of all names of people and flows, since these appear in every message."""
    return str((await tx.execute(_NAMES)).scalar_one())


async def parts(tx: Transaction, subject: Subject, chosen: Selection) -> list[Part]:
    """The parts of what is chosen, by flow and month."""
    statement = sql.SQL(
        "SELECT m.flow, {month}, count(*), min(m.id), max(m.id) FROM {source} AS m"
        ' WHERE {wanted} GROUP BY 1, 2 ORDER BY m.flow COLLATE "C", 2'
    ).format(month=_MONTH, source=source(subject, chosen), wanted=wanted(chosen))
    cursor = await driver_of(tx).execute(statement)
    return [
        Part(flow=flow, month=_name_of(month), rows=rows, first_id=first, last_id=last)
        for flow, month, rows, first, last in await cursor.fetchall()
    ]


def whole_flows(by_month: Sequence[Part]) -> list[Part]:
    """One part for each flow, instead of one for each of its months."""
    flows: dict[str, Part] = {}
    for part in by_month:
        known = flows.get(part.flow)
        flows[part.flow] = Part(
            flow=part.flow,
            month=ALWAYS,
            rows=part.rows + (known.rows if known else 0),
            first_id=min(part.first_id, known.first_id if known else part.first_id),
            last_id=max(part.last_id, known.last_id if known else part.last_id),
        )
    return list(flows.values())


async def has_changed(tx: Transaction, table: Table, part: Part, *, since: str) -> bool:
    """Tell whether a row of *part* was written after the snapshot *since*.

    For threads, tell it of any row of the flow.
    """
    inside = _INSIDE.get(table, "t.id BETWEEN :first AND :last")
    statement = _CHANGED.format(table=table, inside=inside)
    asked = {"flow": part.flow, "first": part.first_id, "last": part.last_id, "since": since}
    return bool((await tx.execute(text(statement), asked)).scalar_one())


async def crowded(tx: Transaction, flow: str) -> list[tuple[datetime, int]]:
    """Milliseconds and ids of those messages of a flow whose millisecond is crowded, in order.

    A millisecond is crowded if two of its messages have ids with the same last three digits.
    """
    rows = await tx.execute(_CROWDED, {"flow": flow})
    return [(row.at, row.id) for row in rows]


async def talkers(tx: Transaction, chosen: Selection) -> dict[str, int]:
    """By id of a person: how many of the chosen messages they sent."""
    statement = sql.SQL(
        "SELECT m.user_id, count(*) FROM {} AS m WHERE {} AND m.user_id IS NOT NULL GROUP BY 1"
    ).format(source("messages", chosen), wanted(chosen))
    cursor = await driver_of(tx).execute(statement)
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def untold(tx: Transaction, chosen: Selection) -> int:
    """How many of the chosen messages are deleted, have no time, or no text that is known."""
    statement = sql.SQL(
        "SELECT count(*) FROM {} AS m WHERE {}"
        " AND (m.deleted_at IS NOT NULL OR m.sent IS NULL OR m.content IS NULL)"
    ).format(source("messages", chosen), wanted(chosen))
    cursor = await driver_of(tx).execute(statement)
    ((rows,),) = await cursor.fetchall()
    return int(rows)


async def participants(tx: Transaction, chosen: Selection) -> list[str]:
    """The ids of all who sent a chosen message, reacted to one, or share a private conversation."""
    statement = sql.SQL(
        "WITH m AS MATERIALIZED (SELECT user_id, reactions FROM {} AS m WHERE {})"
        " SELECT user_id FROM m WHERE user_id IS NOT NULL"
        " UNION SELECT jsonb_array_elements_text(value) FROM m CROSS JOIN jsonb_each(reactions)"
        " UNION SELECT unnest((string_to_array(flow, '/'))[2:]) FROM unnest({}::text[]) AS f (flow)"
        " WHERE flow LIKE 'private/%'"
    ).format(source("messages", chosen), wanted(chosen), sql.Literal(list(chosen.flows)))
    cursor = await driver_of(tx).execute(statement)
    return sorted(row[0] for row in await cursor.fetchall())


async def coverage(tx: Transaction, flows: Sequence[str]) -> Mapping[str, Any]:
    """What the ledger says of *flows*: what is proven by which witness, missing, and doubted."""
    rows = await tx.execute(_COVERAGE, {"flows": list(flows)})
    return {row.flow: row.standing for row in rows}


async def unknown_ends(tx: Transaction, flows: Sequence[str]) -> missing.UnknownEnds:
    """Those of *flows* that may hold more than the ledger knows of."""
    chosen = frozenset(flows)
    paths = {key: path for key, path in (await flow_paths(tx)).items() if path in chosen}
    return await missing.unknown_ends(tx, paths)


async def table(tx: Transaction, name: Literal["flows", "users"]) -> list[dict[str, Any]]:
    """All rows of a small table, as values of JSON."""
    rows = await tx.execute(_TABLES[name])
    return [dict(row) for row in rows.scalars()]


async def names_of(tx: Transaction, ids: Collection[str]) -> dict[str, str]:
    """By id: the nick of a person, or the name if there is no nick; unknown people are left out."""
    rows = await tx.execute(_CALLED, {"ids": list(ids)}) if ids else ()
    return {row.user_id: row.name for row in rows}


def _name_of(month: datetime | None) -> str:
    return UNDATED if month is None else f"{month.year:04}-{month.month:02}"


_CALLED = text("""
    SELECT user_id, coalesce(nullif(nick, ''), name) AS name FROM store.users
    WHERE user_id = ANY(:ids) AND coalesce(nullif(nick, ''), name) <> ''
""")

_MONTH = sql.SQL("date_trunc('month', m.sent, 'UTC')")

_DATABASE = text("""
    SELECT concat_ws('/', system_identifier, timeline_id, oid)
    FROM pg_control_system(), pg_control_checkpoint(), pg_database
    WHERE datname = current_database()
""")

_NAMES = text("""
    SELECT md5(coalesce((SELECT string_agg(CAST((user_id, nick, name, email) AS text), ','
                                           ORDER BY user_id COLLATE "C") FROM store.users), '')
            || coalesce((SELECT string_agg(CAST((flow_id, path, name) AS text), ','
                                           ORDER BY flow_id COLLATE "C") FROM store.flows), ''))
""")

# A row stores only the lower 32 bits of the id of the transaction that wrote it. The upper bits are
# those of the largest such id that does not lie in the future.
_CHANGED = """
    SELECT EXISTS (
        SELECT FROM store.{table} AS t
        JOIN store.flows AS f ON f.flow_key = t.flow_key AND f.path = :flow
        CROSS JOIN (
            SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS numeric) AS latest
        ) AS now
        CROSS JOIN LATERAL (
            SELECT CAST(CAST(t.xmin AS text) AS numeric) + 4294967296 * floor(
                (latest - CAST(CAST(t.xmin AS text) AS numeric)) / 4294967296
            ) AS written
        ) AS by
        WHERE {inside}
          AND NOT pg_visible_in_snapshot(
              CAST(CAST(greatest(written, 0) AS text) AS xid8), CAST(:since AS pg_snapshot))
    )
"""

_CROWDED = text("""
    SELECT date_trunc('milliseconds', sent_at) AS at, id
    FROM store.messages JOIN store.flows USING (flow_key)
    WHERE path = :flow AND date_trunc('milliseconds', sent_at) IN (
        SELECT date_trunc('milliseconds', sent_at)
        FROM store.messages JOIN store.flows USING (flow_key)
        WHERE path = :flow GROUP BY 1, id % 1000 HAVING count(*) > 1
    )
    ORDER BY 1, 2
""")

_OF_MESSAGES = "t.message_id BETWEEN :first AND :last"
_INSIDE: Mapping[Table, str] = {
    "texts": _OF_MESSAGES,
    "revisions": _OF_MESSAGES,
    "threads": "true",
}

_COVERAGE = text("""
    SELECT f.path AS flow, jsonb_build_object(
        'due', coalesce(l.due, 0),
        'proven', coalesce((
            SELECT jsonb_agg(jsonb_build_object('witness', witness, 'from', lower(range),
                                                'to', upper(range) - 1) ORDER BY witness, range)
            FROM (SELECT 'stream' AS witness, unnest(l.streamed) AS range
                  UNION ALL SELECT 'list', unnest(l.listed)) AS proven), '[]'),
        'missing', coalesce((
            SELECT jsonb_agg(jsonb_build_object('from', lower(gap), 'to', upper(gap) - 1)
                             ORDER BY gap)
            FROM unnest(CASE WHEN l.due > 0
                             THEN int8multirange(int8range(1, l.due, '[]')) - l.listed - l.streamed
                        END) AS gap), '[]'),
        'doubted', coalesce((
            SELECT jsonb_agg(jsonb_build_object('from', lower(range), 'to', upper(range) - 1)
                             ORDER BY range) FROM unnest(l.doubted) AS range), '[]')
    ) AS standing
    FROM store.flows AS f LEFT JOIN store.ledger AS l USING (flow_key)
    WHERE f.path = ANY(:flows) ORDER BY f.path COLLATE "C"
""")

_TABLES = {
    "flows": text(
        "SELECT to_jsonb(f) - 'flow_key' FROM store.flows AS f ORDER BY flow_id COLLATE \"C\""
    ),
    "users": text('SELECT to_jsonb(u) FROM store.users AS u ORDER BY user_id COLLATE "C"'),
}
