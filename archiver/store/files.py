"""The files that messages name: which of them are still wanted, and the contents of the others.

A file is identified by its flow and the path at which the service serves it. It becomes wanted in
the transaction that writes a message which names it. The same contents are kept once, however many
messages name them, and in parts, so that neither side ever holds a large file in memory.
"""

import hashlib
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import IO, TypeGuard

from msgspec import Struct
from psycopg import sql
from sqlalchemy import Update, and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from archiver.domain.model import Attachment
from archiver.errors import ArchiverError, Corruption
from archiver.store.bulk import numbers, texts
from archiver.store.connection import Transaction, driver_of
from archiver.store.engine import DatabaseError, sqlstate
from archiver.store.pipelining import Statement, send
from archiver.store.rows import Row, copy
from archiver.store.schema import attached, file_parts, files

PART_BYTES = 1024 * 1024
LONGEST_PATH_BYTES = 1000
"""A longer path is not that of a file, and does not fit into an index."""
UNKNOWN = -1
LONGEST_REST = timedelta(days=30)
"""How long a file that was not given rests at most before it is asked for again."""
RENAMED = "its path was erased before it was fetched"
"""Why a file is never due: it has a path that the service does not know."""
DISK_FULL = "53100"


class NoRoom(ArchiverError):
    """The disk of the database has no room for a file."""

    kind = "the disk of the database has no room for it"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"the disk of the database has no room for its {size_bytes:,} bytes")


class DueFile(Struct, frozen=True, kw_only=True):
    """A file that a message names, and whose contents are not kept yet."""

    flow_key: int
    path: str
    size_bytes: int | None
    """The size that the service tells; None if it does not."""
    attempts: int


class Counts(Struct, frozen=True, kw_only=True):
    """How many files messages name; a path that several messages name counts once."""

    kept: int
    missing: int
    """Those not in the archive: not requested yet, or in vain."""


class Missing(Struct, frozen=True, kw_only=True):
    """A file that a message names, and that is not in the archive."""

    flow: str
    message_id: int
    position: int
    file_name: str | None
    file_size: int | None
    path: str | None
    """None if the message does not tell it."""
    attempts: int | None
    """None if the file is not requested: it has no path, or not one of a file, or was erased."""
    last_error: str | None


class MessageFile(Struct, frozen=True, kw_only=True):
    """A file of a message, and whether the archive has it; other fields are as in `Missing`."""

    position: int
    file_name: str | None
    sha256: str | None
    size_bytes: int | None
    """The size of the kept contents."""
    kept_at: datetime | None
    """When the archive received these contents, possibly for another message."""
    path: str | None
    attempts: int | None
    last_error: str | None


def noting(named: Iterable[tuple[int, Iterable[Attachment]]]) -> Statement | None:
    """The statement that records the files *named* by messages, with their flow keys.

    None if no file has a path. As long as a file is not kept, the size that was told last counts.
    """
    sizes = {
        (flow_key, file.path): file.size_bytes
        for flow_key, attachments in named
        for file in attachments
        if _is_path(file.path)
    }
    if not sizes:
        return None
    return Statement(
        _WANT,
        [
            numbers([flow_key for flow_key, _ in sizes], bits=32),
            texts([path for _, path in sizes]),
            numbers([UNKNOWN if size is None else size for size in sizes.values()], bits=64),
        ],
    )


async def unasked(
    tx: Transaction, flow_key: int, named: Iterable[tuple[int, Iterable[Attachment]]]
) -> list[int]:
    """Those of the messages *named*, each an id with its files, with a file that nothing asks for.

    It may be that an older release wrote them, which did not fetch files.
    """
    of_messages = [
        (id_, file.path) for id_, files_ in named for file in files_ if _is_path(file.path)
    ]
    if not of_messages:
        return []
    ids, paths = zip(*of_messages, strict=True)
    asked = {"flow_key": flow_key, "ids": list(ids), "paths": list(paths)}
    return list(await tx.scalars(_UNASKED, asked))


async def want(tx: Transaction, named: Iterable[tuple[int, Iterable[Attachment]]]) -> None:
    """Record the files *named* by messages, with their flow keys, as wanted from now on."""
    if statement := noting(named):
        await send(tx, [statement])


async def due(
    tx: Transaction, flow_keys: Collection[int], *, most: int, by: datetime | None = None
) -> list[DueFile]:
    """At most *most* files of these flows to request now, or by the time *by* of the database.

    Files with the fewest attempts come first and, of these, those that became due last: files of
    new messages do not wait behind those of years. Due now is also what is due only after the
    longest rest: the clock of the database was ahead when that was noted.
    """
    now, at = func.now(), attached.c.due_at
    # Not isfinite(), which would read each file that is never due.
    is_by_fast_clock = and_(at > now + LONGEST_REST, at < text("'infinity'"))
    columns = (attached.c.flow_key, attached.c.path, attached.c.size_bytes, attached.c.attempts)
    rows = await tx.execute(
        select(*columns)
        .where(
            attached.c.sha256.is_(None),
            attached.c.flow_key.in_(flow_keys),
            or_(at <= now, is_by_fast_clock) if by is None else at <= by,
        )
        .order_by(
            attached.c.attempts, attached.c.due_at.desc(), attached.c.flow_key, attached.c.path
        )
        .limit(most)
    )
    return [DueFile(**row) for row in rows.mappings()]


async def hasten(tx: Transaction, flow_keys: Collection[int]) -> datetime:
    """Make due now all files of these flows that are not kept; returns the time."""
    now: datetime = (await tx.execute(select(func.now()))).scalar_one()
    await tx.execute(
        update(attached)
        .where(
            attached.c.sha256.is_(None),
            attached.c.flow_key.in_(flow_keys),
            attached.c.due_at > now,
            func.isfinite(attached.c.due_at),
        )
        .values(due_at=now)
    )
    return now


async def allow(tx: Transaction, *, left_as: str, largest_bytes: int) -> None:
    """Make files due now that are waiting because of an error that ends with *left_as*.

    Files larger than *largest_bytes*, or of unknown size, are left as they are.
    """
    await tx.execute(
        update(attached)
        .where(
            attached.c.sha256.is_(None),
            attached.c.due_at > func.now(),
            attached.c.size_bytes <= largest_bytes,
            attached.c.error.endswith(left_as, autoescape=True),
        )
        .values(due_at=func.now())
    )


async def counts(tx: Transaction, flow_keys: Collection[int] | None = None) -> Counts:
    """How many files are named in these flows, or in all."""
    kept = func.count(attached.c.sha256)
    asked = select(kept, func.count() - kept)
    if flow_keys is not None:
        asked = asked.where(attached.c.flow_key.in_(flow_keys))
    kept_, missing_ = (await tx.execute(asked)).one()
    return Counts(kept=kept_, missing=missing_)


async def missing_count(tx: Transaction) -> int:
    """How many files of all flows are not in the archive; an index is enough to answer this."""
    asked = select(func.count(attached.c.due_at)).where(attached.c.sha256.is_(None))
    return (await tx.execute(asked)).scalar_one()


async def missing(tx: Transaction, flows: Collection[str], *, most: int) -> list[Missing]:
    """At most *most* files of these flows that are not in the archive, in the order of messages."""
    rows = await tx.execute(_MISSING, {"flows": list(flows), "most": most})
    return [Missing(**row) for row in rows.mappings()]


async def of_message(tx: Transaction, flow: str, id_: int) -> list[MessageFile]:
    """The files that a message of the flow with the path *flow* names, in order."""
    rows = await tx.execute(_OF_MESSAGE, {"flow": flow, "id": id_})
    return [MessageFile(**row) for row in rows.mappings()]


async def parts(tx: Transaction, sha256: str) -> AsyncGenerator[bytes]:
    """The kept contents of a file, in parts and unchecked; close it if you stop reading early."""
    statement = _CONTENT.format(sha256=sql.Literal(sha256))
    async with driver_of(tx).cursor() as cursor, cursor.copy(statement) as copied:
        copied.set_types(["bytea"])
        async for (part,) in copied.rows():
            yield part


async def content(tx: Transaction, sha256: str) -> AsyncGenerator[bytes]:
    """The contents of a file, as from `parts`, checked against their digest.

    Raises:
        Corruption: at the end, if they are not what was kept.
    """
    digest = hashlib.sha256()
    async with aclosing(parts(tx, sha256)) as kept:
        async for part in kept:
            digest.update(part)
            yield part
    if digest.hexdigest() != sha256:
        raise Corruption(
            f"the file {sha256} was altered in store.file_parts: restore it from a backup"
        )


async def keep(tx: Transaction, one: DueFile, content: IO[bytes], *, sha256: str) -> None:
    """Keep the contents of a file: all of *content*, as `attach` does.

    Raises:
        NoRoom: the disk of the database is too full.
    """
    size = content.seek(0, 2)
    content.seek(0)
    await attach(tx, one.flow_key, one.path, content, sha256=sha256, size_bytes=size)


async def attach(
    tx: Transaction,
    flow_key: int,
    path: str,
    content: IO[bytes],
    *,
    sha256: str,
    size_bytes: int,
) -> None:
    """Keep *content*, from its present position, of which *sha256* is the digest, as a file's.

    If the file is not wanted, since its row was erased or it is kept already, nothing is.

    Raises:
        NoRoom: the disk of the database is too full.
    """
    named = _at(flow_key, path).values(sha256=sha256, error=None).returning(attached.c.path)
    async with tx.begin_nested() as taken:
        await _take_in(tx, content, sha256=sha256, size_bytes=size_bytes)
        # Only now, since whoever writes a message that names the file waits for this row.
        if (await tx.execute(named)).first() is None:
            await taken.rollback()


async def _take_in(tx: Transaction, content: IO[bytes], *, sha256: str, size_bytes: int) -> None:
    new = insert(files).values(sha256=sha256, size_bytes=size_bytes).on_conflict_do_nothing()
    if (await tx.execute(new.returning(files.c.sha256))).first():
        try:
            await copy(tx, file_parts, ["sha256", "part", "bytes"], _parts(content, sha256))
        except DatabaseError as error:
            if sqlstate(error) != DISK_FULL:
                raise
            raise NoRoom(size_bytes) from None


async def fail(tx: Transaction, one: DueFile, *, error: str, rest: timedelta) -> None:
    """Record why a file could not be fetched; it is not due again before *rest* has passed."""
    due_at = func.now() + rest
    values = {"attempts": one.attempts + 1, "error": error, "due_at": due_at}
    await tx.execute(_at(one.flow_key, one.path).values(values))


def _is_path(path: str | None) -> TypeGuard[str]:
    return bool(path) and len(str(path).encode()) <= LONGEST_PATH_BYTES


def _at(flow_key: int, path: str) -> Update:
    return update(attached).where(
        attached.c.flow_key == flow_key, attached.c.path == path, attached.c.sha256.is_(None)
    )


def _parts(content: IO[bytes], sha256: str) -> Iterator[Row]:
    part = 0
    while piece := content.read(PART_BYTES):
        yield sha256, part, piece
        part += 1


_CONTENT = sql.SQL(
    "COPY (SELECT bytes FROM store.file_parts WHERE sha256 = {sha256} ORDER BY part)"
    " TO STDOUT WITH (FORMAT binary)"
)

_MISSING = text("""
    SELECT flow, message_id, position, file_name, file_size, path, attempts, last_error
    FROM archive.attachments
    WHERE sha256 IS NULL AND flow = ANY(CAST(:flows AS text[]))
    ORDER BY flow, message_id, position LIMIT :most
""")
_OF_MESSAGE = text("""
    SELECT position, file_name, sha256, size_bytes, kept_at, path, attempts, last_error
    FROM archive.attachments LEFT JOIN store.files USING (sha256)
    WHERE flow = :flow AND message_id = :id ORDER BY position
""")
_UNASKED = text("""
    SELECT DISTINCT id
    FROM unnest(CAST(:ids AS bigint[]), CAST(:paths AS text[])) AS named (id, path)
    WHERE NOT EXISTS (
        SELECT FROM store.attached AS k WHERE k.flow_key = :flow_key AND k.path = named.path
    )
    ORDER BY id
""")
_WANT = b"""
    WITH named AS (
        SELECT flow_key, path, nullif(size_bytes, -1) AS size_bytes
        FROM unnest(CAST($1 AS integer[]), CAST($2 AS text[]), CAST($3 AS bigint[]))
             AS named (flow_key, path, size_bytes)
    ), told_otherwise AS (
        UPDATE store.attached k SET size_bytes = named.size_bytes, due_at = now()
        FROM named WHERE k.flow_key = named.flow_key AND k.path = named.path
                     AND k.sha256 IS NULL AND k.size_bytes IS DISTINCT FROM named.size_bytes
                     AND named.size_bytes IS NOT NULL AND isfinite(k.due_at)
    )
    INSERT INTO store.attached (flow_key, path, size_bytes)
    SELECT flow_key, path, size_bytes FROM named
    ON CONFLICT DO NOTHING
"""
