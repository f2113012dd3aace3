"""Many rows at once: COPY for new ones, JSON for changed ones, arrays for keys.

Rows to copy are given as Postgres' binary format wants them, which costs both sides a fraction of
text: most values as they are, others by `moment`, `small`, `texts` and `document`, or as bytes.

Statements that join keys with a table reach into it through its index, whatever the planner knows
of the table: a plan made while it was empty would else stay, and be slow, as long as a connection.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from struct import Struct, error
from typing import Literal

import msgspec
import psycopg
from psycopg.types.string import BytesBinaryDumper
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.ext.asyncio import AsyncConnection

Key = tuple[int, int]
"""A flow's key and an id in that flow."""

_SENT_AS = {
    SmallInteger: "bytea",
    Integer: "int4",
    BigInteger: "int8",
    Boolean: "bool",
    Text: "text",
    JSON: "text",
    DateTime: "int8",
    UUID: "bytea",
    LargeBinary: "bytea",
    JSONB: "bytea",
    ARRAY: "bytea",
}
"""How values of a column's type travel: as what has the same bytes."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_OID_OF_TEXT = 25
_OID_OF_NUMBER = {32: 23, 64: 20}
_ARRAY_HEAD = Struct("!5i")
NO_TEXTS = Struct("!3i").pack(0, 0, _OID_OF_TEXT)
_LENGTH = Struct("!i")
_SMALL = Struct("!h")


def moment(at: datetime | None) -> int | None:
    """A time as COPY takes it: microseconds since 2000."""
    if at is None:
        return None
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def numbers(values: Sequence[int], *, bits: Literal[32, 64]) -> bytes:
    """An array of ``integer`` or ``bigint`` as COPY takes it."""
    if not values:
        return Struct("!3i").pack(0, 0, _OID_OF_NUMBER[bits])
    sized = [part for value in values for part in (bits // 8, value)]
    head = _ARRAY_HEAD.pack(1, 0, _OID_OF_NUMBER[bits], len(values), 1)
    return head + Struct(f"!{len(values) * ('ii' if bits == 32 else 'iq')}").pack(*sized)


def small(number: int) -> bytes:
    """A number as COPY takes it for a column of ``smallint``.

    Raises:
        psycopg.DataError: it is none; psycopg itself would cut it off.
    """
    try:
        return _SMALL.pack(number)
    except error:
        raise psycopg.DataError(f"{number} is out of range for smallint") from None


def texts(values: Sequence[str]) -> bytes:
    """An array of text as COPY takes it."""
    if not values:
        return NO_TEXTS
    parts = [_ARRAY_HEAD.pack(1, 0, _OID_OF_TEXT, len(values), 1)]
    for value in values:
        encoded = value.encode()
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return b"".join(parts)


def document(value: object) -> bytes | None:
    """A value as COPY takes it for a column of ``jsonb``; None stands for no value."""
    return None if value is None else b"\1" + msgspec.json.encode(value)


async def copy(
    tx: AsyncConnection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Copy *rows*, each in the order of *columns*, into *table*.

    Raises:
        psycopg.Error, UnicodeError: Postgres refused a row, or the connection broke; nothing is
            copied then.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    types = [_SENT_AS[type(table.c[name].type)] for name in columns]
    statement = f"COPY {table.fullname} ({names}) FROM STDIN (FORMAT binary)"
    try:
        async with driver(tx) as connection, connection.cursor() as cursor:
            # What is registered last for bytea is slow: it is Python, and for DB-API.
            cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
            async with cursor.copy(statement) as target:
                target.set_types(types)
                for row in rows:
                    await target.write_row(row)
    except OverflowError as exc:
        raise psycopg.DataError(str(exc)) from exc


@asynccontextmanager
async def driver(tx: AsyncConnection) -> AsyncIterator[psycopg.AsyncConnection]:
    """Psycopg's own connection of a transaction, for what SQLAlchemy has no words for."""
    raw = await tx.get_raw_connection()
    connection = raw.driver_connection
    if not isinstance(connection, psycopg.AsyncConnection):
        raise TypeError("this needs a connection of psycopg's")
    try:
        yield connection
    except psycopg.Error:
        if connection.broken:
            await tx.invalidate()
        raise


def records(rows: Sequence[object]) -> str:
    """Rows, as objects named like the columns, for ``json_populate_recordset``."""
    return msgspec.json.encode(rows).decode()


def keys_of(keys: Iterable[Key]) -> dict[str, list[int]]:
    """The parameters of `key_table`."""
    flow_keys, ids = [], []
    for flow_key, id_ in keys:
        flow_keys.append(flow_key)
        ids.append(id_)
    return {"flow_keys": flow_keys, "ids": ids}


def reached(table: Table, *found: ColumnElement[bool]) -> FromClause:
    """The rows of *table* that are *found* for each row before it, to join with laterally."""
    # OFFSET keeps the planner from making anything but a look into the index of it.
    return select(table).where(*found).offset(0).lateral(f"its_{table.name}")


def key_table() -> TableValuedAlias:
    """Keys as a table ``asked(flow_key, id)`` to join with; its parameters come of `keys_of`."""
    return (
        func.unnest(
            bindparam("flow_keys", type_=ARRAY(Integer)),
            bindparam("ids", type_=ARRAY(BigInteger)),
        )
        .table_valued("flow_key", "id", name="asked")
        .render_derived()
    )
