"""Connections and transactions, and what the errors of Postgres mean.

Errors are classified by their SQLSTATE, since the driver's exception classes mislead: a row that
Postgres refuses may raise an operational error, and a server that became a standby an internal one.
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
"""Raised by a PL/pgSQL function. We have none, so a trigger that somebody added refuses a row."""

# Not class 23, constraint violations: under the lock of its flow, no input can cause one.
REFUSED_VALUE = frozenset({"22", "54", RAISED})
SERVER_AWAY = frozenset({"08", "40", "53", "55", "57", "58"})
READ_ONLY = "25006"
LIMITED = "53400"
"""A limit set for the session was reached, such as ``temp_file_limit``; a new session may have
other settings."""
LOCK_NOT_AVAILABLE = "55P03"
"""Another transaction held a lock for longer than `lock_timeout`."""
FORBIDDEN = "42501"
"""The role lacks the privilege."""
CANCELED = "57014"
"""The statement was cancelled, by somebody who may or because of `statement_timeout`."""
TOOK_TOO_LONG = frozenset({"25P03", "25P04"})
"""The server ended a session that was idle in a transaction for too long, or whose transaction
exceeded `transaction_timeout`, which we disable where no pooler is in between."""

LARGE_BYTES = 1_000_000
"""A value larger than this is large: libpq never shrinks a connection's buffers, so a connection
that carried one is closed."""
IS_LARGE = "carried a large value"


class Fault(Enum):
    """Whose fault a database error is, which decides what to do about it."""

    ROW = "row"
    """Postgres refuses a value: find the row, set it aside, and write the others."""
    SERVER = "server"
    """The server is away, overloaded, full or read-only: try again until it is back."""
    OURS = "ours"
    """A statement is wrong, or a privilege is missing: stop."""


DatabaseError = (DBAPIError, psycopg.Error, UnicodeError)
"""What a statement may raise: through SQLAlchemy, or through psycopg where it is used directly."""


OnError = Callable[[Fault, str], None]
"""Called on a database error, with whose fault it is and the SQLSTATE (empty if there is none)."""


def create_engine(
    url: str,
    *,
    pool_size: int = 5,
    standstill_seconds: float | None = None,
    key: str | None = None,
) -> Engine:
    """An engine with at most *pool_size* connections; none is opened yet.

    The name of its sessions is ``archiver`` and *key*, so that others can tell whose they are.

    If this process stops inside a transaction for *standstill_seconds*, as when it is suspended,
    the server ends the session, so that nobody else waits for its locks.
    """
    key = key or str(uuid4())
    engine = create_async_engine(
        parsed(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=None,  # a slow database slows us down, but waiting for it is no error
        pool_pre_ping=False,
        pool_reset_on_return=None,  # `_reset` does it
        hide_parameters=True,  # chat must not reach logs through error texts
        connect_args={
            "application_name": f"{APPLICATION} {key}",
            "connect_timeout": 10,
            # Whatever the encoding of the database: with some, drivers return bytes.
            "client_encoding": "UTF8",
            # Notice within a minute that the server is silent, as behind a firewall that drops.
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
    begun: dict[int, float] = {}
    return engine.execution_options(history=history, key=key, connections=pool_size, begun=begun)


def _rolled_back(tx: Connection, *_savepoint: object) -> None:
    if not tx.invalidated:  # an invalidated one has no connection any more
        forget(tx.info)


def _reset(connection: DBAPIConnection, record: ConnectionPoolEntry, state: PoolResetState) -> None:
    """Roll back a transaction that was left open; psycopg's own check for one is slow."""
    ours = record.driver_connection
    if state.asyncio_safe and isinstance(ours, psycopg.AsyncConnection) and _has_begun(ours):
        connection.rollback()
        forget(record.info)


def _has_begun(connection: psycopg.AsyncConnection) -> bool:
    return connection.pgconn.transaction_status != TransactionStatus.IDLE


def key_of(engine: Engine) -> str:
    """The key in the name of the sessions of *engine*."""
    return str(engine.get_execution_options()["key"])


def connections_of(engine: Engine) -> int:
    """The most connections that *engine* opens."""
    return int(engine.get_execution_options()["connections"])


def longest_seconds(engine: Engine) -> float:
    """How long the oldest `transaction` of *engine* that is under way has lasted; 0 if none is."""
    now = asyncio.get_running_loop().time()
    return max((now - begun for begun in _begun(engine).values()), default=0.0)


def _begun(engine: Engine) -> dict[int, float]:
    """When each transaction of *engine* that is under way began, on the event loop's clock."""
    begun: dict[int, float] = engine.get_execution_options()["begun"]
    return begun


def beside(engine: Engine) -> Engine:
    """A second engine for the same database, with one connection of its own.

    So its user never waits for a free connection of *engine*.
    """
    url = engine.url.render_as_string(hide_password=False)
    return create_engine(url, pool_size=1, key=key_of(engine))


@asynccontextmanager
async def connect(
    url: str, *, pool_size: int = 5, standstill_seconds: float | None = None
) -> AsyncIterator[Engine]:
    """An engine from `create_engine` that has reached the database; disposed of at the end.

    Raises:
        DatabaseUnreachable: no connection could be made; the message says why.
        UrlRefused: *url* cannot be used with any server.
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
    """*engine*, which also calls *on_error* for each transaction that a database error ends."""
    return engine.execution_options(on_error=on_error)


@asynccontextmanager
async def transaction(engine: Engine) -> AsyncIterator[Transaction]:
    """A transaction that is committed at the end of the block, or rolled back if the block raises.

    Whoever sends the first statement begins it, so that BEGIN costs no round trip of its own.

    If the task is cancelled inside the block, the block raises CancelledError, whatever error the
    interrupted statement raised. Its connection is in an unknown state then, and is closed; the
    same holds if a signal interrupts the block. Also closed is a connection that `carried` a large
    value, since it would never release the memory, and one whose session is read-only or has
    reached a limit of its own.
    """
    task = asyncio.current_task()
    # May be above 0 already: a task group that failed while it was awaited leaves one (3.11).
    cancellations = task.cancelling() if task else 0
    try:
        tx = await engine.connect()
        begun = _begun(engine)
        begun[id(tx)] = asyncio.get_running_loop().time()
        try:
            connection = driver_of(tx)
            yield tx
            _require_still(tx, connection)
            # Not at the beginning: the isolation level must be set before any query.
            await check_history(tx, engine.get_execution_options().get("history"))
            await _commit(tx)
            if tx.info.get(IS_LARGE):
                await tx.invalidate()
                give_back()
        except BaseException as error:
            # Cancellation may have been requested before the error came here, as by Ctrl-C.
            is_cancelled = isinstance(error, asyncio.CancelledError) or (
                task is not None and task.cancelling() > cancellations
            )
            # The handler of a signal may raise anywhere, also while a statement is under way.
            is_interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
            # Settings of the database or role, as read-only or a limit, last as long as a session.
            is_lost = is_cancelled or is_interrupted or sqlstate(error) in {READ_ONLY, LIMITED}
            await asyncio.shield(_give_up(tx, is_lost=is_lost))
            if is_cancelled:
                raise asyncio.CancelledError from None
            raise
        finally:
            del begun[id(tx)]
        await tx.close()  # leaving an `async with` starts a task, which takes twice as long
    except DatabaseError as error:
        on_error: OnError | None = engine.get_execution_options().get("on_error")
        if on_error is not None:
            on_error(fault(error), sqlstate(error))
        raise


async def see_one_moment(tx: Transaction) -> None:
    """Make this transaction read-only, with one snapshot of the database for all its statements."""
    await tx.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


async def keep_from_log(tx: Transaction) -> None:
    """Have the server log no values of the statements of *tx*, as far as the user may decide that.

    It is for a superuser to decide, or for whoever was granted it.
    """
    await tx.execute(_KEEP_FROM_LOG)


def _require_still(tx: Transaction, connection: psycopg.AsyncConnection) -> None:
    """Refuse to go on if *tx* has lost *connection*, since what was done on that is lost too.

    Raises:
        psycopg.OperationalError: the connection broke, and the error was ignored.
    """
    if tx.invalidated or driver_of(tx) is not connection:
        raise psycopg.OperationalError("the connection broke, and that was ignored")


async def _commit(tx: Transaction) -> None:
    """Commit what SQLAlchemy, or psycopg used directly, began, unless `pipelining` has done so."""
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
    """Note that texts of these lengths were sent to the server, or received from it."""
    if max(lengths, default=0) > LARGE_BYTES:
        tx.info[IS_LARGE] = True


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of *error*; empty if it did not come from the server."""
    return getattr(_cause(error), "sqlstate", None) or ""


def fault(error: DBAPIError | psycopg.Error | UnicodeError) -> Fault:
    """Tell whose fault *error* is, by its SQLSTATE (PostgreSQL documentation, appendix A)."""
    cause: BaseException | None = error
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return Fault.SERVER
        cause = error.orig
    state = getattr(cause, "sqlstate", None)
    if state is None:
        # Not from the server: the connection broke, or the client could not encode a value.
        unencodable = isinstance(cause, psycopg.DataError | UnicodeError)
        return Fault.ROW if unencodable else Fault.SERVER
    if state[:2] in REFUSED_VALUE:
        return Fault.ROW
    if state[:2] in SERVER_AWAY or state in {READ_ONLY, *TOOK_TOO_LONG}:
        return Fault.SERVER
    return Fault.OURS


def first_line(error: BaseException) -> str:
    """The first line of the text of *error*; the lines below may quote values of rows."""
    return str(_cause(error)).strip().partition("\n")[0]


def _cause(error: BaseException) -> BaseException:
    """The driver's exception, if *error* wraps one; otherwise *error* itself."""
    return getattr(error, "orig", None) or error


_KEEP_FROM_LOG = text("""
    SELECT set_config(name, value, true)
    FROM (VALUES ('log_parameter_max_length', '0'), ('log_parameter_max_length_on_error', '0'),
                 ('auto_explain.log_min_duration', '-1')) AS silent (name, value)
    JOIN pg_settings AS known USING (name)
    WHERE known.context = 'user' OR has_parameter_privilege(name, 'SET')
""")
