"""Telling whose locks we wait for.

Who locks a whole table, as VACUUM FULL and most kinds of ALTER TABLE do, holds up all writers until
the transaction ends. No statement fails, so nothing would be logged. A transaction that lasts is
therefore looked into, on a connection of its own: the pool's may all be waiting.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from typing import NoReturn

from sqlalchemy import RowMapping, text

from archiver.errors import ArchiverError
from archiver.store.connection import Engine
from archiver.store.engine import DatabaseError, beside, key_of, longest_seconds, transaction
from archiver.store.sessions import APPLICATION

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
NOTICE_SECONDS = 5.0
"""How long a lock is waited for until that is logged; our own are released much sooner."""


@asynccontextmanager
async def telling_of_holdups(engine: Engine) -> AsyncIterator[None]:
    """Log, during the block, the sessions whose locks those of *engine* wait for."""
    telling = asyncio.create_task(_tell(engine))
    try:
        yield
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling


async def _tell(engine: Engine) -> NoReturn:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if longest_seconds(engine) > NOTICE_SECONDS:
            await _look_until_done(engine)


async def _look_until_done(engine: Engine) -> None:
    """Log each session that is waited for once, until no transaction of *engine* lasts."""
    told = set[int]()
    other = beside(engine)
    try:
        while longest_seconds(engine) > NOTICE_SECONDS:
            # Nothing can be found out while the database accepts no further connection.
            with suppress(*DatabaseError, ArchiverError):
                told = _told(await _waited_for(other), told)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await other.dispose()
    _told([], told)


def _told(found: Sequence[RowMapping], told: AbstractSet[int]) -> set[int]:
    """Log those of the sessions *found* that are not *told* of yet; return the ids of all."""
    for session in found:
        if session["pid"] in told:
            continue
        if session["pid"] == 0:
            log.warning("waiting for a lock of a prepared transaction; see pg_prepared_xacts")
        else:
            facts = {name: value for name, value in session.items() if value is not None}
            log.warning("waiting for a lock of another session", extra=facts)
    if told and not found:
        log.info("no lock is waited for any more")
    return {session["pid"] for session in found}


async def _waited_for(engine: Engine) -> Sequence[RowMapping]:
    """The sessions that those of *engine* wait for, and those that these wait for in turn."""
    known = {"name": f"{APPLICATION} {key_of(engine)}", "seconds": NOTICE_SECONDS}
    async with transaction(engine) as tx:
        return (await tx.execute(_WAITED_FOR, known)).mappings().all()


# Locks are granted in the order in which they are asked for: behind a session that waits for a
# whole table, we wait for those that it waits for. A prepared transaction has the process id 0.
_WAITED_FOR = text("""
    WITH RECURSIVE waiting AS MATERIALIZED (
        SELECT pid FROM pg_stat_activity
        WHERE application_name = :name AND datname = current_database()
          AND wait_event_type = 'Lock'
          AND state_change < clock_timestamp() - make_interval(secs => :seconds)
    ), queue (pid) AS (
        SELECT unnest(pg_blocking_pids(pid)) FROM waiting
        UNION
        SELECT unnest(pg_blocking_pids(pid)) FROM queue
    )
    SELECT pid, usename AS "user", application_name AS program,
           NULLIF(array_to_string(pg_blocking_pids(pid), ', '), '') AS waits_for
    FROM queue LEFT JOIN pg_stat_activity USING (pid)
    WHERE application_name IS DISTINCT FROM :name
    ORDER BY pid
""")
