"""The files that exported messages name, and which of them are kept, in the export's snapshot."""

from collections.abc import AsyncGenerator, Sequence

from msgspec import Struct
from psycopg import sql

from archiver.store.connection import Transaction, driver_of
from archiver.store.exporting_choice import UNDATED, Selection, source, wanted


class NamedFile(Struct, frozen=True):
    """A file as a message names it."""

    flow: str
    month: str
    """The month in which the message was sent, as in `Part`."""
    message: int
    file_name: str | None
    content_type: str | None
    sha256: str | None
    """The digest of its contents; None if these are not in the archive."""
    size_bytes: int | None
    """The size of its contents; None if these are not in the archive, or nothing is noted of
    them."""
    is_plain: bool
    """Whether the message is not deleted, and its time and text are known."""


class KeptPath(Struct, frozen=True):
    """The path at which the service serves a file, and the digest of its contents."""

    flow: str
    path: str
    sha256: str


async def named_files(tx: Transaction, chosen: Selection) -> AsyncGenerator[NamedFile]:
    """Each file that a chosen message names, by flow and id; close it if you stop reading early."""
    statement = _NAMED.format(
        undated=sql.Literal(UNDATED), source=source("messages", chosen), wanted=wanted(chosen)
    )
    async with driver_of(tx).cursor() as cursor, cursor.copy(statement) as copied:
        copied.set_types(["text", "text", "int8", "text", "text", "text", "int8", "bool"])
        async for row in copied.rows():
            yield NamedFile(*row)


async def paths(tx: Transaction, flows: Sequence[str]) -> AsyncGenerator[KeptPath]:
    """The path of each kept file of *flows*, sorted; close it if you stop reading early."""
    statement = _PATHS.format(flows=sql.Literal(list(flows)))
    async with driver_of(tx).cursor() as cursor, cursor.copy(statement) as copied:
        copied.set_types(["text", "text", "text"])
        async for row in copied.rows():
            yield KeptPath(*row)


# Few messages have files. The join with their present rows lets a partial index find them.
_NAMED = sql.SQL("""
    COPY (
        SELECT m.flow, coalesce(to_char(m.sent AT TIME ZONE 'UTC', 'YYYY-MM'), {undated}), m.id,
               a.file ->> 'file_name', a.file ->> 'content_type', k.sha256, s.size_bytes,
               m.deleted_at IS NULL AND m.sent IS NOT NULL AND m.content IS NOT NULL
        FROM {source} AS m
        JOIN store.flows AS f ON f.path = m.flow
        JOIN store.messages AS now
          ON now.flow_key = f.flow_key AND now.id = m.id AND now.attachments IS NOT NULL
        CROSS JOIN LATERAL jsonb_array_elements(m.attachments) WITH ORDINALITY AS a (file, n)
        LEFT JOIN store.attached AS k
               ON k.flow_key = f.flow_key AND k.path = a.file ->> 'path'
        LEFT JOIN store.files AS s USING (sha256)
        WHERE {wanted} ORDER BY m.flow COLLATE "C", m.id, a.n
    ) TO STDOUT WITH (FORMAT binary)
""")

_PATHS = sql.SQL("""
    COPY (
        SELECT f.path, k.path, k.sha256
        FROM store.attached AS k JOIN store.flows AS f USING (flow_key)
        WHERE f.path = ANY ({flows}::text[]) AND k.sha256 IS NOT NULL
        ORDER BY f.path COLLATE "C", k.path COLLATE "C"
    ) TO STDOUT WITH (FORMAT binary)
""")
