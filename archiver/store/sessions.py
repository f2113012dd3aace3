"""The settings of a session, and the check that the database is still the one we have written to.

A standby that is promoted begins another *timeline*. It lacks what was not replicated, including
the claims in the ledger; but a process that wrote these remembers them, and would claim them again.
So an engine works on one timeline, and refuses to work on any other. The same goes for a backup
that replaces the database: a server restored from a copy goes on from an earlier position in its
WAL, and a restored dump is another database, or has other tables. Each new session checks all of
this; a session that lasts repeats the check from time to time.

Behind a pooler such as PgBouncer, each transaction may run on another session of the server.
Nothing outlives a transaction there except the settings that the pooler carries over, such as the
time zone. So no statement is kept prepared, and each transaction makes the check itself.

A database or a role may have default settings that were made for other programs. Those that our
statements, and our reading of their results, depend on are set in each session.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from sqlalchemy import text

from archiver.errors import ArchiverError
from archiver.store.connection import Transaction, driver_of

APPLICATION = "archiver"
"""The first part of the name of our sessions; the key of their engine follows."""

LOOK_SECONDS = 1.0
"""How often a session that lasts repeats the check."""

CARRIED: Mapping[str, str] = {
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
}
"""Settings that a pooler carries over too, since the server reports changes of them."""

OURS: Mapping[str, str] = {
    # We qualify all other names, so nothing in another schema can be taken for ours.
    "search_path": "pg_catalog",
    # A writer must see, once it has the lock of a flow, what others wrote before.
    "default_transaction_isolation": "read committed",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "gin_fuzzy_search_limit": "0",
    # What must not take long sets its own limit; an export takes as long as it needs.
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""Settings for sessions without a pooler; behind one, other clients would get the session too."""


class AnotherHistory(ArchiverError):
    """What we have written may be gone from the database; start again from what is there."""

    def __init__(self) -> None:
        super().__init__(
            "the database went back to an earlier state, as when a standby is promoted or a backup "
            "is restored: start the archiver again"
        )


class Whereabouts(NamedTuple):
    """Which history a session is on, and how far that has come."""

    timeline: str | None
    """Identifies the server, its timeline and the database; None on a standby, which is
    read-only."""
    tables: int | None
    """The OID of one of our tables; None before they are created."""
    position: int | None
    """The position in the WAL: how much the server has ever brought to disk, which only grows. None
    on a standby."""


@dataclass(slots=True)
class DatabaseHistory:
    """The history that an engine works on, and the newest position seen; None until known."""

    timeline: str | None = None
    tables: int | None = None
    position: int = 0
    looked_at: float = -math.inf
    """When that was last checked, on the event loop's clock."""

    def check(self, found: Whereabouts, *, before: int) -> None:
        """Make sure that *found* is on our history, and remember how far that has come.

        *before* is the position that was known when *found* was requested.

        Raises:
            AnotherHistory: it is on another history, or at an earlier position of ours.
        """
        if found.timeline is None or found.position is None:
            return
        is_ours = self.timeline in {None, found.timeline}
        if self.tables is not None and found.tables is not None:
            is_ours = is_ours and self.tables == found.tables
        if not is_ours or found.position < before:
            raise AnotherHistory
        self.timeline, self.tables = found.timeline, found.tables or self.tables
        self.position = max(self.position, found.position)
        self.looked_at = asyncio.get_running_loop().time()


async def begin_session(
    connection: psycopg.AsyncConnection,
    *,
    history: DatabaseHistory,
    standstill_seconds: float | None,
) -> None:
    """Set up a new session, as far as it is ours alone, and check its history.

    The settings are not given as startup options, since poolers refuse those.

    Raises:
        AnotherHistory: the server is not on the history of the sessions before, or at an earlier
            position of it.
    """
    before = history.position
    ours = dict(OURS)
    if standstill_seconds is not None:
        ours["idle_in_transaction_session_timeout"] = f"{standstill_seconds:g}s"
    known = {
        "pid": connection.info.backend_pid,
        "names": [*CARRIED, *ours],
        "values": [*CARRIED.values(), *ours.values()],
        "carried": list(CARRIED),
    }
    await connection.set_autocommit(True)
    asked = await connection.execute(_BEGIN_SESSION, known)
    row = await asked.fetchone()
    await connection.set_autocommit(False)
    if row is None or row[0]:
        connection.prepare_threshold = None
    if row is not None:
        history.check(Whereabouts(*row[1:4]), before=before)


def is_pooled(tx: Transaction) -> bool:
    """Tell whether a pooler is between us and the server."""
    return driver_of(tx).prepare_threshold is None


async def check_history(tx: Transaction, history: DatabaseHistory | None) -> None:
    """Make sure that a transaction is on our history.

    Behind a pooler this is checked each time, otherwise at most every `LOOK_SECONDS`.

    Raises:
        AnotherHistory: it is on another history, or at an earlier position of ours.
    """
    if history is None:
        return
    now = asyncio.get_running_loop().time()
    if is_pooled(tx) or now - history.looked_at >= LOOK_SECONDS:
        before = history.position
        found = await tx.execute(text(f"SELECT {_MOMENT}"))
        history.check(Whereabouts(*found.one()), before=before)


# The timeline is the first eight digits of the name of a WAL file; the server and the database are
# identified beside it. What is flushed is the position: a crash loses what is only in memory.
_MOMENT = """
    CASE WHEN NOT pg_is_in_recovery() THEN
        (SELECT system_identifier FROM pg_control_system()) || '/'
        || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/'
        || (SELECT oid FROM pg_database WHERE datname = current_database())
    END,
    (SELECT CAST(c.oid AS bigint) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
     WHERE nspname = 'store' AND relname = 'journal'),
    CASE WHEN NOT pg_is_in_recovery() THEN
        CAST(pg_current_wal_flush_lsn() - '0/0' AS bigint)
    END
"""

# If the server process is not the one that we connected to, a pooler is in between. Some of the
# settings are unknown to older releases of Postgres.
_BEGIN_SESSION = f"""
    SELECT pg_backend_pid() <> %(pid)s, {_MOMENT}, (
        SELECT count(set_config(name, value, false))
        FROM unnest(%(names)s::text[], %(values)s::text[]) AS ours (name, value)
        WHERE current_setting(name, true) IS NOT NULL
          AND (pg_backend_pid() = %(pid)s OR name = ANY (%(carried)s::text[]))
    ),
    CASE WHEN pg_backend_pid() = %(pid)s AND current_setting('synchronous_commit') = 'off'
         THEN set_config('synchronous_commit', 'local', false) END
"""  # noqa: S608
