"""Bringing a database to this release's schema, and telling whether it is there.

The migrations travel inside the wheel, so that a machine where only that is installed can migrate.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from archiver.errors import ArchiverError
from archiver.store.schema import SCHEMA

# In a wheel the migrations lie in the package; in a checkout, beside it.
_PLACES = (
    Path(__file__).parent.parent / "_migrations",
    Path(__file__).parent.parent.parent / "migrations",
)

ONE_AT_A_TIME = 0x61726368  # "arch": the advisory lock under which a database is migrated


class SchemaMismatch(ArchiverError):
    """The database is not at the schema that this release works with."""


async def migrate(engine: AsyncEngine) -> tuple[str | None, str]:
    """Bring the database to this release's schema; safe to repeat, and to run twice at once.

    Returns the revision before (None: the database was empty) and after.

    Raises:
        SchemaMismatch: a newer release has migrated the database.
    """
    async with engine.connect() as connection:
        key = {"key": ONE_AT_A_TIME}
        await connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
        try:
            before = await connection.run_sync(_current)
            _refuse_newer(before)
            await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            await connection.commit()
            await connection.run_sync(_upgrade)
            await connection.commit()
        finally:
            await connection.rollback()
            await connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
        return before, latest()


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
