"""Queries that every batch runs, some of them for many rows, bypassing SQLAlchemy.

A query is compiled once, when its module is loaded, and sent by `pipelining`, so that it can share
a round trip with other statements. Psycopg decodes the results, which are in binary format.
SQLAlchemy would double the cost of each row, and add a good part to that of a small transaction.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from psycopg.adapt import Transformer
from sqlalchemy import BindParameter, CompoundSelect, Select
from sqlalchemy.dialects.postgresql.psycopg import dialect

from archiver.store.bulk import PACKED, instant
from archiver.store.connection import Transaction, driver_of
from archiver.store.pipelining import Answer, Statement, send

_PARAMETER = re.compile(r"%\((\w+)\)s")
NO_VALUES: Mapping[str, bytes] = MappingProxyType({})


class Query(Struct, frozen=True):
    """A query in SQL with numbered parameters."""

    words: bytes
    names: tuple[str, ...]
    """The names of the parameters, in the order of their numbers."""
    always: Mapping[str, bytes] = NO_VALUES
    """The values of the parameters that never change."""

    @classmethod
    def of(cls, words: str, always: Mapping[str, bytes] = NO_VALUES) -> "Query":
        """The query *words*, in which parameters are named, as ``%(ids)s``."""
        names = tuple(dict.fromkeys(_PARAMETER.findall(words)))
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", words)
        used = {name: always[name] for name in names if name in always}
        return cls(numbered.encode(), names, used)

    def about(self, values: Mapping[str, bytes]) -> Statement:
        """The query with *values*, by parameter name, in the binary format of their types."""
        known = {**self.always, **values}
        return Statement(self.words, [known[name] for name in self.names])


def query(statement: Select[Any] | CompoundSelect[Any]) -> Query:
    """*statement* compiled for `fetch`.

    Raises:
        KeyError: it contains a value of a type that is not in `PACKED`.
    """
    compiled = statement.compile(dialect=dialect())  # type: ignore[no-untyped-call]
    always = {
        name: _packed(bind) for name, bind in compiled.binds.items() if bind.value is not None
    }
    return Query.of(str(compiled), always)


async def fetch(
    tx: Transaction, asked: Query, values: Mapping[str, bytes] = NO_VALUES
) -> list[tuple[Any, ...]]:
    """Run the query *asked*; returns its rows, with values in the order of its columns.

    Raises:
        psycopg.Error: Postgres refused a value, or the connection broke.
    """
    (answer,) = await send(tx, [asked.about(values)])
    return rows_in(tx, answer)


def _packed(bind: BindParameter[Any]) -> bytes:
    if isinstance(bind.value, datetime):
        return instant(bind.value)
    return PACKED[type(bind.type)](bind.value)


def rows_in(tx: Transaction, answer: Answer) -> list[tuple[Any, ...]]:
    """The rows of the result of a `Query`, with values in the order of its columns."""
    reader = Transformer.from_context(driver_of(tx))
    reader.set_pgresult(answer)
    return reader.load_rows(0, answer.ntuples, tuple)
