"""Connections to Postgres, and what its errors mean.

An error is classed by its SQLSTATE, since the classes that drivers raise mislead: a row that
Postgres refuses may come as an operational error, a server turned standby as an internal one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from uuid import uuid4

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

from archiver.memory import give_back
from archiver.store.address import DatabaseUnreachable, UrlRefused, parsed
from archiver.store.connection import Engine, Transaction, driver, driver_of
from archiver.store.pipelining import forget
from archiver.store.sessions import APPLICATION, DatabaseHistory, begin_session, check_history

RAISED = "P0"
"""By a function, and none of ours does: somebody has added a trigger, which refuses a row."""

# Not 23, a violated constraint: under the lock of its flow no foreign value can violate one.
REFUSED_VALUE = frozenset({"22", "54", RAISED})
SERVER_AWAY = frozenset({"08", "40", "53", "55", "57", "58"})
READ_ONLY = "25006"
LIMITED = "53400"
"""The settings of the session allow no more, as ``temp_file_limit``; a new one may have others."""
FORBIDDEN = "42501"
"""The role has no right to what it asked for."""
CANCELED = "57014"
"""By whoever may, or since it took longer than `statement_timeout`."""
TOOK_TOO_LONG = frozenset({"25P03", "25P04"})
"""The server ended a session that did nothing inside a transaction for too long, or whose
transaction took too long by `transaction_timeout`, which we lift where no pooler is in between."""

LARGE_BYTES = 1_000_000
"""Of one value. What libpq once made room for, a connection holds as long as it lives."""
IS_LARGE = "carried a large value"


class Fault(Enum):
    """Whose fault a database error is, and so what to do about it."""

    ROW = "row"
    """Postgres refuses what a row holds: find the row, set it aside, keep the rest."""
    SERVER = "server"
    """The server is away, overloaded, full or read-only: try again until it is back."""
    OURS = "ours"
    """A statement or a right is wrong: stop."""


DatabaseError = (DBAPIError, psycopg.Error, UnicodeError)
"""What a statement may raise: SQLAlchemy, or psycopg, where it is handed over past that."""


OnError = Callable[[Fault, str], None]
"""Told of an error of the database: whose fault it is, and its SQLSTATE, if the server gave one."""


def create_engine(
    url: str,
    *,
    pool_size: int = 5,
    standstill_seconds: float | None = None,
    key: str | None = None,
) -> Engine:
    """An engine of at most *pool_size* connections; nothing is connected yet.

    Its sessions are called ``archiver`` and *key*, by which others can tell whose they are.

    If this process stands still inside a transaction for *standstill_seconds*, the server ends the
    session, so that nobody else waits for its locks.
    """
    key = key or str(uuid4())
    engine = create_async_engine(
        parsed(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=None,  # a slow database slows us down; who waits for a connection waits on
        pool_pre_ping=False,
        pool_reset_on_return=None,  # `_reset` does it
        hide_parameters=True,  # chat must not reach logs through error texts
        connect_args={
            "application_name": f"{APPLICATION} {key}",
            "connect_timeout": 10,
            "client_encoding": "UTF8",  # whatever the database says: drivers give bytes for some
            # A server that falls silent, as behind a firewall that drops, is noticed in a minute.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
        },
    )

    history = DatabaseHistory()
    begin = partial(begin_session, history=history, standstill_seconds=standstill_seconds)
    event.listen(engine.sync_engine, "connect", lambda it, _record: it.run_async(begin))
    event.listen(engine.sync_engine, "reset", _reset)
    for name in ("rollback", "rollback_savepoint"):
        event.listen(engine.sync_engine, name, _rolled_back)
    return engine.execution_options(history=history, key=key, connections=pool_size)


def _rolled_back(tx: Connection, *_savepoint: object) -> None:
    if not tx.invalidated:  # else it has no connection any more
        forget(tx.info)


def _reset(connection: DBAPIConnection, record: ConnectionPoolEntry, state: PoolResetState) -> None:
    """Roll back what a connection was left with; if nothing, psycopg takes long to say so."""
    ours = record.driver_connection
    if state.asyncio_safe and isinstance(ours, psycopg.AsyncConnection) and _has_begun(ours):
        connection.rollback()
        forget(record.info)


def _has_begun(connection: psycopg.AsyncConnection) -> bool:
    return connection.pgconn.transaction_status != TransactionStatus.IDLE


def key_of(engine: Engine) -> str:
    """What the sessions of *engine* have in their name."""
    return str(engine.get_execution_options()["key"])


def connections_of(engine: Engine) -> int:
    """How many connections *engine* has at most."""
    return int(engine.get_execution_options()["connections"])


def beside(engine: Engine) -> Engine:
    """An engine of one connection to the same database, which never waits for those of *engine*."""
    url = engine.url.render_as_string(hide_password=False)
    return create_engine(url, pool_size=1, key=key_of(engine))


@asynccontextmanager
async def connect(
    url: str, *, pool_size: int = 5, standstill_seconds: float | None = None
) -> AsyncIterator[Engine]:
    """An engine that has been seen to work, as of `create_engine`; disposed of at the end.

    Raises:
        DatabaseUnreachable: no connection could be made; the reason is in the text.
        UrlRefused: *url* cannot be used, whatever the server.
    """
    try:
        engine = create_engine(url, pool_size=pool_size, standstill_seconds=standstill_seconds)
    except ArgumentError as exc:
        raise UrlRefused(first_line(exc)) from exc
    try:
        try:
            async with engine.connect() as tx:
                await tx.execute(text("SELECT 1"))
        except (OperationalError, InterfaceError) as exc:
            raise DatabaseUnreachable(engine.url, first_line(exc)) from exc
        except ProgrammingError as exc:
            raise UrlRefused(first_line(exc)) from exc
        yield engine
    finally:
        await engine.dispose()


def telling(engine: Engine, on_error: OnError) -> Engine:
    """*engine*, of which each transaction that fails is told to *on_error* as well."""
    return engine.execution_options(on_error=on_error)


@asynccontextmanager
async def transaction(engine: Engine) -> AsyncIterator[Transaction]:
    """A transaction that is committed at the end of the block, or rolled back if it raises.

    It begins with the first statement, as whoever sends that begins it; so nothing is paid twice.

    Who is cancelled inside leaves as cancelled, whatever the database says of a statement that was
    cut off; the connection is in no known state then, and is thrown away. So is one that `carried`
    a large value, for it would never give back the memory, and one that is read-only or came to a
    limit of its own.
    """
    task = asyncio.current_task()
    # Not none always: a task group that failed while it was waited for leaves one behind (3.11).
    cancellations = task.cancelling() if task else 0
    try:
        tx = await engine.connect()
        try:
            connection = driver_of(tx)
            yield tx
            _require_still(tx, connection)
            # Not first: how a transaction is isolated must be said before all else.
            await check_history(tx, engine.get_execution_options().get("history"))
            await _commit(tx)
            if tx.info.get(IS_LARGE):
                await tx.invalidate()
                give_back()
        except BaseException as error:
            # It may have been asked to before it came here, as by Ctrl-C in between.
            is_cancelled = isinstance(error, asyncio.CancelledError) or (
                task is not None and task.cancelling() > cancellations
            )
            # A session that began while a database or a role was read-only, or limited, stays so.
            is_lost = is_cancelled or sqlstate(error) in {READ_ONLY, LIMITED}
            await asyncio.shield(_give_up(tx, is_lost=is_lost))
            if is_cancelled:
                raise asyncio.CancelledError from None
            raise
        await tx.close()  # by a task, as at the end of a block of its own, it takes twice as long
    except DatabaseError as error:
        on_error: OnError | None = engine.get_execution_options().get("on_error")
        if on_error is not None:
            on_error(fault(error), sqlstate(error))
        raise


async def see_one_moment(tx: Transaction) -> None:
    """Let this transaction see one moment of the database, and change nothing."""
    await tx.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


def _require_still(tx: Transaction, connection: psycopg.AsyncConnection) -> None:
    """Refuse to go on if *tx* is not on *connection* any more: what was done there is lost.

    Raises:
        psycopg.OperationalError: it broke, and whoever was told of it ignored that.
    """
    if tx.invalidated or driver_of(tx) is not connection:
        raise psycopg.OperationalError("the connection broke, and that was ignored")


async def _commit(tx: Transaction) -> None:
    """Commit what was begun, by SQLAlchemy or past it; `pipelining` may have done so already."""
    if tx.in_transaction():
        await tx.commit()
    elif _has_begun(driver_of(tx)):
        async with driver(tx) as connection:
            await connection.commit()


async def _give_up(tx: Transaction, *, is_lost: bool) -> None:
    if is_lost:
        await tx.invalidate()
    await tx.close()


def carried(tx: Transaction, lengths: Iterable[int]) -> None:
    """Note that texts of these lengths went to the server, or came from it."""
    if max(lengths, default=0) > LARGE_BYTES:
        tx.info[IS_LARGE] = True


def sqlstate(error: BaseException) -> str:
    """What the server calls *error*; empty when it was not the server that raised it."""
    return getattr(_cause(error), "sqlstate", None) or ""


def fault(error: DBAPIError | psycopg.Error | UnicodeError) -> Fault:
    """Tell whose fault *error* is, by its SQLSTATE (PostgreSQL's appendix A)."""
    cause: BaseException | None = error
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return Fault.SERVER
        cause = error.orig
    state = getattr(cause, "sqlstate", None)
    if state is None:
        # No answer of the server's: the connection broke, or the client could not encode a value.
        unencodable = isinstance(cause, psycopg.DataError | UnicodeError)
        return Fault.ROW if unencodable else Fault.SERVER
    if state[:2] in REFUSED_VALUE:
        return Fault.ROW
    if state[:2] in SERVER_AWAY or state in {READ_ONLY, *TOOK_TOO_LONG}:
        return Fault.SERVER
    return Fault.OURS


def first_line(error: BaseException) -> str:
    """What *error* says, without the values that Postgres tells of in the lines below."""
    return str(_cause(error)).strip().partition("\n")[0]


def _cause(error: BaseException) -> BaseException:
    """What the driver raised, if SQLAlchemy has wrapped it; else *error* itself."""
    return getattr(error, "orig", None) or error
