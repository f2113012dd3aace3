"""Can the archive be written, does it have this release's schema, does its clock agree?"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from archiver.cli.checks.clock import check_clock
from archiver.cli.checks.result import Result, ok, warning, wrong
from archiver.cli.database import Place, connect, private_home, serve_database
from archiver.cli.measures import format_bytes
from archiver.embedded.home import is_made, require_usable
from archiver.errors import ArchiverError
from archiver.settings import Settings
from archiver.store.connection import Engine
from archiver.store.engine import DatabaseError, first_line
from archiver.store.inspecting import (
    Inspection,
    inspect,
    to_be_written,
    try_writing,
    unwritable,
)
from archiver.store.revision import check_schema, latest, require_tables

OLDEST = 150_000
TRIED_BYTES = 100_000
"""More than the free space in a table's pages, so that the server has to use more of the disk."""


def check_database(settings: Settings) -> list[Result]:
    """Check the database; a private one is started for that."""
    home = private_home(settings)
    try:
        if not settings.database.full_url and not is_made(home):
            require_usable(home)
            return [ok("database", f"none yet: archiver run creates a private one in {home}")]
        with serve_database(settings) as place:
            return asyncio.run(_look(place))
    except ArchiverError as error:
        return [wrong("database", str(error))]


async def _look(place: Place) -> list[Result]:
    async with connect(place) as engine:
        began = datetime.now(UTC)
        async with engine.connect() as tx:
            found = await inspect(tx)
        ended = datetime.now(UTC)
        results = list(_of_server(found, place))
        results.append(check_clock("the database", found.at, began, ended))
        try:
            await check_schema(engine)
        except ArchiverError as error:
            if place.private:
                results.append(ok("schema", f"{error} (archiver run does it by itself)"))
            else:
                results.append(wrong("schema", str(error)))
            return results
        results.append(ok("schema", f"{latest()}, as this release needs"))
        results += [one async for one in _of_rights(engine, found.user)]
        if all(one.verdict != "wrong" for one in results):
            results += [one async for one in _of_writing(engine)]
    return results


async def _of_rights(engine: Engine, user: str) -> AsyncIterator[Result]:
    try:
        await require_tables(engine)
    except ArchiverError as error:
        yield wrong("rights", str(error))
        return
    async with engine.connect() as tx:
        missing = await unwritable(tx)
    if missing:
        yield wrong(
            "rights",
            f"{user} lacks rights on {', '.join(missing)}",
            "use a user in ARCHIVER_DATABASE_URL who has them, such as archiver_writer, or grant "
            "them again: archiver migrate --roles",
        )


async def _of_writing(engine: Engine) -> AsyncIterator[Result]:
    """Whether the server lets us write; what is written is rolled back."""
    try:
        async with engine.connect() as tx:
            await try_writing(tx, os.urandom(TRIED_BYTES), now=datetime.now(UTC))
    except DatabaseError as error:
        yield wrong(
            "database",
            f"a trial write failed: {first_line(error)}",
            "check the disk, the locks and the log of its server",
        )


def _of_server(found: Inspection, place: Place) -> Iterator[Result]:
    where = "a private server" if place.private else f"as {found.user} in {found.database}"
    about = f"PostgreSQL {found.version}, {where}, {format_bytes(found.database_bytes)}"
    if found.version_number < OLDEST:
        yield wrong("database", about, "PostgreSQL 15 or newer is needed")
    elif found.encoding != "UTF8":
        yield wrong(
            "database",
            f"{about}: its encoding is {found.encoding}",
            "create a database with ENCODING 'UTF8'",
        )
    elif found.is_read_only:
        advice = to_be_written(found.user, is_standby=found.is_standby)
        yield wrong("database", f"{about}: it is read-only", advice)
    else:
        secured = f", {found.encryption}" if found.encryption else ""
        pooled = ", through a pooler: run archiver migrate without it" if found.is_pooled else ""
        yield ok("database", f"{about}{secured}{pooled}")
    if found.is_sorted_otherwise:
        yield wrong(
            "database",
            "its indexes were made by another version of the system's order of texts (collation), "
            "as before an upgrade of the system: what is there may not be found, or be kept twice",
            f'stop the archiver, then as the owner: REINDEX DATABASE "{found.database}"; '
            f'ALTER DATABASE "{found.database}" REFRESH COLLATION VERSION',
        )
    if found.is_superuser and not place.private:
        yield warning(
            "rights",
            f"{found.user} is a superuser, which the archiver does not need",
            "use a role of its own: archiver migrate --roles",
        )
