"""Many values at once: in binary format for new rows, JSON for changed rows, arrays for keys.

New rows are sent in Postgres' binary format (`archiver.store.rows`), which costs both sides a
fraction of what text costs. Most values need no conversion; the others are converted by `moment`,
`small`, `texts`, `numbers`, `tsvector` and `document`, or are given as bytes.

Statements that join keys with a table are written so that they must use its index, whatever the
planner's statistics say. Otherwise a plan made while the table was empty would be kept, and be
slow, for as long as the connection lives.
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
    """A value in the binary format of whatever type the server infers for it."""

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
"""The end of the string, and the number of its positions, which is 0."""
LEXEME_BYTES = 2**20 - 1
"""The most bytes that all lexemes of a ``tsvector`` may have together."""


PACKED: Mapping[type, Callable[[Any], bytes]] = {
    Integer: _INTEGER.pack,
    BigInteger: _BIGINT.pack,
    Boolean: Struct("!?").pack,
    DateTime: _BIGINT.pack,
    String: str.encode,
    Text: str.encode,
    JSON: str.encode,
}
"""By type: the function that converts a value to bytes. A time must be as `moment` returns it."""


def packer(column: TypeEngine[Any]) -> Callable[[Any], bytes]:
    """The function that converts values of a column's type to bytes; for others, `bytes` itself."""
    return PACKED.get(type(column), bytes)


def moment(at: datetime | None) -> int | None:
    """A time in the form that COPY takes: microseconds since 2000."""
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
    """An array of ``integer`` or ``bigint``, for COPY or as a parameter.

    Raises:
        psycopg.DataError: one of them is out of range.
    """
    return _numbers(values, oid=_OID_OF_NUMBER[bits], bits=bits)


def moments(values: Sequence[int]) -> Sent:
    """An array of ``timestamptz`` as a parameter; *values* are what `moment` returns."""
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
    """A number for a ``smallint`` column in COPY.

    Raises:
        psycopg.DataError: it is out of range; psycopg itself would truncate it.
    """
    try:
        return _SMALL.pack(number)
    except error:
        raise psycopg.DataError(f"{number} is out of range for smallint") from None


def texts(values: Sequence[str]) -> Sent:
    """An array of ``text``, for COPY or as a parameter."""
    return _array([value.encode() for value in values], oid=_OID_OF_TEXT)


def tsvector(found: Collection[bytes]) -> bytes:
    """A ``tsvector`` without positions, for COPY.

    Raises:
        psycopg.DataError: it is longer than Postgres allows.
    """
    packed = _LEXEME_END.join([*sorted(found), b""])
    if len(packed) - len(_LEXEME_END) * len(found) > LEXEME_BYTES:
        raise psycopg.DataError(f"{len(packed)} bytes are too many for a tsvector")
    return _INTEGER.pack(len(found)) + packed


def tsvectors(values: Sequence[bytes]) -> Sent:
    """An array of ``tsvector`` as a parameter; *values* are what `tsvector` returns."""
    return _array(values, oid=_OID_OF_LEXEMES)


def _array(values: Sequence[bytes], *, oid: int) -> Sent:
    if not values:
        return Sent(_NOTHING.pack(0, 0, oid))
    parts = [_ARRAY_HEAD.pack(1, 0, oid, len(values), 1)]
    for value in values:
        parts += (_INTEGER.pack(len(value)), value)
    return Sent(b"".join(parts))


def document(value: object) -> bytes | None:
    """A value for a ``jsonb`` column in COPY; None stands for null."""
    return None if value is None else b"\1" + msgspec.json.encode(value)


def records(rows: Sequence[object]) -> bytes:
    """Rows for ``json_populate_recordset``; their fields are named like the columns."""
    return msgspec.json.encode(rows)


def keys_of(keys: Iterable[Key]) -> dict[str, Sent]:
    """The parameters of `key_table`; psycopg's own arrays would cost ten times as much.

    Raises:
        psycopg.DataError: one of them is out of range.
    """
    flow_keys, ids = [], []
    for flow_key, id_ in keys:
        flow_keys.append(flow_key)
        ids.append(id_)
    return {"flow_keys": numbers(flow_keys, bits=32), "ids": numbers(ids, bits=64)}


def reached(table: Table, *found: ColumnElement[bool]) -> FromClause:
    """The rows of *table* that meet the conditions *found*, as a subquery for a lateral join."""
    # OFFSET keeps the planner from anything but a lookup in the index for each key.
    return select(table).where(*found).offset(0).lateral(f"its_{table.name}")


def key_table() -> TableValuedAlias:
    """Keys as a table ``asked(flow_key, id)`` to join with; `keys_of` gives its parameters."""
    return (
        func.unnest(
            cast(bindparam("flow_keys", type_=NullType()), ARRAY(Integer)),
            cast(bindparam("ids", type_=NullType()), ARRAY(BigInteger)),
        )
        .table_valued("flow_key", "id", name="asked")
        .render_derived()
    )
