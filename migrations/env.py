"""Runs the migrations on the connection that `archiver.store.migrating` hands over.

Alembic's own command line, which is for developers, hands over none. Then ARCHIVER_DATABASE_URL
names the database, which `archiver migrate` must have created. It cannot be upgraded in this way,
since `archiver migrate` does more than Alembic.
"""

import asyncio
import os

from alembic import command, context
from alembic.util import CommandError
from sqlalchemy import Connection, text

from archiver.store.engine import create_engine
from archiver.store.schema import SCHEMA, metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=True,
        include_name=lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
        version_table="schema_version",
        version_table_schema=SCHEMA,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
        on_version_apply=context.config.attributes.get("on_version_apply"),
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_alone() -> None:
    if "ARCHIVER_DATABASE_URL" not in os.environ:
        raise CommandError("set ARCHIVER_DATABASE_URL to the database")
    asked = getattr(context.config.cmd_opts, "cmd", None)
    if context.is_offline_mode() or (asked and asked[0] in (command.upgrade, command.stamp)):
        raise CommandError(
            "run archiver migrate instead: it waits for others, and gives roles their rights too"
        )
    engine = create_engine(os.environ["ARCHIVER_DATABASE_URL"])
    async with engine.connect() as connection:
        if not await connection.scalar(text(f"SELECT to_regclass('{SCHEMA}.schema_version')")):
            raise CommandError("the database has no archive yet; run: archiver migrate")
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


if (handed_over := context.config.attributes.get("connection")) is not None:
    run(handed_over)
else:
    asyncio.run(run_alone())
