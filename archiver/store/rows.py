"""Inserting new rows: many by COPY, few by INSERTs that share one wait for the server.

COPY costs the least per row, but two round trips per table, which would be most of the cost of a
few events. The INSERTs have fixed numbers of rows, so that there are few statements to prepare.
Either way, values are given in Postgres' binary format; see `archiver.store.bulk`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from struct import error
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

from archiver.store.bulk import packer
from archiver.store.connection import Transaction, driver
from archiver.store.pipelining import Statement, send

FEW_ROWS = 64
"""If a table gets more new rows than this, COPY costs less, in spite of its round trips."""
FEW_BYTES = 64 * 1024
AT_ONCE = (16, 4, 1)
"""The numbers of rows that one INSERT may have; each is one more statement to keep prepared."""

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
"""By the type of a column, the type that psycopg encodes its values as: one with the same bytes."""


Row = Sequence[object]
"""The values of a row."""


class Rows(msgspec.Struct, frozen=True):
    """New rows of a table, with values in the order of *columns*.

    Each row is made when it is sent, so that the server processes one while we make the next.
    """

    table: Table
    columns: Sequence[str]
    things: Sequence[Any]
    """The objects that become rows, by *as_row*."""
    as_row: Callable[[Any], Row] = tuple


async def add_rows(
    tx: Transaction, *added: Rows, before: Sequence[Statement] = (), commits: bool = False
) -> None:
    """Insert new rows into their tables, after running the statements *before*.

    If *commits*, the transaction may be committed when this returns, so nothing may follow.

    Raises:
        psycopg.Error, UnicodeError: Postgres refused a row, or the connection broke; the
            transaction cannot be used any more.
    """
    statements, many = [*before], []
    for one in added:
        if inserts := _inserts_of_few(one):
            statements += inserts
        elif one.things:
            many.append(one)
    if statements:
        await send(tx, statements, commits=commits and not many)
    for one in many:
        await copy(tx, one.table, one.columns, map(one.as_row, one.things))


def _inserts_of_few(added: Rows) -> list[Statement]:
    """The statements that insert rows, if these are few and small; otherwise none."""
    if len(added.things) > FEW_ROWS:
        return []
    inserts = list(_inserts(added))
    size = sum(sum(map(len, filter(None, one.values))) for one in inserts)
    return inserts if size <= FEW_BYTES else []


def _inserts(added: Rows) -> Iterator[Statement]:
    """The statements that insert rows.

    Raises:
        psycopg.DataError, UnicodeError: a value does not fit the type of its column.
    """
    table, columns, first = added.table, tuple(added.columns), 0
    packers = _packers(table, columns)
    for size in AT_ONCE:
        while len(added.things) - first >= size:
            try:
                values = [
                    None if value is None else pack(value)
                    for row in map(added.as_row, added.things[first : first + size])
                    for pack, value in zip(packers, row, strict=True)
                ]
            except error as exc:
                raise psycopg.DataError(str(exc)) from exc
            yield Statement(_statement(table, columns, size), values)
            first += size


@cache
def _packers(table: Table, columns: tuple[str, ...]) -> list[Callable[[Any], bytes]]:
    return [packer(table.c[name].type) for name in columns]


@cache
def _statement(table: Table, columns: tuple[str, ...], rows: int) -> bytes:
    """The statement that inserts this number of rows; its parameters are numbered."""
    width = len(columns)
    values = ", ".join(
        f"({', '.join(f'${row * width + place}' for place in range(1, width + 1))})"
        for row in range(rows)
    )
    return f"INSERT INTO {table.fullname} ({_names(columns)}) VALUES {values}".encode()  # noqa: S608


async def copy(tx: Transaction, table: Table, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Copy *rows*, with values in the order of *columns*, into *table*.

    Raises:
        psycopg.Error, UnicodeError: Postgres refused a row, or the connection broke; no row was
            copied.
    """
    types = [_SENT_AS[type(table.c[name].type)] for name in columns]
    statement = f"COPY {table.fullname} ({_names(columns)}) FROM STDIN (FORMAT binary)"
    try:
        async with driver(tx) as connection, connection.cursor() as cursor:
            # The dumper that psycopg registers last for bytes, for DB-API, is slow Python.
            cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
            async with cursor.copy(statement.encode()) as target:
                target.set_types(types)
                for row in rows:
                    await target.write_row(row)
    except OverflowError as exc:
        raise psycopg.DataError(str(exc)) from exc


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
