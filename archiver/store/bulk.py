"""Many rows at once: COPY for new ones, arrays for keys.

COPY in text form: Postgres reads each value as its column's type, so that JSON, arrays and ranges
go in as their text and nothing is encoded twice.
"""

from collections.abc import Iterable, Sequence

import psycopg
from sqlalchemy import BigInteger, Integer, Table, TableValuedAlias, bindparam, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

Key = tuple[int, int]
"""A flow's key and an id in that flow."""


async def copy(
    tx: AsyncConnection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Copy *rows*, each in the order of *columns*, into *table*.

    Raises:
        psycopg.Error: Postgres refused a row, or the connection broke; nothing is copied then.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    raw = await tx.get_raw_connection()
    connection = raw.driver_connection
    if not isinstance(connection, psycopg.AsyncConnection):
        raise TypeError("COPY needs a connection of psycopg's")
    try:
        async with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {table.fullname} ({names}) FROM STDIN") as target,
        ):
            for row in rows:
                await target.write_row(row)
    except psycopg.Error:
        if connection.broken:
            await tx.invalidate()
        raise


def keys_of(keys: Iterable[Key]) -> dict[str, list[int]]:
    """The parameters of `key_table`."""
    flow_keys, ids = [], []
    for flow_key, id_ in keys:
        flow_keys.append(flow_key)
        ids.append(id_)
    return {"flow_keys": flow_keys, "ids": ids}


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
