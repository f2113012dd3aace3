"""Statements that every batch needs, some of them for many rows, without a detour.

A statement is put into words once, when its module is loaded, and psycopg asks it by itself, with
answers in binary: SQLAlchemy's own way costs each row as much again, and a small transaction a good
part of its time.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from psycopg.rows import tuple_row
from sqlalchemy import CompoundSelect, Select
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.store.bulk import driver


class Query(Struct, frozen=True):
    """A statement in words, and the values that it always has."""

    words: bytes
    values: Mapping[str, Any]

    @classmethod
    def of(cls, words: str) -> "Query":
        """A statement in SQL; its parameters are named like ``%(ids)s``."""
        return cls(words.encode(), {})


def query(statement: Select[Any] | CompoundSelect[Any]) -> Query:
    """*statement* as `fetch` asks it."""
    compiled = statement.compile(dialect=dialect())  # type: ignore[no-untyped-call]
    return Query(str(compiled).encode(), compiled.params)


async def tell(tx: AsyncConnection, told: Query, parameters: Mapping[str, object]) -> None:
    """Have a statement done that answers nothing.

    Raises:
        psycopg.Error: Postgres refused a value, or the connection broke.
    """
    async with driver(tx) as connection, connection.cursor() as cursor:
        await cursor.execute(told.words, {**told.values, **parameters})


async def fetch(
    tx: AsyncConnection, asked: Query, parameters: Mapping[str, object]
) -> list[tuple[Any, ...]]:
    """The rows that answer *asked*, each in the order of its columns.

    Raises:
        psycopg.Error: Postgres refused a value, or the connection broke.
    """
    async with driver(tx) as connection, connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(asked.words, {**asked.values, **parameters}, binary=True)
        return await cursor.fetchall()
