"""Many values at once: binary ones for new rows, JSON for changed rows, arrays for keys.

New rows are given as that format wants them (`archiver.store.rows`), which costs both sides a
fraction of text: most values as they are, others by `moment`, `small`, `texts`, `numbers`,
`tsvector` and `document`, or as bytes.

Statements that join keys with a table reach into it through its index, whatever the planner knows
of the table: a plan made while it was empty would else stay, and be slow, as long as a connection.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from struct import Struct, error
from typing import Any, Literal

import msgspec
import psycopg
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    String,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import NullType, TypeEngine
from typing_extensions import override

Key = tuple[int, int]
"""A flow's key and an id in that flow."""


class Sent(bytes):
    """A value in the binary form of whatever type the server takes it for."""

    __slots__ = ()


class _SentDumper(Dumper):
    format = pq.Format.BINARY
    oid = 0

    @override
    def dump(self, obj: bytes) -> Buffer:
        return obj


psycopg.adapters.register_dumper(Sent, _SentDumper)

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_OID_OF_TEXT, _OID_OF_MOMENT, _OID_OF_LEXEMES = 25, 1184, 3614
_OID_OF_NUMBER = {32: 23, 64: 20}
_ARRAY_HEAD = Struct("!5i")
_NOTHING = Struct("!3i")
NO_TEXTS = Sent(_NOTHING.pack(0, 0, _OID_OF_TEXT))
_BIGINT = Struct("!q")
_INTEGER = Struct("!i")
_SMALL = Struct("!h")
_LEXEME_END = b"\0\0\0"
"""Of the string, and that it has no positions."""
LEXEME_BYTES = 2**20 - 1
"""That a ``tsvector`` may have in all."""


PACKED: Mapping[type, Callable[[Any], bytes]] = {
    Integer: _INTEGER.pack,
    BigInteger: _BIGINT.pack,
    Boolean: Struct("!?").pack,
    DateTime: _BIGINT.pack,
    String: str.encode,
    Text: str.encode,
    JSON: str.encode,
}
"""What makes the bytes of a value of a type; a time is what `moment` gives."""


def packer(column: TypeEngine[Any]) -> Callable[[Any], bytes]:
    """What makes the bytes of a value of a column's type; of others they are bytes already."""
    return PACKED.get(type(column), bytes)


def moment(at: datetime | None) -> int | None:
    """A time as COPY takes it: microseconds since 2000."""
    if at is None:
        return None
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def instant(at: datetime) -> bytes:
    """A time as a parameter."""
    return _BIGINT.pack(moment(at))


def integer(number: int) -> bytes:
    """An ``integer`` as a parameter.

    Raises:
        struct.error: it is out of range.
    """
    return _INTEGER.pack(number)


def bigint(number: int) -> bytes:
    """A ``bigint`` as a parameter.

    Raises:
        struct.error: it is out of range.
    """
    return _BIGINT.pack(number)


def numbers(values: Sequence[int], *, bits: Literal[32, 64]) -> Sent:
    """An array of ``integer`` or ``bigint``, as COPY takes it and as a parameter.

    Raises:
        psycopg.DataError: one of them is out of range.
    """
    return _numbers(values, oid=_OID_OF_NUMBER[bits], bits=bits)


def moments(values: Sequence[int]) -> Sent:
    """An array of ``timestamptz`` as a parameter, of what `moment` gives."""
    return _numbers(values, oid=_OID_OF_MOMENT, bits=64)


def _numbers(values: Sequence[int], *, oid: int, bits: int) -> Sent:
    if not values:
        return Sent(_NOTHING.pack(0, 0, oid))
    sized = [bits // 8] * (2 * len(values))
    sized[1::2] = values
    head = _ARRAY_HEAD.pack(1, 0, oid, len(values), 1)
    try:
        return Sent(head + Struct(f"!{('ii' if bits == 32 else 'iq') * len(values)}").pack(*sized))
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


def texts(values: Sequence[str]) -> Sent:
    """An array of text, as COPY takes it and as a parameter."""
    return _array([value.encode() for value in values], oid=_OID_OF_TEXT)


def tsvector(found: Collection[bytes]) -> bytes:
    """A ``tsvector`` without positions, as COPY takes it.

    Raises:
        psycopg.DataError: it would be longer than Postgres lets one be.
    """
    packed = _LEXEME_END.join([*sorted(found), b""])
    if len(packed) - len(_LEXEME_END) * len(found) > LEXEME_BYTES:
        raise psycopg.DataError(f"{len(packed)} bytes are too many for a tsvector")
    return _INTEGER.pack(len(found)) + packed


def tsvectors(values: Sequence[bytes]) -> Sent:
    """An array of ``tsvector`` as a parameter, of what `tsvector` gives."""
    return _array(values, oid=_OID_OF_LEXEMES)


def _array(values: Sequence[bytes], *, oid: int) -> Sent:
    if not values:
        return Sent(_NOTHING.pack(0, 0, oid))
    parts = [_ARRAY_HEAD.pack(1, 0, oid, len(values), 1)]
    for value in values:
        parts += (_INTEGER.pack(len(value)), value)
    return Sent(b"".join(parts))


def document(value: object) -> bytes | None:
    """A value as COPY takes it for a column of ``jsonb``; None stands for no value."""
    return None if value is None else b"\1" + msgspec.json.encode(value)


def records(rows: Sequence[object]) -> bytes:
    """Rows, as objects named like the columns, for ``json_populate_recordset``."""
    return msgspec.json.encode(rows)


def keys_of(keys: Iterable[Key]) -> dict[str, Sent]:
    """The parameters of `key_table`; arrays of psycopg's own cost ten times as much.

    Raises:
        psycopg.DataError: one of them is out of range.
    """
    flow_keys, ids = [], []
    for flow_key, id_ in keys:
        flow_keys.append(flow_key)
        ids.append(id_)
    return {"flow_keys": numbers(flow_keys, bits=32), "ids": numbers(ids, bits=64)}


def reached(table: Table, *found: ColumnElement[bool]) -> FromClause:
    """The rows of *table* that are *found* for each row before it, to join with laterally."""
    # OFFSET keeps the planner from making anything but a look into the index of it.
    return select(table).where(*found).offset(0).lateral(f"its_{table.name}")


def key_table() -> TableValuedAlias:
    """Keys as a table ``asked(flow_key, id)`` to join with; its parameters come of `keys_of`."""
    return (
        func.unnest(
            cast(bindparam("flow_keys", type_=NullType()), ARRAY(Integer)),
            cast(bindparam("ids", type_=NullType()), ARRAY(BigInteger)),
        )
        .table_valued("flow_key", "id", name="asked")
        .render_derived()
    )
