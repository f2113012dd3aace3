"""What holds for a connection as long as it lasts: whose session it is, and of which history.

A standby that is promoted begins another *timeline*. What was not replicated is gone from it, with
the claims that were written with it; but whoever wrote it knows it still, and would claim it again.
So an engine works on one timeline, and on another one refuses to work at all.

Behind a pooler as PgBouncer, each transaction may be on another session of the server. There
nothing outlives a transaction but what a pooler carries over, as the time zone; so no statement is
kept prepared, and each transaction looks for itself which timeline it is on.
"""

from dataclasses import dataclass

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.errors import ArchiverError
from archiver.store.bulk import driver_of

APPLICATION = "archiver"
"""What sessions are called, before the key of their engine."""


class AnotherHistory(ArchiverError):
    """What was written before may not be there any more; begin anew from what there is."""

    def __init__(self) -> None:
        super().__init__(
            "the database goes on from an earlier moment, as a standby does that was promoted: "
            "start the archiver again"
        )


@dataclass(slots=True)
class History:
    """The timeline that an engine works on; None until it is known."""

    timeline: str | None = None

    def check(self, timeline: str | None) -> None:
        """Take this *timeline* to be ours; a standby, which writes nothing, has None.

        Raises:
            AnotherHistory: ours is another one.
        """
        if timeline is not None and self.timeline not in {None, timeline}:
            raise AnotherHistory
        self.timeline = self.timeline or timeline


async def begin_session(
    connection: psycopg.AsyncConnection, *, history: History, standstill_seconds: float | None
) -> None:
    """Set what holds for all transactions on *connection*, as far as it is our own.

    No startup option says any of this, since poolers refuse those.

    Raises:
        AnotherHistory: the server is on another timeline than the one before.
    """
    standstill = "" if standstill_seconds is None else f"{standstill_seconds:g}s"
    known = {"pid": connection.info.backend_pid, "standstill": standstill}
    await connection.set_autocommit(True)
    asked = await connection.execute(_BEGIN_SESSION, known)
    row = await asked.fetchone()
    await connection.set_autocommit(False)
    if row is None or row[0]:
        connection.prepare_threshold = None
    if row is not None:
        history.check(row[1])


def is_pooled(tx: AsyncConnection) -> bool:
    """Tell whether a pooler is between us and the server."""
    return driver_of(tx).prepare_threshold is None


async def check_history(tx: AsyncConnection, history: History | None) -> None:
    """Make sure that a transaction is on our timeline; only behind a pooler that may change.

    Raises:
        AnotherHistory: it is on another one.
    """
    if history is not None and is_pooled(tx):
        history.check((await tx.execute(text(f"SELECT {_TIMELINE}"))).scalar_one())


# The first eight digits of the name of a file of WAL, and the server that it belongs to.
_TIMELINE = """
    CASE WHEN NOT pg_is_in_recovery() THEN
        (SELECT system_identifier FROM pg_control_system()) || '/'
        || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
    END
"""

# If the process that serves us is not the one that we connected to, a pooler is between.
_BEGIN_SESSION = f"""
    SELECT pg_backend_pid() <> %(pid)s, {_TIMELINE}, set_config('timezone', 'UTC', false),
           CASE WHEN pg_backend_pid() = %(pid)s AND %(standstill)s <> ''
                THEN set_config('idle_in_transaction_session_timeout', %(standstill)s, false) END
"""
