"""Runs the migrations on the connection that `archiver.store.migrating` hands over.

Alembic's own command line (for developers) has none: then ARCHIVER_DATABASE_URL names the database.
"""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

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
    engine = create_engine(os.environ["ARCHIVER_DATABASE_URL"])
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


if (handed_over := context.config.attributes.get("connection")) is not None:
    run(handed_over)
else:
    asyncio.run(run_alone())
