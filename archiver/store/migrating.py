"""Migrating a database to this release's schema; `archiver.store.revision` checks which it has.

The wheel contains the migrations, so that a machine where only that is installed can migrate.

A session that waits for the lock of a table makes all later ones wait behind it. So a migration
waits for at most `LOCK_SECONDS`, gives up, lets the others pass, and tries again. A dump that reads
for an hour thus delays the migration and nobody else. Each migration is a transaction of its own,
so those that are done stay done.
"""

import asyncio
import logging
import math
from collections.abc import Collection
from contextlib import suppress

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.util import await_only

from archiver.errors import ArchiverError
from archiver.store import granting, search_parts
from archiver.store.connection import Engine, Transaction
from archiver.store.engine import LOCK_NOT_AVAILABLE, sqlstate
from archiver.store.revision import current, latest, migrations, refuse_newer
from archiver.store.schema import SCHEMA
from archiver.store.sessions import OURS, is_pooled

log = logging.getLogger(__name__)

ONE_AT_A_TIME = 0x61726368  # "arch": the advisory lock under which a database is migrated
PAUSE_SECONDS = 0.1
NOTICE_SECONDS = 3.0

LOCK_SECONDS = 0.5
LET_PASS_SECONDS = 1.0


class PoolerBetween(ArchiverError):
    """A migration holds a lock across transactions, which is not possible behind a pooler."""

    def __init__(self) -> None:
        super().__init__(
            "a migration cannot run through a pooler: "
            "run archiver migrate with ARCHIVER_DATABASE_URL set to the PostgreSQL server itself"
        )


class NoPlaceForAnArchive(ArchiverError):
    """No archive can be created in this database; the message says why, and what to do."""


async def migrate(engine: Engine) -> tuple[str | None, str]:
    """Migrate the database to this release's schema; safe to repeat, and to run twice at once.

    Roles that have privileges on the archive get those on what is new. The index for which the
    server lacked an extension is created once the server has it. Returns the revision before (None
    if the database was empty) and after.

    Raises:
        SchemaMismatch: a newer release has migrated the database.
        PoolerBetween: the URL leads to a pooler.
        NoPlaceForAnArchive: the encoding cannot hold what people write, or schemas that are not
            ours have our names.
    """
    async with engine.connect() as connection:
        if is_pooled(connection):
            raise PoolerBetween
        await _take_turn(connection)
        try:
            before = await current(connection)
            refuse_newer(before)
            await _require_place(connection, is_new=before is None)
            if before != latest():
                await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            if before != latest() or await search_parts.is_missing(connection):
                await connection.commit()
                await _upgrade_and_tell(engine, connection)
            await connection.commit()
        except BaseException:
            # Closing the session releases its lock and settings. Statements that do so might fail,
            # and hide the reason.
            await connection.invalidate()
            raise
        await connection.execute(text(f"SET lock_timeout = {OURS['lock_timeout']}"))
        await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ONE_AT_A_TIME})
        await connection.commit()
        return before, latest()


async def _require_place(connection: Transaction, *, is_new: bool) -> None:
    found = (await connection.execute(_PLACE, {"schema": SCHEMA})).one()
    if found.encoding != "UTF8":
        raise NoPlaceForAnArchive(
            f"the database {found.name} has the encoding {found.encoding}, which cannot hold all "
            "characters: create one with ENCODING 'UTF8' and TEMPLATE template0, and set "
            "ARCHIVER_DATABASE_URL to it"
        )
    if is_new and found.strange:
        raise NoPlaceForAnArchive(
            f"the database {found.name} has a schema {' and one '.join(found.strange)} already, "
            "which is not the archiver's: set ARCHIVER_DATABASE_URL to a database of its own"
        )


# An empty schema is accepted: somebody may have created it for us, or downgraded to before the
# first migration.
_PLACE = text("""
    SELECT current_database()::text AS name, current_setting('server_encoding') AS encoding,
           ARRAY(SELECT nspname::text FROM pg_namespace AS schema
                 WHERE nspname = 'archive' OR nspname = :schema
                   AND EXISTS (SELECT FROM pg_class WHERE relnamespace = schema.oid
                               AND NOT starts_with(relname, 'schema_version'))
                 ORDER BY 1) AS strange
""")


async def _upgrade_and_tell(engine: Engine, connection: Transaction) -> None:
    pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    await connection.commit()
    try:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_tell_who_is_waited_for(engine, pid))
            await _upgrade_between_others(connection)
            telling.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _tell_who_is_waited_for(engine: Engine, pid: int) -> None:
    """Log, once each, the sessions that the session *pid* waits for.

    An index that is created concurrently waits for all transactions that began before. While the
    database accepts no further connection, nothing can be found out or logged.
    """
    known = set[int]()
    while True:
        await asyncio.sleep(NOTICE_SECONDS)
        with suppress(DBAPIError):
            async with engine.connect() as connection:
                holders = (await connection.execute(_HOLDERS, {"waits": pid})).mappings().all()
            for holder in holders:
                if holder["pid"] not in known:
                    log.warning(
                        "the migration waits for a transaction that began earlier",
                        extra=dict(holder),
                    )
            known |= {holder["pid"] for holder in holders}


# The session that runs this query is waited for too, for that moment, and is left out.
_HOLDERS = text("""
    SELECT usename AS "user", pid, application_name AS program
    FROM pg_stat_activity
    WHERE pid = ANY (pg_blocking_pids(:waits)) AND pid <> pg_backend_pid()
""")


async def _upgrade_between_others(connection: Transaction) -> None:
    """Migrate, trying again after a pause whenever a lock is not granted soon."""
    attempt = 1
    while True:
        await connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
        await connection.commit()
        try:
            await connection.run_sync(_upgrade, connection)
            if await search_parts.is_missing(connection):
                await search_parts.make(connection)
            await connection.commit()
        except DBAPIError as error:
            await connection.rollback()
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
        else:
            return
        log.warning("the migration waits for a lock, trying again", extra={"attempt": attempt})
        attempt += 1
        await asyncio.sleep(LET_PASS_SECONDS)


async def _take_turn(connection: Transaction) -> None:
    """Wait until nobody else migrates this database.

    It polls, instead of waiting inside a statement: the other one may be creating an index
    concurrently, which waits for all statements that began before, so the two would deadlock.
    """
    statement, key = text("SELECT pg_try_advisory_lock(:key)"), {"key": ONE_AT_A_TIME}
    tell_at = asyncio.get_running_loop().time() + NOTICE_SECONDS
    while not (await connection.execute(statement, key)).scalar_one():
        await connection.commit()
        if asyncio.get_running_loop().time() >= tell_at:
            holder = (await connection.execute(_HOLDER, key)).mappings().first()
            log.warning("waiting for another migration to end", extra=dict(holder or {}))
            tell_at = math.inf
        await asyncio.sleep(PAUSE_SECONDS)
    await connection.commit()


# Any role may take any advisory lock, so the holder may be another program.
_HOLDER = text("""
    SELECT usename AS "user", pid, application_name AS program
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND (classid, objid, objsubid) = (0, :key, 1)
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")


def _upgrade(connection: Connection, tx: Transaction) -> None:
    """Migrate on *connection*, which is that of *tx*.

    Privileges are granted in the transaction of the last migration.
    """

    def applied(*, heads: Collection[str], **_: object) -> None:
        # If granting came later and were interrupted, it would never be done: the schema would be
        # this release's already.
        if latest() in heads:
            await_only(granting.renew(tx))

    config = _config()
    config.attributes["connection"] = connection
    config.attributes["on_version_apply"] = applied
    try:
        command.upgrade(config, "head")
    except PendingRollbackError as hiding:
        # Alembic ends what it does outside a transaction with a commit. If the connection is lost,
        # that fails too, and hides the reason.
        why: BaseException = hiding
        while isinstance(why, PendingRollbackError) and why.__context__ is not None:
            why = why.__context__
        raise why from None


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    return config
