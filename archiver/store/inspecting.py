"""What kind of server a database is on, and what we may do there."""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.store.schema import metadata
from archiver.store.sessions import is_pooled


class Inspection(Struct, frozen=True, kw_only=True):
    """What was found of a server and a database."""

    version: str
    version_number: int
    """150004 for 15.4."""
    database: str
    user: str
    is_superuser: bool
    encoding: str
    is_read_only: bool
    """Whether it is a standby, or takes no changes for another reason."""
    encryption: str | None
    """As TLSv1.3; None when the connection is in clear."""
    is_pooled: bool
    """Whether a pooler is between us and the server."""
    at: datetime
    """What time it is there."""
    bytes: int


async def inspect(tx: AsyncConnection) -> Inspection:
    """Ask the server about itself and the database."""
    row = (await tx.execute(_INSPECTION)).mappings().one()
    return Inspection(**row, is_pooled=is_pooled(tx))


async def unwritable(tx: AsyncConnection) -> list[str]:
    """The tables of ours that the user may not both read and write."""
    names = [f"{table.schema}.{table.name}" for table in metadata.sorted_tables]
    rows = await tx.execute(_UNWRITABLE, {"names": names})
    return list(rows.scalars())


_INSPECTION = text("""
    SELECT current_setting('server_version') AS version,
           current_setting('server_version_num')::int AS version_number,
           current_database()::text AS database,
           current_user::text AS user,
           current_setting('is_superuser') = 'on' AS is_superuser,
           current_setting('server_encoding') AS encoding,
           pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS is_read_only,
           (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS encryption,
           clock_timestamp() AS at,
           pg_database_size(current_database()) AS bytes
""")

_UNWRITABLE = text("""
    SELECT name FROM unnest(CAST(:names AS text[])) AS name
    WHERE to_regclass(name) IS NOT NULL
      AND NOT (has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT'))
    ORDER BY name
""")
