"""The rows of an export, as Postgres writes them: lines of JSON or CSV, in blocks.

Postgres formats the lines, and they go to the file without being parsed here. Many lines come as
one value, since the overhead of a value is greater than the cost of a line.

A caller that stops reading early must close the generator (`contextlib.aclosing`). Otherwise the
connection would wait for ever for the rest to be read.
"""

from collections.abc import AsyncGenerator, Iterable

from msgspec import Struct
from psycopg import sql

from archiver.domain.model import LARGEST_ID
from archiver.store.connection import Transaction, driver_of
from archiver.store.exporting_choice import Part, Selection, Subject, source, wanted
from archiver.store.rejecting import ERASED

BLOCK_BYTES = 256 * 1024
ROWS_AT_ONCE = 256
"""How many lines should come as one value."""
LARGEST_AT_ONCE = 2_000_000
"""The most bytes of lines that come as one value. If they have more, they come one by one, since
Postgres limits the size of a value."""

COLUMNS = (
    "flow", "id", "event", "user_id", "nick", "sent", "content", "tags", "thread_id", "parent_id",
    "edited_at", "edits", "deleted_at", "attachments", "reactions", "app", "uuid",
    "external_user_name", "detail",
)  # fmt: skip
"""The exported columns of messages, named as in ``archive.messages``."""
SHOWN = (
    "id", "event", "user_id", "nick", "sent", "content", "tags", "thread_id", "edited_at",
    "deleted_at", "attachments", "reactions", "app", "external_user_name",
)  # fmt: skip
"""The columns of messages in a conversation."""


class Block(Struct, frozen=True):
    """Some lines, and how many they are."""

    data: bytes
    rows: int


def as_csv(tx: Transaction, part: Part, chosen: Selection) -> AsyncGenerator[Block]:
    """The messages of *part* as lines of CSV, with lists and objects as JSON, and times in UTC.

    Texts are quoted, even empty ones; null is an empty field without quotes.
    """
    return _blocks(tx, _lines("messages", part, chosen, _CSV_LINE))


def as_json(
    tx: Transaction, subject: Subject, part: Part, chosen: Selection
) -> AsyncGenerator[Block]:
    """The rows of *part* as lines, each a JSON object."""
    return _blocks(tx, _lines(subject, part, chosen, _JSON_LINE))


def conversation(
    tx: Transaction, part: Part, chosen: Selection, *, by_thread: bool = False
) -> AsyncGenerator[Block]:
    """The messages of *part* as a conversation for people, as JSON lines: by day, or by thread.

    Each message comes with its history and, if it is not alone in its thread, with that thread. By
    thread, only messages that are not alone are included; threads that began in an earlier month
    come first.
    """
    return _blocks(tx, conversation_query(part, chosen, by_thread=by_thread))


def conversation_query(part: Part, chosen: Selection, *, by_thread: bool) -> sql.Composed:
    """The query behind `conversation`."""
    return _CONVERSATION.format(
        columns=_of_messages(SHOWN, chosen),
        source=source("messages", chosen),
        wanted=wanted(chosen, part),
        flow=sql.Literal(part.flow),
        as_of=sql.Literal(chosen.as_of),
        which=sql.SQL("coalesce(t.size, 0) > 1" if by_thread else "true"),
        order=_BY_THREAD if by_thread else _BY_DAY,
    )


def rejects(tx: Transaction) -> AsyncGenerator[Block]:
    """All rejects as JSON lines, with their bytes in hexadecimal; but those that were erased."""
    rows = sql.SQL(
        "SELECT row_to_json(t)::text, 1::int8 FROM (SELECT received_at, origin, reason,"
        " encode(raw, 'hex') AS raw FROM store.rejects WHERE reason <> {erased}"
        " ORDER BY digest) AS t"
    ).format(erased=sql.Literal(ERASED))
    return _blocks(tx, rows)


def _lines(subject: Subject, part: Part, chosen: Selection, line: sql.SQL) -> sql.Composed:
    """A query for the lines of *part*; each row is one or more lines, and their number."""
    columns = _EVENT_COLUMNS if subject == "events" else _of_messages(COLUMNS, chosen)
    ids = part.last_id - part.first_id + 1
    size = max(1, ids * ROWS_AT_ONCE // max(1, part.rows))
    together = chosen.as_of is not None or chosen.by_query is not None
    if together or part.last_id + size > LARGEST_ID:
        # `messages_as_of` or the query would be evaluated again in every step.
        rows = _of_part(subject, part, chosen, columns)
        return sql.SQL("SELECT {}, 1::int8 FROM ({}) AS t").format(line, rows)
    step = sql.Literal(size)
    return _TOGETHER.format(
        line=line,
        rows=_of_part(subject, part, chosen, columns, inside=_STEP.format(step=step)),
        first=sql.Literal(part.first_id),
        last=sql.Literal(part.last_id),
        step=step,
        most=sql.Literal(LARGEST_AT_ONCE),
    )


def _of_part(
    subject: Subject,
    part: Part,
    chosen: Selection,
    columns: sql.Composable,
    *,
    inside: sql.Composable | None = None,
) -> sql.Composed:
    return sql.SQL(
        "SELECT {columns} FROM {source} AS m {more}WHERE {wanted} AND {inside} ORDER BY m.id{order}"
    ).format(
        columns=columns,
        source=source(subject, chosen),
        more=_SIGHTED if subject == "events" else sql.SQL(""),
        wanted=wanted(chosen, part),
        inside=inside or sql.SQL("true"),
        order=sql.SQL(", m.form" if subject == "events" else ""),
    )


async def _blocks(tx: Transaction, query: sql.Composed) -> AsyncGenerator[Block]:
    """The lines that *query* yields, in blocks that are large enough for a write."""
    connection = driver_of(tx)
    # In binary format, a text is its bytes, so nothing has to be unescaped.
    statement = sql.SQL("COPY ({}) TO STDOUT WITH (FORMAT binary)").format(query)
    texts: list[bytes] = []
    size = rows = 0
    async with connection.cursor() as cursor, cursor.copy(statement) as copied:
        copied.set_types(["bytea", "int8"])
        async for text, count in copied.rows():
            texts.append(text)
            size += len(text)
            rows += count
            if size >= BLOCK_BYTES:
                yield Block(b"\n".join([*texts, b""]), rows)
                texts.clear()
                size = rows = 0
    if texts:
        yield Block(b"\n".join([*texts, b""]), rows)


_JSON_LINE = sql.SQL("row_to_json(t)::text")


def _csv_column(name: str) -> str:
    if name in _UNQUOTED:
        return f"coalesce(t.{name}::text, '')"
    text = "to_json(t.tags)::text" if name == "tags" else f"t.{name}::text"
    return f"""coalesce('"' || replace({text}, '"', '""') || '"', '')"""


def _of_messages(names: Iterable[str], chosen: Selection) -> sql.Composed:
    columns = {name: sql.Identifier("m", name) for name in names}
    kept = {"attachments": _WITH_DIGESTS} if chosen.files else {}
    return sql.SQL(", ").join((columns | kept).values())


_UNQUOTED = {"id", "sent", "parent_id", "edited_at", "edits", "deleted_at"}
_CSV_LINE = sql.SQL(f"concat_ws(',', {', '.join(map(_csv_column, COLUMNS))})")

_SIGHTED = sql.SQL("LEFT JOIN store.sightings AS s USING (flow_key, id, form) ")

# The payload is exported as text, since its exact spelling as JSON is to be kept.
_EVENT_COLUMNS = sql.SQL(
    "m.flow, m.id, m.form, m.witness, m.event, m.user_id, m.sent, m.received_at, m.as_of,"
    " s.as_of AS shown_as_of, s.shown_at, s.first_as_of AS first_shown_as_of, s.first_shown_at,"
    " m.payload::text AS payload"
)

# Each file with the digest of its contents, or null if these are not in the archive.
_WITH_DIGESTS = sql.SQL("""
    CASE WHEN jsonb_array_length(m.attachments) > 0 THEN (
        SELECT jsonb_agg(a.file || jsonb_build_object('sha256', k.sha256) ORDER BY a.n)
        FROM jsonb_array_elements(m.attachments) WITH ORDINALITY AS a (file, n)
        LEFT JOIN store.flows AS f ON f.path = m.flow
        LEFT JOIN store.attached AS k ON k.flow_key = f.flow_key AND k.path = a.file ->> 'path'
    ) ELSE m.attachments END AS attachments
""")

_BY_DAY = sql.SQL("m.day NULLS LAST, m.id")
# By month first, since the order of ids may differ from that of times, and months must stay whole.
_BY_THREAD = sql.SQL("left(t.first_day, 7) NULLS LAST, t.first_id, m.thread_id, m.id")

# Postgres cannot estimate how many messages and threads there are here, and may choose a nested
# loop. It never does so for a full join, which here finds what a left join would, nor for a union.
_CONVERSATION = sql.SQL("""
    WITH chosen AS (
        SELECT *, to_char(m.sent AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day
        FROM {source} AS m WHERE {wanted}
    ), talks AS (
        SELECT thread_id, count(id) AS size, min(id) AS first_id, min(day) AS first_day,
               max(title) AS title
        FROM (SELECT thread_id, id, day, NULL AS title FROM chosen WHERE thread_id IS NOT NULL
              UNION ALL SELECT thread_id, NULL, NULL, title FROM archive.threads
              WHERE flow = {flow}) AS told
        GROUP BY thread_id HAVING count(id) > 1
    )
    SELECT row_to_json(line)::text, 1::int8 FROM (
        SELECT {columns}, m.day, t.size AS thread_size, t.first_day AS thread_day,
               t.title AS thread_title,
               CASE WHEN m.event = 'comment' THEN m.detail ->> 'title'
                    WHEN m.event IN ('activity', 'discussion') THEN (
                   SELECT title FROM archive.threads
                   WHERE flow = m.flow AND thread_id = m.thread_id
               ) END AS about,
               CASE WHEN m.edited_at IS NOT NULL OR m.deleted_at IS NOT NULL OR m.edits > 0 THEN (
                   SELECT json_agg(json_build_object('kind', r.kind, 'at', r.at, 'nick', r.nick,
                                                     'content', r.content) ORDER BY r.ordinal)
                   FROM archive.revisions AS r
                   WHERE r.flow = m.flow AND r.message_id = m.id
                     AND ({as_of}::timestamptz IS NULL OR r.at <= {as_of}::timestamptz)
               ) END AS history
        FROM chosen AS m FULL JOIN talks AS t USING (thread_id)
        WHERE {which} ORDER BY {order}
    ) AS line
""")


# Ids are read in steps, each by the index, so rows are neither sorted nor held in memory.
_STEP = sql.SQL("m.id BETWEEN step.id AND step.id + {step} - 1")
_TOGETHER = sql.SQL("""
    SELECT found.line, found.rows FROM generate_series({first}::bigint, {last}, {step}) AS step (id)
    CROSS JOIN LATERAL (
        WITH lines AS MATERIALIZED (SELECT {line} AS line FROM ({rows}) AS t),
        together AS (SELECT sum(octet_length(line)) <= {most} AS fits FROM lines)
        SELECT string_agg(line, E'\\n') AS line, count(*) AS rows FROM lines
        WHERE (SELECT fits FROM together) HAVING count(*) > 0
        UNION ALL SELECT line, 1 FROM lines WHERE NOT (SELECT fits FROM together)
    ) AS found
""")
