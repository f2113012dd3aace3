"""The types that the functions of `store` work on, and access to the psycopg connection below."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Engine = AsyncEngine
Transaction = AsyncConnection
"""A connection on which the first statement begins a transaction; most functions of `store` take
one."""


def driver_of(tx: Transaction) -> psycopg.AsyncConnection:
    """The psycopg connection of a transaction, to inspect it; to send statements, use `driver`."""
    # Not `get_raw_connection`, which starts a greenlet without need.
    connection = tx.sync_connection and tx.sync_connection.connection.driver_connection
    if not isinstance(connection, psycopg.AsyncConnection):
        raise TypeError("this needs a connection of psycopg's")
    return connection


@asynccontextmanager
async def driver(tx: Transaction) -> AsyncIterator[psycopg.AsyncConnection]:
    """The psycopg connection of a transaction, for what SQLAlchemy does not support."""
    connection = driver_of(tx)
    try:
        yield connection
    except psycopg.Error:
        if connection.broken:
            await tx.invalidate()
        raise
