"""What an export reads: one moment of the archive, part by part, as a stream.

A part is what one flow said in one month, so that each part is a file and a query of its own. All
is read in one transaction, which sees one moment. An export that is finished later sees another
one; of each part that was written before, Postgres tells whether any of its rows is newer than
the moment in which it was written (by the transaction that wrote the row).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

import psycopg
from msgspec import Struct
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.store.engine import Engine

Subject = Literal["messages", "events"]
"""What an export is of: messages as they are, or the journal as it was received."""

BLOCK_BYTES = 256 * 1024

COLUMNS = (
    "flow", "id", "event", "user_id", "nick", "sent", "content", "tags", "thread_id", "parent_id",
    "edited_at", "edits", "deleted_at", "attachments", "reactions", "app", "uuid",
    "external_user_name", "detail",
)  # fmt: skip
"""Of messages, as ``archive.messages`` has them."""

UNDATED = "undated"
"""Instead of the month of what does not tell when it was sent."""
ALWAYS = "always"
"""Instead of a month: all that a flow ever said is one part."""


class Selection(Struct, frozen=True, kw_only=True):
    """Which of what is archived is wanted."""

    flows: tuple[str, ...]
    """Paths."""
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None
    """Messages as their flows showed them then; None for as they are."""


class Block(Struct, frozen=True):
    """Some lines of a stream."""

    data: bytes
    rows: int


class Part(Struct, frozen=True, kw_only=True):
    """What one flow said in one month."""

    flow: str
    month: str
    """``2024-05``, in UTC; or `UNDATED`; or `ALWAYS`."""
    rows: int
    first_id: int
    last_id: int

    @property
    def name(self) -> str:
        """What it is called in an export's own books."""
        return f"{self.flow} {self.month}"


@asynccontextmanager
async def moment(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """A transaction that sees one moment of the archive, and changes nothing in it."""
    async with engine.connect() as tx:
        await tx.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        # All rows are wanted, not the first soon.
        await tx.execute(text("SET LOCAL cursor_tuple_fraction = 1"))
        yield tx


async def snapshot(tx: AsyncConnection) -> str:
    """The name of the moment that *tx* sees."""
    return str((await tx.execute(text("SELECT CAST(pg_current_snapshot() AS text)"))).scalar_one())


async def names_digest(tx: AsyncConnection) -> str:
    """The digest of all names of people and flows, which stand in every message."""
    return str((await tx.execute(_NAMES)).scalar_one())


async def parts(tx: AsyncConnection, subject: Subject, chosen: Selection) -> list[Part]:
    """The parts of what is wanted, by flow and month."""
    statement = sql.SQL(
        "SELECT m.flow, {month}, count(*), min(m.id), max(m.id) FROM {source} AS m"
        ' WHERE {wanted} GROUP BY 1, 2 ORDER BY m.flow COLLATE "C", 2'
    ).format(month=_MONTH, source=_source(subject, chosen), wanted=_wanted(chosen))
    cursor = await (await _raw(tx)).execute(statement)
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


async def has_changed(tx: AsyncConnection, subject: Subject, part: Part, *, since: str) -> bool:
    """Tell whether a row of *part* was written after the moment that was called *since*."""
    statement = _CHANGED.format(table="messages" if subject == "messages" else "journal")
    asked = {"flow": part.flow, "first": part.first_id, "last": part.last_id, "since": since}
    return bool((await tx.execute(text(statement), asked)).scalar_one())


def as_csv(tx: AsyncConnection, part: Part, chosen: Selection) -> AsyncIterator[Block]:
    """The messages of *part* as lines of CSV; lists and objects as JSON, and times in UTC."""
    columns = sql.SQL(", ").join(_CSV_COLUMNS)
    return _copied(tx, _of_part("messages", part, chosen, columns), _CSV)


def as_json(
    tx: AsyncConnection, subject: Subject, part: Part, chosen: Selection
) -> AsyncIterator[Block]:
    """What *part* holds as lines, each a JSON object."""
    rows = _of_part(subject, part, chosen, _JSON_COLUMNS[subject])
    return _objects(tx, sql.SQL("SELECT row_to_json(t) FROM ({}) AS t").format(rows))


def conversation(
    tx: AsyncConnection, flow: str, chosen: Selection, *, by_thread: bool = False
) -> AsyncIterator[Block]:
    """The messages of a flow as people read them, as JSON lines: by day, or by thread.

    With their histories, and the thread each is in if it is not alone in it; by thread, only such.
    """
    query = _CONVERSATION.format(
        columns=_JSON_COLUMNS["messages"],
        source=_source("messages", chosen),
        wanted=_wanted(chosen, with_flows=False),
        flow=sql.Literal(flow),
        as_of=sql.Literal(chosen.as_of),
        which=sql.SQL("t.size IS NOT NULL" if by_thread else "true"),
        order=sql.SQL("t.first_id, m.thread_id, m.id" if by_thread else "m.day NULLS LAST, m.id"),
    )
    return _objects(tx, query)


async def talkers(tx: AsyncConnection, chosen: Selection) -> dict[str, int]:
    """How many messages each person sent, by id."""
    statement = sql.SQL(
        "SELECT m.user_id, count(*) FROM {} AS m WHERE {} AND m.user_id IS NOT NULL GROUP BY 1"
    ).format(_source("messages", chosen), _wanted(chosen))
    cursor = await (await _raw(tx)).execute(statement)
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def coverage(tx: AsyncConnection, flows: Sequence[str]) -> Mapping[str, Any]:
    """What the ledger says of *flows*: what is proven by whom, missing, and doubted."""
    rows = await tx.execute(_COVERAGE, {"flows": list(flows)})
    return {row.flow: row.standing for row in rows}


def rejects(tx: AsyncConnection) -> AsyncIterator[Block]:
    """All input that could not be placed, as JSON lines; its bytes in hexadecimal."""
    rows = sql.SQL(
        "SELECT row_to_json(t) FROM (SELECT received_at, origin, reason, encode(raw, 'hex') AS raw"
        " FROM store.rejects ORDER BY digest) AS t"
    ).format()
    return _objects(tx, rows)


async def table(tx: AsyncConnection, name: Literal["flows", "users"]) -> list[dict[str, Any]]:
    """All rows of a small table, as JSON has them."""
    rows = await tx.execute(_TABLES[name])
    return [dict(row) for row in rows.scalars()]


def _of_part(
    subject: Subject, part: Part, chosen: Selection, columns: sql.Composable
) -> sql.Composed:
    return sql.SQL(
        "SELECT {columns} FROM {source} AS m {more}WHERE {wanted} AND m.flow = {flow}"
        " AND m.id BETWEEN {first} AND {last} AND {month} ORDER BY m.id{order}"
    ).format(
        columns=columns,
        source=_source(subject, chosen),
        more=_SIGHTED if subject == "events" else sql.SQL(""),
        wanted=_wanted(chosen, with_flows=False),
        flow=sql.Literal(part.flow),
        first=sql.Literal(part.first_id),
        last=sql.Literal(part.last_id),
        month=_in_month(part.month),
        order=sql.SQL(", m.form" if subject == "events" else ""),
    )


def _source(subject: Subject, chosen: Selection) -> sql.Composable:
    if subject == "events":
        return _EVENTS
    if chosen.as_of is None:
        return sql.SQL("archive.messages")
    return sql.SQL("archive.messages_as_of({})").format(sql.Literal(chosen.as_of))


def _name_of(month: datetime | None) -> str:
    return UNDATED if month is None else f"{month.year:04}-{month.month:02}"


def _in_month(name: str) -> sql.Composable:
    """The condition that a message was sent in the month of that name."""
    if name == UNDATED:
        return sql.SQL("m.sent IS NULL")
    first = sql.Literal(f"{name}-01 00:00:00+00")
    return sql.SQL(
        "m.sent >= {0}::timestamptz AND m.sent < {0}::timestamptz + interval '1 month'"
    ).format(first)


def _wanted(chosen: Selection, *, with_flows: bool = True) -> sql.Composable:
    conditions: list[sql.Composable] = [sql.SQL("true")]
    if with_flows:
        flows = sql.Literal(list(chosen.flows))
        conditions.append(sql.SQL("m.flow = ANY({}::text[])").format(flows))
    if chosen.since is not None:
        conditions.append(sql.SQL("m.sent >= {}").format(sql.Literal(chosen.since)))
    if chosen.until is not None:
        conditions.append(sql.SQL("m.sent < {}").format(sql.Literal(chosen.until)))
    return sql.SQL(" AND ").join(conditions)


async def _copied(
    tx: AsyncConnection, query: sql.Composed, options: sql.SQL | None = None
) -> AsyncIterator[Block]:
    """The rows of *query*, as COPY writes them."""
    connection = await _raw(tx)
    statement = sql.SQL("COPY ({}) TO STDOUT {}").format(query, options or sql.SQL(""))
    rows: list[bytes | bytearray | memoryview] = []
    size = 0
    async with connection.cursor() as cursor, cursor.copy(statement) as copied:
        async for row in copied:
            rows.append(row)
            size += len(row)
            if size >= BLOCK_BYTES:
                yield Block(b"".join(rows), len(rows))
                rows, size = [], 0
    if rows:
        yield Block(b"".join(rows), len(rows))


async def _objects(tx: AsyncConnection, query: sql.Composed) -> AsyncIterator[Block]:
    """The rows of *query*, each of one JSON value, as lines."""
    async for block in _copied(tx, query):
        # COPY doubles every backslash; JSON holds no other byte that it would escape.
        yield Block(block.data.replace(b"\\\\", b"\\"), block.rows)


async def lines(blocks: AsyncIterator[Block]) -> AsyncIterator[bytes]:
    """The lines of *blocks* of JSON, one by one."""
    async for block in blocks:
        for line in block.data.split(b"\n")[:-1]:
            yield line


async def _raw(tx: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    raw = await tx.get_raw_connection()
    connection = raw.driver_connection
    if not isinstance(connection, psycopg.AsyncConnection):
        raise TypeError("COPY needs a connection of psycopg's")
    return connection


_CSV = sql.SQL("WITH (FORMAT csv)")

_MONTH = sql.SQL("date_trunc('month', m.sent, 'UTC')")

_CSV_COLUMNS = [
    sql.SQL("to_json(m.tags)") if name == "tags" else sql.Identifier("m", name) for name in COLUMNS
]

_EVENTS = sql.SQL(
    "(SELECT f.path AS flow, j.*, j.sent_at AS sent FROM store.journal AS j"
    " JOIN store.flows AS f USING (flow_key))"
)
_SIGHTED = sql.SQL("LEFT JOIN store.sightings AS s USING (flow_key, id, form) ")

_JSON_COLUMNS: Mapping[Subject, sql.Composable] = {
    "messages": sql.SQL(", ").join(sql.Identifier("m", name) for name in COLUMNS),
    # The payload as a text: JSON has many spellings, and this one is to be kept.
    "events": sql.SQL(
        "m.flow, m.id, m.form, m.witness, m.event, m.user_id, m.sent, m.received_at, m.as_of,"
        " s.as_of AS shown_as_of, s.shown_at, m.payload::text AS payload"
    ),
}

_CONVERSATION = sql.SQL("""
    WITH chosen AS (
        SELECT *, to_char(m.sent AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day
        FROM {source} AS m WHERE {wanted} AND m.flow = {flow}
    ), talks AS (
        SELECT thread_id, count(*) AS size, min(id) AS first_id, min(day) AS first_day
        FROM chosen WHERE thread_id IS NOT NULL GROUP BY thread_id HAVING count(*) > 1
    )
    SELECT row_to_json(line) FROM (
        SELECT {columns}, m.day, t.size AS thread_size, t.first_day AS thread_day,
               s.title AS thread_title,
               CASE WHEN m.edited_at IS NOT NULL OR m.deleted_at IS NOT NULL OR m.edits > 0 THEN (
                   SELECT json_agg(json_build_object('kind', r.kind, 'at', r.at, 'nick', r.nick,
                                                     'content', r.content) ORDER BY r.ordinal)
                   FROM archive.revisions AS r
                   WHERE r.flow = m.flow AND r.message_id = m.id
                     AND ({as_of}::timestamptz IS NULL OR r.at <= {as_of}::timestamptz)
               ) END AS history
        FROM chosen AS m LEFT JOIN talks AS t USING (thread_id)
        LEFT JOIN archive.threads AS s ON s.flow = m.flow AND s.thread_id = m.thread_id
        WHERE {which} ORDER BY {order}
    ) AS line
""")

_NAMES = text("""
    SELECT md5(coalesce((SELECT string_agg(concat_ws('|', user_id, nick, name, email), ','
                                           ORDER BY user_id COLLATE "C") FROM store.users), '')
            || coalesce((SELECT string_agg(concat_ws('|', flow_id, path, name), ','
                                           ORDER BY flow_id COLLATE "C") FROM store.flows), ''))
""")

# A row knows the lower 32 bits of the transaction that wrote it; it was not one of the future.
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
        WHERE t.id BETWEEN :first AND :last
          AND NOT pg_visible_in_snapshot(
              CAST(CAST(greatest(written, 0) AS text) AS xid8), CAST(:since AS pg_snapshot))
    )
"""

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
                             THEN int8multirange(int8range(1, l.due, '[]')) - l.streamed - l.listed
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
