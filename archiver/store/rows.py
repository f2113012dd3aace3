"""New rows into their tables: many by COPY, few by statements that wait for the server together.

COPY costs the least for each row, and two waits for each table, which is most of what a single
event costs. Few rows are inserted one by one, in one pipeline. Either way the values are given as
Postgres' binary format wants them; see `archiver.store.bulk`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
FEW_BYTES = 64 * 1024
"""In a pipeline; much more than a socket takes at once may hang psycopg (3.3) when it ends."""

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
    if sum(len(one.rows) for one in added) <= FEW_ROWS and _is_small(added):
        if packed := [(_statement(one), row) for one in added for row in _packed(one)]:
            await _insert(tx, packed)
        return
    for one in added:
        if one.rows:
            await copy(tx, one.table, one.columns, one.rows)


def _is_small(added: Iterable[Rows]) -> bool:
    """Tell whether the values can go in a pipeline; a letter may take four bytes."""
    values = (value for one in added for row in one.rows for value in row)
    sizes = (
        len(value) * (4 if isinstance(value, str) else 1)
        for value in values
        if isinstance(value, str | bytes)
    )
    return sum(sizes) <= FEW_BYTES


def _packed(added: Rows) -> Iterator[list[Sent | None]]:
    packers = [_PACKED.get(type(added.table.c[name].type), bytes) for name in added.columns]
    try:
        for row in added.rows:
            yield [
                None if value is None else Sent(pack(value))
                for pack, value in zip(packers, row, strict=True)
            ]
    except error as exc:
        raise psycopg.DataError(str(exc)) from exc


def _statement(added: Rows) -> bytes:
    values = ", ".join(["%b"] * len(added.columns))
    names = _names(added.columns)
    return f"INSERT INTO {added.table.fullname} ({names}) VALUES ({values})".encode()  # noqa: S608


async def _insert(
    tx: AsyncConnection, packed: Iterable[tuple[bytes, Sequence[Sent | None]]]
) -> None:
    async with driver(tx) as connection, connection.pipeline():
        for statement, row in packed:
            await connection.execute(statement, row, prepare=True)


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
