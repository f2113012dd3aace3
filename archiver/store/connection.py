"""What the functions of `store` work on, and psycopg's own connection beneath it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Engine = AsyncEngine
Transaction = AsyncConnection
"""A connection on which the first statement begins one; what the functions of `store` work on."""


def driver_of(tx: Transaction) -> psycopg.AsyncConnection:
    """Psycopg's own connection of a transaction, to look at; to talk over it there is `driver`."""
    # Not `get_raw_connection`, which has a greenlet made for what needs none.
    connection = tx.sync_connection and tx.sync_connection.connection.driver_connection
    if not isinstance(connection, psycopg.AsyncConnection):
        raise TypeError("this needs a connection of psycopg's")
    return connection


@asynccontextmanager
async def driver(tx: Transaction) -> AsyncIterator[psycopg.AsyncConnection]:
    """Psycopg's own connection of a transaction, for what SQLAlchemy has no words for."""
    connection = driver_of(tx)
    try:
        yield connection
    except psycopg.Error:
        if connection.broken:
            await tx.invalidate()
        raise
