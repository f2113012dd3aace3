"""New rows into their tables: many by COPY, few by one statement for all tables together.

COPY costs the least for each row, and two waits for each table, which is most of what a single
event costs. Few rows are values of one INSERT, of which those into the other tables are parts.
Either way the values are given as Postgres' binary format wants them; see `archiver.store.bulk`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import count
from struct import Struct, error
from typing import Any

import msgspec
import psycopg
from psycopg.types.string import BytesBinaryDumper
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR, UUID
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.store.bulk import Sent, driver

FEW_ROWS = 12
"""In one statement: more kinds of statements would be kept prepared, and each is larger."""
FEW_BYTES = 64 * 1024

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
    TSVECTOR: "bytea",
}
"""How values of a column's type travel by COPY: as what has the same bytes."""

_PACKED: dict[type, Callable[[Any], bytes]] = {
    Integer: Struct("!i").pack,
    BigInteger: Struct("!q").pack,
    Boolean: Struct("!?").pack,
    DateTime: Struct("!q").pack,
    Text: str.encode,
    JSON: str.encode,
}
"""What makes the bytes of a value of a column's type; others are bytes already."""


class Rows(msgspec.Struct, frozen=True):
    """New rows of a table, each in the order of *columns*."""

    table: Table
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


async def add_rows(tx: AsyncConnection, *added: Rows) -> None:
    """Put new rows into their tables.

    Raises:
        psycopg.Error, UnicodeError: Postgres refused a row, or the connection broke; the
            transaction is of no more use then.
    """
    few: list[Rows] = []
    room = FEW_ROWS
    for one in sorted(added, key=lambda one: len(one.rows)):
        if len(one.rows) > room or not _is_small(one):
            await copy(tx, one.table, one.columns, one.rows)
        elif one.rows:
            few.append(one)
            room -= len(one.rows)
    if few:
        await _insert(tx, few)


def _is_small(added: Rows) -> bool:
    """Tell whether the values can go with a statement; a letter may take four bytes."""
    values = (value for row in added.rows for value in row)
    sizes = (
        len(value) * (4 if isinstance(value, str) else 1)
        for value in values
        if isinstance(value, str | bytes)
    )
    return sum(sizes) <= FEW_BYTES


async def _insert(tx: AsyncConnection, added: Sequence[Rows]) -> None:
    """Insert rows into tables, all by one statement."""
    shape = tuple((one.table, tuple(one.columns), len(one.rows)) for one in added)
    try:
        values = [value for one in added for value in _packed(one)]
    except error as exc:
        raise psycopg.DataError(str(exc)) from exc
    async with driver(tx) as connection:
        await psycopg.AsyncRawCursor(connection).execute(_statement(shape), values, prepare=True)


def _packed(added: Rows) -> Iterator[Sent | None]:
    packers = [_PACKED.get(type(added.table.c[name].type), bytes) for name in added.columns]
    for row in added.rows:
        for pack, value in zip(packers, row, strict=True):
            yield None if value is None else Sent(pack(value))


@cache
def _statement(shape: tuple[tuple[Table, tuple[str, ...], int], ...]) -> bytes:
    """What inserts so many rows with such columns into each table; the values are numbered."""
    numbers = count(1)
    inserts = []
    for table, columns, rows in shape:
        row = [", ".join(f"${next(numbers)}" for _ in columns) for _ in range(rows)]
        values = ", ".join(f"({one})" for one in row)
        inserts.append(f"INSERT INTO {table.fullname} ({_names(columns)}) VALUES {values}")  # noqa: S608
    *parts, last = inserts
    named = ", ".join(f"part{number} AS ({insert})" for number, insert in enumerate(parts))
    return (f"WITH {named} {last}" if named else last).encode()


async def copy(
    tx: AsyncConnection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Copy *rows*, each in the order of *columns*, into *table*.

    Raises:
        psycopg.Error, UnicodeError: Postgres refused a row, or the connection broke; nothing is
            copied then.
    """
    types = [_SENT_AS[type(table.c[name].type)] for name in columns]
    statement = f"COPY {table.fullname} ({_names(columns)}) FROM STDIN (FORMAT binary)"
    try:
        async with driver(tx) as connection, connection.cursor() as cursor:
            # What is registered last for bytea is slow: it is Python, and for DB-API.
            cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
            async with cursor.copy(statement.encode()) as target:
                target.set_types(types)
                for row in rows:
                    await target.write_row(row)
    except OverflowError as exc:
        raise psycopg.DataError(str(exc)) from exc


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
