"""What holds for a connection as long as it lasts: whose session it is, and of which history.

A standby that is promoted begins another *timeline*. What was not replicated is gone from it, with
the claims that were written with it; but whoever wrote it knows it still, and would claim it again.
So an engine works on one timeline, and on another one refuses to work at all. It is the same with a
backup that takes the place of the database: what a copied server writes on begins before where it
had come to, and what is loaded from a dump is another database, or its tables are others. Each new
session looks for that, and one that lasts looks now and then, for how far the server has come.

Behind a pooler as PgBouncer, each transaction may be on another session of the server. There
nothing outlives a transaction but what a pooler carries over, as the time zone; so no statement is
kept prepared, and each transaction looks for itself which history it is on.

A database and a role may have settings of their own, made for other programs. What our statements
and what we read of their answers depend on is set for each session.
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
"""What sessions are called, before the key of their engine."""

LOOK_SECONDS = 1.0
"""How often a session that lasts looks how far the server has come."""

CARRIED: Mapping[str, str] = {
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
}
"""What a pooler carries over as well, for it is told of changes."""

OURS: Mapping[str, str] = {
    # All else is named with its schema, so nothing that lies elsewhere is taken for it.
    "search_path": "pg_catalog",
    # Under the lock of its flow, a writer sees what others wrote before.
    "default_transaction_isolation": "read committed",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "gin_fuzzy_search_limit": "0",
    # What may not take long has a limit of its own; an export takes as long as it does.
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""What is set where no pooler is in between: behind one, others would get such a session."""


class AnotherHistory(ArchiverError):
    """What was written before may not be there any more; begin anew from what there is."""

    def __init__(self) -> None:
        super().__init__(
            "the database goes on from an earlier moment, as a standby does that was promoted, or "
            "a backup: start the archiver again"
        )


class Whereabouts(NamedTuple):
    """Where a session finds itself."""

    timeline: str | None
    """Of the server and its database; None on a standby, which writes nothing."""
    tables: int | None
    """What the server calls one of our tables; None before they are made."""
    position: int | None
    """How much the server has ever written; it only grows."""


@dataclass(slots=True)
class DatabaseHistory:
    """What an engine works on, and how far that has come; None until it is known."""

    timeline: str | None = None
    tables: int | None = None
    position: int = 0
    looked_at: float = -math.inf
    """When, in the event loop's seconds."""

    def check(self, found: Whereabouts, *, before: int) -> None:
        """Take *found* to be of our history, which had come to *before* when it was asked for.

        Raises:
            AnotherHistory: it is of another one, or an earlier one of ours.
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
    """Set what holds for all transactions on *connection*, as far as it is our own.

    No startup option says any of this, since poolers refuse those.

    Raises:
        AnotherHistory: the server is not where the one before was, or is where it was earlier.
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
    """Make sure that a transaction is on our history; if no pooler is between, now and then.

    Raises:
        AnotherHistory: it is on another one.
    """
    if history is None:
        return
    now = asyncio.get_running_loop().time()
    if is_pooled(tx) or now - history.looked_at >= LOOK_SECONDS:
        before = history.position
        found = await tx.execute(text(f"SELECT {_MOMENT}"))
        history.check(Whereabouts(*found.one()), before=before)


# The first eight digits of the name of a file of WAL, the server that it belongs to, the database.
_MOMENT = """
    CASE WHEN NOT pg_is_in_recovery() THEN
        (SELECT system_identifier FROM pg_control_system()) || '/'
        || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/'
        || (SELECT oid FROM pg_database WHERE datname = current_database())
    END,
    (SELECT CAST(c.oid AS bigint) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
     WHERE nspname = 'store' AND relname = 'journal'),
    CASE WHEN NOT pg_is_in_recovery() THEN
        CAST(pg_current_wal_insert_lsn() - '0/0' AS bigint)
    END
"""

# If the process that serves us is not the one that we connected to, a pooler is between. Not all
# that is set is known to all releases of Postgres.
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
