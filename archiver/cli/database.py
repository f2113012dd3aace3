"""The database of a command: the one that the settings name, or a private one.

A private server must be started from the main thread and before the event loop, so a command uses
two blocks::

    with serve_database(settings) as place:
        asyncio.run(work(place))

    async def work(place: Place) -> None:
        async with open_database(place) as engine:
            ...
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from archiver.embedded import DATABASE, run_server
from archiver.embedded.home import is_made
from archiver.errors import ArchiverError, leaves
from archiver.settings import Settings
from archiver.settings.sections import DatabaseSettings
from archiver.store.connection import Engine
from archiver.store.engine import (
    FORBIDDEN,
    LIMITED,
    RAISED,
    READ_ONLY,
    DatabaseError,
    Fault,
    fault,
    first_line,
    sqlstate,
)
from archiver.store.engine import connect as connect_to
from archiver.store.granting import ASKER, admit_asker
from archiver.store.holdups import telling_of_holdups
from archiver.store.inspecting import require_changes
from archiver.store.revision import check_schema, require_tables

log = logging.getLogger(__name__)

STANDSTILL_SECONDS = 60.0
"""How long a suspended command (Ctrl-Z) may hold locks, before the server ends its transaction."""
GUARD_SECONDS = 1.0
MISSES = 60
"""After how many failed looks a command gives up on a private server.

A daemon that uses the same server may be restarted meanwhile, and restarts the server.
"""
AWAY = frozenset({"08", "57"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database that can be connected to."""

    url: str = field(repr=False)
    asking_url: str = field(default="", repr=False)
    """On a private server: the same database, for a role that can only read."""
    pool_size: int
    private: bool
    """Whether it is on a private server, which nobody else looks after."""
    is_shared: bool = False
    """Whether another command runs that server, and stops it when it ends."""
    answers: Callable[[], bool] = field(default=lambda: True, repr=False)
    """Tells whether a private server still answers; it blocks for a moment."""


@contextmanager
def serve_database(settings: Settings, *, told_at: int = logging.DEBUG) -> Iterator[Place]:
    """Run a private server while the block lasts, unless the settings name a server.

    Blocks until the server answers. Its directory is logged at the level *told_at*, or at INFO if
    it is only now created.
    """
    database = settings.database
    if database.full_url:
        yield Place(url=database.full_url, pool_size=database.pool_size, private=False)
        return
    home = private_home(settings)
    log.log(
        told_at if is_made(home) else logging.INFO,
        "using a private database; set ARCHIVER_DATABASE_URL to use your own server",
        extra={"home": str(home)},
    )
    with run_server(home, binaries=database.postgres_bin) as server:
        yield Place(
            url=server.url,
            asking_url=server.url_of(DATABASE, user=ASKER),
            pool_size=database.pool_size,
            private=True,
            is_shared=server.is_shared,
            answers=server.answers,
        )


def private_home(settings: Settings) -> Path:
    """The directory of the private server."""
    return settings.data_dir / "postgres"


def demo_settings(settings: Settings) -> Settings:
    """The settings of the demonstration's archive, which is never on a server of the user's."""
    binaries = settings.database.postgres_bin
    return replace(
        settings,
        data_dir=settings.data_dir / "demo",
        database=DatabaseSettings(postgres_bin=binaries),
    )


def require_archive(settings: Settings) -> None:
    """Make sure that there is an archive: a command that only reads must not create one.

    Raises:
        ArchiverError: no server is named, and there is no private database that can be read.
    """
    home = private_home(settings)
    if not settings.database.url and not is_made(home):
        raise ArchiverError(
            f"there is no archive in {home}: set ARCHIVER_DATABASE_URL to its server or "
            "ARCHIVER_DATA_DIR to its directory, or create one with: archiver run"
        )


def require_demo(settings: Settings) -> Settings:
    """The settings of the archive that the last demonstration made.

    Raises:
        ArchiverError: none was made where *settings* keep their data, or it cannot be read.
    """
    found = demo_settings(settings)
    if not is_made(private_home(found)):
        raise ArchiverError(
            f"there is no demo in {found.data_dir}: create one with: archiver demo; "
            "if you have run one, set ARCHIVER_DATA_DIR as it was then"
        )
    return found


@asynccontextmanager
async def open_database(
    place: Place, *, standstill_seconds: float | None = None
) -> AsyncIterator[Engine]:
    """Like `open_views`, for a user who may also read and lock the tables.

    Raises:
        ArchiverError: as there; or the user may only read the views.
    """
    within = standstill_seconds or STANDSTILL_SECONDS
    async with open_views(place, standstill_seconds=within) as engine:
        if not place.private:
            await require_tables(engine)
        yield engine


@asynccontextmanager
async def open_for_changes(place: Place) -> AsyncIterator[Engine]:
    """Like `open_database`, for a database that can be written.

    This is checked here, since a writer waits while it cannot write: on a standby, for ever.

    Raises:
        ArchiverError: as there; or the database is read-only.
    """
    async with open_database(place) as engine:
        await require_changes(engine)
        yield engine


@asynccontextmanager
async def guarded(place: Place) -> AsyncIterator[None]:
    """Watch a private database during the block, which would wait for it for ever.

    Raises:
        ArchiverError: as `guard`, but in an exception group, like all that the block raises.
    """
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(guard(place, misses=MISSES))
        yield
        looking.cancel()


async def guard(place: Place, *, misses: int) -> NoReturn:
    """Watch a private database, which nobody else restarts.

    Raises:
        ArchiverError: it has ended; when the archiver is started again, so is the database.
    """
    missed = 0
    while True:
        await asyncio.sleep(GUARD_SECONDS)
        missed = 0 if await asyncio.to_thread(place.answers) else missed + 1
        if missed == misses:
            raise ArchiverError(
                "the private PostgreSQL server has stopped; start the archiver again"
            )


@asynccontextmanager
async def open_views(
    place: Place, *, standstill_seconds: float | None = None
) -> AsyncIterator[Engine]:
    """An engine on an archive with this release's schema, made by `connect`.

    A private database is migrated to this schema; one on another server is left as it is.

    Raises:
        ArchiverError: it cannot be reached, or does not have this release's schema.
    """
    async with connect(place, standstill_seconds=standstill_seconds) as engine:
        if place.private:
            # Imported late: with its dependencies, it takes a third of other commands' start-up.
            from archiver.store.migrating import migrate  # noqa: PLC0415

            await migrate(engine)
        else:
            await check_schema(engine)
        yield engine


@asynccontextmanager
async def open_for_questions(place: Place) -> AsyncIterator[Engine]:
    """Like `open_views`, for queries of a person: on a private server, as a role that only reads.

    As its superuser, a query that changes no row could still read files, end sessions and fill the
    disk.

    Raises:
        ArchiverError: as there.
    """
    async with open_views(place) as engine:
        if not place.private:
            yield engine
            return
        await admit_asker(engine)
    async with connect(replace(place, url=place.asking_url)) as engine:
        yield engine


@asynccontextmanager
async def connect(
    place: Place, *, standstill_seconds: float | None = None
) -> AsyncIterator[Engine]:
    """An engine on the database, whatever it holds; whose locks it waits for is logged.

    Raises:
        ArchiverError: it cannot be reached, goes away, or does not grant us the rights we need.
    """
    try:
        async with (
            connect_to(
                place.url, pool_size=place.pool_size, standstill_seconds=standstill_seconds
            ) as engine,
            telling_of_holdups(engine),
        ):
            yield engine
    except (*DatabaseError, BaseExceptionGroup) as failed:
        told = [_told(one) for one in leaves(failed)]
        if told[0] is None or None in told:
            raise
        raise told[0] from failed


def _told(error: BaseException) -> ArchiverError | None:
    """Explain a database *error* to people; None for any other error, or one that is our fault."""
    if not isinstance(error, DatabaseError):
        return None
    reason, state = first_line(error), sqlstate(error)
    if state == FORBIDDEN:
        return ArchiverError(
            f"the database refused: {reason}; use a user in ARCHIVER_DATABASE_URL who has the "
            "right: the owner for archiver migrate, archiver_writer for everything else"
        )
    if state == READ_ONLY:
        return ArchiverError(
            f"the database is read-only: {reason}; set ARCHIVER_DATABASE_URL to one that can be "
            "written, such as a standby's primary, or turn default_transaction_read_only off"
        )
    if state[:2] == RAISED:
        # The error's own text is left out, since it may quote a message.
        return ArchiverError(
            "a trigger or function in the database that is not the archiver's raised an error "
            f"({state}): find it in the server's log, and correct or drop it"
        )
    if isinstance(error, UnicodeError) or fault(error) is not Fault.SERVER:
        return None
    happened = "went away" if not state or state[:2] in AWAY else "failed"
    advice = "; raise that limit for its user, or for all users" if state == LIMITED else ""
    return ArchiverError(f"the database {happened}: {reason}{advice}")
