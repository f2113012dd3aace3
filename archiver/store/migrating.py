"""Bringing a database to this release's schema, and telling whether it is there.

The migrations travel inside the wheel, so that a machine where only that is installed can migrate.

Whoever waits for the lock of a table makes all others wait behind it. So a migration waits for no
longer than `LOCK_SECONDS`, gives up, lets the others pass, and tries again: a dump that reads for
an hour delays the migration, and nobody else. Each is a transaction, and what is done stays done.
"""

import asyncio
import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from archiver.errors import ArchiverError
from archiver.store import granting
from archiver.store.schema import SCHEMA
from archiver.store.sessions import is_pooled

log = logging.getLogger(__name__)

# In a wheel the migrations lie in the package; in a checkout, beside it.
_PLACES = (
    Path(__file__).parent.parent / "_migrations",
    Path(__file__).parent.parent.parent / "migrations",
)

ONE_AT_A_TIME = 0x61726368  # "arch": the advisory lock under which a database is migrated
PAUSE_SECONDS = 0.1

LOCK_SECONDS = 0.5
LET_PASS_SECONDS = 1.0
LOCK_NOT_AVAILABLE = "55P03"


class SchemaMismatch(ArchiverError):
    """The database is not at the schema that this release works with."""


class PoolerBetween(ArchiverError):
    """A migration holds a lock beyond transactions, which no pooler lets it."""

    def __init__(self) -> None:
        super().__init__(
            "the database is behind a pooler, and a migration must reach it directly: "
            "run archiver migrate with ARCHIVER_DATABASE_URL set to the PostgreSQL server itself"
        )


async def migrate(engine: AsyncEngine) -> tuple[str | None, str]:
    """Bring the database to this release's schema; safe to repeat, and to run twice at once.

    Roles that have rights on the archive get theirs on what is new. Returns the revision before
    (None: the database was empty) and after.

    Raises:
        SchemaMismatch: a newer release has migrated the database.
        PoolerBetween: the URL leads to a pooler.
    """
    async with engine.connect() as connection:
        if is_pooled(connection):
            raise PoolerBetween
        await _take_turn(connection)
        try:
            before = await connection.run_sync(_current)
            _refuse_newer(before)
            if before != latest():
                await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
                await connection.commit()
                await _upgrade_between_others(connection)
            await connection.commit()
        finally:
            await connection.rollback()
            await connection.execute(text("RESET lock_timeout"))
            key = {"key": ONE_AT_A_TIME}
            await connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
            await connection.commit()
        return before, latest()


async def _upgrade_between_others(connection: AsyncConnection) -> None:
    """Migrate, a lock at a time, in moments when nobody holds it for long."""
    attempt = 1
    while True:
        await connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
        await connection.commit()
        try:
            await connection.run_sync(_upgrade)
            await granting.renew(connection)
        except DBAPIError as error:
            await connection.rollback()
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
        else:
            return
        log.warning("a migration waits for others to end what they do", extra={"attempt": attempt})
        attempt += 1
        await asyncio.sleep(LET_PASS_SECONDS)


async def _take_turn(connection: AsyncConnection) -> None:
    """Wait until nobody else migrates this database.

    Without waiting inside a statement: an index that is made beside the writers waits for all
    statements that began before, and the two would wait for each other.
    """
    statement, key = text("SELECT pg_try_advisory_lock(:key)"), {"key": ONE_AT_A_TIME}
    while not (await connection.execute(statement, key)).scalar_one():
        await connection.commit()
        await asyncio.sleep(PAUSE_SECONDS)
    await connection.commit()


async def check_schema(engine: AsyncEngine) -> None:
    """Make sure that the database is at this release's schema.

    Raises:
        SchemaMismatch: it is not; the text says what to do.
    """
    async with engine.connect() as connection:
        current = await connection.run_sync(_current)
    _refuse_newer(current)
    if current is None:
        raise SchemaMismatch("the database has no archive yet; run: archiver migrate")
    if current != latest():
        raise SchemaMismatch(
            f"the database is at schema {current}, this release needs {latest()}; "
            "run: archiver migrate"
        )


def latest() -> str:
    """The revision that this release works with."""
    revision = _scripts().get_current_head()
    if revision is None:
        raise ArchiverError("no migrations were found beside the package: reinstall it")
    return revision


def _refuse_newer(current: str | None) -> None:
    known = {script.revision for script in _scripts().walk_revisions()}
    if current is not None and current not in known:
        raise SchemaMismatch(
            f"the database is at schema {current}, which this release does not know; "
            "install the release that migrated it, or a newer one"
        )


def _current(connection: Connection) -> str | None:
    if connection.execute(_MAY_USE).scalar() is False:
        # A reader sees the views alone.
        version = connection.execute(text("SELECT version FROM archive.schema_version"))
        return str(version.scalar_one())
    options = {"version_table": "schema_version", "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    place = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
    config = Config()
    config.set_main_option("script_location", str(place).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


_MAY_USE = text(
    "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'store'"
)
