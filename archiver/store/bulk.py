"""Many values at once: binary ones for new rows, JSON for changed rows, arrays for keys.

New rows are given as that format wants them (`archiver.store.rows`), which costs both sides a
fraction of text: most values as they are, others by `moment`, `small`, `texts`, `numbers` and
`document`, or as bytes.

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
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Table,
    TableValuedAlias,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

Key = tuple[int, int]
"""A flow's key and an id in that flow."""

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
    """An array of ``integer`` or ``bigint`` as COPY takes it.

    Raises:
        psycopg.DataError: one of them is out of range.
    """
    if not values:
        return Struct("!3i").pack(0, 0, _OID_OF_NUMBER[bits])
    sized = [part for value in values for part in (bits // 8, value)]
    head = _ARRAY_HEAD.pack(1, 0, _OID_OF_NUMBER[bits], len(values), 1)
    try:
        return head + Struct(f"!{len(values) * ('ii' if bits == 32 else 'iq')}").pack(*sized)
    except error as exc:
        raise psycopg.DataError(f"out of range: {exc}") from exc


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
