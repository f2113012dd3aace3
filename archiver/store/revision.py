"""Checking that a database has this release's schema, as every command does.

This does not import `archiver.store.migrating`, which takes long to import. The name of a
migration's file begins with its revision, and the order of names is that of the migrations.
"""

from pathlib import Path

from sqlalchemy import text

from archiver.errors import ArchiverError
from archiver.store.connection import Engine, Transaction

# In a wheel the migrations are inside the package; in a checkout, beside it.
_PLACES = (
    Path(__file__).parent.parent / "_migrations",
    Path(__file__).parent.parent.parent / "migrations",
)


class SchemaMismatch(ArchiverError):
    """The database does not have the schema that this release needs."""


class ViewsOnly(ArchiverError):
    """The user may read the views and nothing else."""

    def __init__(self, user: str) -> None:
        super().__init__(
            f"the user {user!r} may only read the views, with archiver sql or any SQL client; for "
            "everything else, use another in ARCHIVER_DATABASE_URL, such as archiver_writer"
        )


async def check_schema(engine: Engine) -> None:
    """Make sure that the database has this release's schema.

    Raises:
        SchemaMismatch: it has not; the message says what to do.
    """
    async with engine.connect() as connection:
        found = await current(connection)
    refuse_newer(found)
    if found is None:
        raise SchemaMismatch("the database has no archive yet; run: archiver migrate")
    if found != latest():
        raise SchemaMismatch(
            f"the database is at schema {found}, but this release needs {latest()}; "
            "run: archiver migrate"
        )


async def require_tables(engine: Engine) -> None:
    """Make sure that the user may use the tables behind the views.

    Raises:
        ViewsOnly: it may not, as a reader; the message says what to do.
    """
    async with engine.connect() as connection:
        user, may_use = (await connection.execute(_USER)).one()
    if not may_use:
        raise ViewsOnly(user)


async def current(connection: Transaction) -> str | None:
    """The revision of the database; None if there is no archive in it."""
    # A reader sees only the views, so it is asked by a view.
    sees_views_alone = await connection.scalar(_MAY_USE) is False
    name, statement = _OF_VIEWS if sees_views_alone else _OF_TABLES
    if await connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
        return None
    version = await connection.scalar(statement)
    return None if version is None else str(version)


def refuse_newer(found: str | None) -> None:
    """Raise SchemaMismatch if *found* is the revision of a newer release."""
    if found is not None and found not in known():
        raise SchemaMismatch(
            f"the database is at schema {found}, which this release does not know; "
            "install the release that migrated it, or a newer one"
        )


def latest() -> str:
    """The revision that this release needs."""
    return known()[-1]


def known() -> list[str]:
    """The revisions that this release knows, in order."""
    files = (migrations() / "versions").glob("[0-9]*.py")
    revisions = sorted(file.name.partition("_")[0] for file in files)
    if not revisions:
        raise ArchiverError(
            "the migrations are missing from the installation: reinstall the package"
        )
    return revisions


def migrations() -> Path:
    """The directory of the migrations."""
    return next((place for place in _PLACES if place.is_dir()), _PLACES[0])


_USER = text("SELECT current_user, has_schema_privilege('store', 'USAGE')")
_MAY_USE = text(
    "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'store'"
)
_OF_VIEWS = ("archive.schema_version", text("SELECT version FROM archive.schema_version"))
_OF_TABLES = ("store.schema_version", text("SELECT version_num FROM store.schema_version"))
