"""Upgrade an archive of a million messages while others use it: how long do they wait?

``./run migrations`` creates the schema of an old release and fills it. Then it migrates it to this
release's schema, as ``archiver migrate`` does. Meanwhile writers add events, as the daemon does,
people read, and a dump reads for a long time. All waits for locks are observed, and each
transaction is timed. At the end, all that was written must be there, the schema must be the
declared one, and nobody but the migration may have waited for longer than a second and a half.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from alembic import command
from sqlalchemy import text

from archiver.embedded import run_server
from archiver.store.engine import connect
from archiver.store.migrating import migrate
from archiver.store.revision import latest
from archiver.store.schema import SCHEMA
from tests.test_migrations import differences, upgrade_to
from tests.upgrading.load import Load, fill

MOST_SECONDS = 1.5
"""A migration waits for locks half a second at a time, and holds a table's lock only briefly."""
BEFORE_SECONDS = 5.0


def main() -> int:
    """Upgrade an archive under load; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="./run migrations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="messages that are there")
    parser.add_argument("--since", default="0001", help="the schema that it is upgraded from")
    parser.add_argument("--dump", type=float, default=10.0, help="seconds that the dump reads")
    parser.add_argument(
        "--binaries", type=Path, help="of another PostgreSQL; none: the private one"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="archiver-upgrading-") as home,
        run_server(Path(home), binaries=options.binaries) as server,
    ):
        figures = asyncio.run(
            upgrade(server.url, rows=options.rows, since=options.since, dump=options.dump)
        )
    if options.json:
        print(json.dumps(figures))
    good = figures["longest_lock_wait_seconds"] <= MOST_SECONDS
    print("all as it should be" if good else f"somebody waited for more than {MOST_SECONDS} s")
    return 0 if good else 1


async def upgrade(url: str, *, rows: int, since: str, dump: float) -> dict[str, float]:
    """Fill, migrate under load, and check; returns what was measured."""
    async with connect(url) as engine:
        async with engine.begin() as connection:
            await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        await upgrade_to(engine, command.upgrade, since)
        began = time.monotonic()
        fill(url, rows)
        say(f"{rows:,} messages in schema {since} after {time.monotonic() - began:.0f} s")
        with Load(url, dump_seconds=dump) as load:
            await asyncio.sleep(BEFORE_SECONDS)
            before = load.take()
            load.begin_dump()
            began = time.monotonic()
            revisions = await migrate(engine)
            took = time.monotonic() - began
            await asyncio.sleep(1)
        assert revisions == (since, latest()), revisions
        during = load.take()
        async with engine.connect() as connection:
            found = await connection.run_sync(differences)
    figures: dict[str, float] = {
        "rows": rows,
        "migration_seconds": round(took, 2),
        "dump_seconds": dump,
        "longest_lock_wait_seconds": round(load.longest_lock_wait, 3),
    }
    for name, now in during.items():
        was = before[name]
        figures |= {
            f"{name}_transactions": now.count,
            f"{name}_longest_before_seconds": round(was.longest, 3),
            f"{name}_longest_meanwhile_seconds": round(now.longest, 3),
        }
    for name, value in figures.items():
        say(f"{name} = {value:,}")
    assert not found, found
    assert load.failures == [], load.failures
    (held,) = query_one(url, "SELECT count(*) FROM store.messages")
    assert held == rows + load.written, (held, rows, load.written)
    return figures


def query_one(url: str, statement: str) -> tuple[int, ...]:
    """The one row that *statement* returns."""
    with psycopg.connect(url) as session:
        row = session.execute(statement.encode()).fetchone()
    assert row
    return row


def say(line: str) -> None:
    """Print *line* at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
