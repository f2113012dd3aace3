"""What kind of server the database is on, and whether we may write there."""

from datetime import datetime
from uuid import uuid4

from msgspec import Struct
from sqlalchemy import insert, text

from archiver.errors import ArchiverError
from archiver.store.connection import Engine, Transaction
from archiver.store.granting import WRITES
from archiver.store.schema import rejects
from archiver.store.sessions import is_pooled

PATIENCE_SECONDS = {"lock_timeout": 3, "statement_timeout": 10}
"""How long an attempt to write may wait, by the name of Postgres' setting."""


class TakesNoChanges(ArchiverError):
    """The database cannot be written to; the message says what to do."""


class Inspection(Struct, frozen=True, kw_only=True):
    """What was found out about a server and a database."""

    version: str
    version_number: int
    """150004 for 15.4."""
    database: str
    user: str
    is_superuser: bool
    encoding: str
    is_standby: bool
    is_read_only: bool
    """Whether it refuses changes, as a standby or for another reason."""
    encryption: str | None
    """The protocol, such as TLSv1.3; None if the connection is not encrypted."""
    is_pooled: bool
    """Whether a pooler is between us and the server."""
    at: datetime
    """The time by the server's clock."""
    database_bytes: int
    is_sorted_otherwise: bool
    """Whether texts sort otherwise now than when the indexes were made: then these are wrong."""


async def inspect(tx: Transaction) -> Inspection:
    """Ask the server about itself and the database."""
    row = (await tx.execute(_INSPECTION)).mappings().one()
    return Inspection(**row, is_pooled=is_pooled(tx))


async def require_changes(engine: Engine) -> None:
    """Make sure that the database can be written to, at least now.

    Raises:
        TakesNoChanges: it cannot; the message says what to do.
    """
    async with engine.connect() as tx:
        found = (await tx.execute(_CHANGES)).one()
    if found.is_read_only:
        advice = to_be_written(found.user, is_standby=found.is_standby)
        raise TakesNoChanges(f"the database {found.database} is read-only: {advice}")


def to_be_written(user: str, *, is_standby: bool) -> str:
    """What to do about a database that refuses changes by *user*."""
    if is_standby:
        return (
            "it is a standby; set ARCHIVER_DATABASE_URL to the primary, "
            "or with several hosts add target_session_attrs=read-write"
        )
    return (
        "default_transaction_read_only is on; turn it off for the database, "
        f"or use another user than {user} in ARCHIVER_DATABASE_URL"
    )


async def unwritable(tx: Transaction) -> list[str]:
    """Our tables on which the user lacks privileges that the daemon needs."""
    asked = {
        "names": [f"store.{table}" for table in WRITES],
        "rights": [f"SELECT,{rights}".rstrip(",") for rights in WRITES.values()],
    }
    return list((await tx.execute(_UNWRITABLE, asked)).scalars())


async def try_writing(tx: Transaction, raw: bytes, *, now: datetime) -> None:
    """Insert *raw* into the rejects, without waiting for long, and roll back."""
    for name, seconds in PATIENCE_SECONDS.items():
        await tx.execute(text(f"SET LOCAL {name} = '{seconds}s'"))
    tried = {
        "received_at": now,
        "origin": "check",
        "reason": "tried",
        "raw": raw,
        "digest": str(uuid4()),
    }
    await tx.execute(insert(rejects).values(tried))
    await tx.rollback()


_INSPECTION = text("""
    SELECT current_setting('server_version') AS version,
           current_setting('server_version_num')::int AS version_number,
           current_database()::text AS database,
           current_user::text AS user,
           current_setting('is_superuser') = 'on' AS is_superuser,
           current_setting('server_encoding') AS encoding,
           pg_is_in_recovery() AS is_standby,
           current_setting('transaction_read_only') = 'on' AS is_read_only,
           (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS encryption,
           clock_timestamp() AS at,
           pg_database_size(current_database()) AS database_bytes,
           coalesce((
               SELECT datcollversion <> pg_database_collation_actual_version(oid)
               FROM pg_database WHERE datname = current_database()
           ), false) AS is_sorted_otherwise
""")

_CHANGES = text("""
    SELECT current_database()::text AS database, current_user::text AS user,
           pg_is_in_recovery() AS is_standby,
           current_setting('transaction_read_only') = 'on' AS is_read_only
""")

# Given several privileges, has_table_privilege tells whether there is any of them, so each is
# checked by itself.
_UNWRITABLE = text("""
    SELECT name
    FROM unnest(CAST(:names AS text[]), CAST(:rights AS text[])) AS asked (name, rights)
    WHERE to_regclass(name) IS NOT NULL AND NOT (
        SELECT bool_and(has_table_privilege(name, one)) FROM string_to_table(rights, ',') AS one
    )
    ORDER BY name
""")
