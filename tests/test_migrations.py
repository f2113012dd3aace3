"""The migrations lead to the declared schema, and the views are those that are promised."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from archiver.errors import ArchiverError
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.rebuild import check
from archiver.store import migrating
from archiver.store.connection import Engine
from archiver.store.engine import connect
from archiver.store.migrating import migrate
from archiver.store.revision import SchemaMismatch, check_schema, known, latest
from archiver.store.schema import SCHEMA, metadata
from tests.ingest.applying import everything
from tests.ingest.arriving import NOW, frame, new_flow, query, streamed, waits_for_lock

ROOT = Path(__file__).parent.parent

CONTRACT = {
    "attachments": "flow message_id position file_name content_type file_size path sha256"
    " attempts last_error",
    "coverage": "flow witness from_id to_id",
    "daemons": "daemon started_at heard_at lease_until captures could_capture unheard",
    "doubts": "flow from_id to_id",
    "events": "flow id event user_id sent received_at witness target_id payload",
    "file_parts": "sha256 part bytes",
    "files": "sha256 file_size kept_at",
    "flows": "flow flow_id organization name access_mode joined disabled first_seen_at"
    " last_seen_at flow_key not_told",
    "forms": "flow id form witness received_at as_of payload",
    "gaps": "flow from_id to_id found_at attempts last_error",
    "leases": "flow daemon taken_at",
    "messages": "flow id event user_id nick sent content tags thread_id parent_id edited_at edits"
    " deleted_at attachments reactions app uuid external_user_name detail revisions flow_key",
    "rejects": "id received_at origin reason raw",
    "revisions": "flow message_id revision at user_id kind content tags ordinal nick event"
    " thread_id edited_at edits deleted_at seen_at",
    "schema_version": "version",
    "signals": "flow event user_id at payload",
    "threads": "flow thread_id title status external_url application activities internal_comments"
    " external_comments updated_at detail",
    "users": "user_id nick name email disabled first_seen_at last_seen_at",
}

COLUMNS = """
    SELECT c.relname, string_agg(a.attname, ' ' ORDER BY a.attnum)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace = 'archive'::regnamespace AND c.relkind = 'v' GROUP BY 1
"""

WITHOUT_COMMENT = """
    SELECT c.relname, a.attname
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0
    WHERE c.relnamespace = 'archive'::regnamespace
      AND coalesce(col_description(c.oid, a.attnum), '') = ''
    UNION ALL
    SELECT relname, NULL FROM pg_class
    WHERE relnamespace = 'archive'::regnamespace AND coalesce(obj_description(oid), '') = ''
"""


def test_the_views_are_those_that_are_promised(database_url):
    views = dict(query(database_url, COLUMNS))
    promised = {name: views.get(name) for name in CONTRACT}
    assert promised == CONTRACT


def test_every_view_and_every_column_says_what_it_means(database_url):
    assert query(database_url, WITHOUT_COMMENT) == []
    assert query(database_url, "SELECT obj_description('archive'::regnamespace)")[0][0]


def test_the_contract_promises_no_more_of_flows_and_people_than_is_told(database_url):
    said = """
        SELECT description FROM pg_description WHERE objsubid > 0
        AND objoid = ANY ('{archive.flows,archive.users}'::regclass[])
    """
    told = " ".join(text for (text,) in query(database_url, said))
    assert "as URLs name it" not in told
    for closed in ("put away", "closed"):
        assert f"was {closed} when the service last listed it" in told
    # An imported list may name people whom the service never listed.
    assert "when the service first listed them" not in told


def test_the_contract_tells_of_files_that_their_bytes_may_be_here(database_url):
    said = """
        SELECT description FROM pg_description
        WHERE objoid = ANY ('{archive.attachments,archive.files,archive.file_parts}'::regclass[])
    """
    told = {text for (text,) in query(database_url, said)}
    assert not [text for text in told if "not their bytes" in text]
    # The bytes may come from another archive instead.
    assert "when it was fetched" not in told


async def test_the_migrations_lead_to_the_schema_that_is_declared(database_url):
    async with connect(database_url) as engine, engine.connect() as connection:
        assert await connection.run_sync(differences) == []


def differences(connection: Connection) -> list[object]:
    options = {
        "version_table": "schema_version",
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
        "compare_type": True,
        "compare_server_default": True,
    }
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, metadata))


def test_what_waits_for_the_search_and_what_files_hold_is_not_compressed(database_url):
    storage = """
        SELECT attname, attstorage FROM pg_attribute
        WHERE attrelid = 'store.changes'::regclass AND attname IN ('flow_keys', 'ids')
           OR attrelid = 'store.file_parts'::regclass AND attname = 'bytes'
    """
    assert dict(query(database_url, storage)) == {"flow_keys": "e", "ids": "e", "bytes": "e"}


async def test_an_empty_database_is_migrated_once_and_again_without_harm(bare_database_url):
    async with connect(bare_database_url) as engine:
        assert await migrate(engine) == (None, latest())
        assert await migrate(engine) == (latest(), latest())
        await check_schema(engine)


async def test_two_that_migrate_at_once_do_not_hinder_each_other(bare_database_url):
    async with connect(bare_database_url) as one, connect(bare_database_url) as other:
        told = await asyncio.gather(migrate(one), migrate(other))
        assert sorted(told, key=lambda pair: pair[0] or "") == [
            (None, latest()),
            (latest(), latest()),
        ]
        await check_schema(one)


async def cut_off_while_it_waits(migrating: asyncio.Task[Any], database_url: str) -> None:
    """Cancel *migrating* as soon as it waits for a lock."""
    async with asyncio.timeout(60):
        while not waits_for_lock(database_url):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    migrating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await migrating


async def test_a_migration_that_is_cut_off_leaves_nothing_and_no_lock(bare_database_url):
    async with connect(bare_database_url) as engine:
        with psycopg.connect(bare_database_url) as blocker:
            # The first migration creates this schema, too, and has to wait for this transaction.
            blocker.execute("CREATE SCHEMA archive")
            migrating = asyncio.create_task(migrate(engine))
            await cut_off_while_it_waits(migrating, bare_database_url)
            blocker.rollback()
        assert await migrate(engine) == (None, latest())


async def test_what_ended_a_migration_is_told_also_when_the_database_lets_nobody_in(
    bare_database_url, postgres_admin
):
    async with connect(bare_database_url) as engine:
        with psycopg.connect(bare_database_url) as blocker:
            blocker.execute("CREATE SCHEMA archive")
            begun = asyncio.create_task(migrate(engine))
            async with asyncio.timeout(60):
                while not waits_for_lock(bare_database_url):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            name = blocker.info.dbname
            postgres_admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            postgres_admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND wait_event_type = 'Lock'",
                [name],
            )
            with pytest.raises(DBAPIError, match="terminating connection due to administrator"):
                await begun


async def test_down_to_nothing_and_up_again_gives_the_same(bare_database_url):
    async with connect(bare_database_url) as engine:
        await migrate(engine)
        before = query(bare_database_url, COLUMNS)
        await downgrade(engine, "0005")
        assert query(bare_database_url, WITHOUT_COMMENT) == []
        await downgrade(engine)
        left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'store'::regnamespace"
        named = " AND relname <> ALL ('{schema_version,schema_version_pkc}')"
        assert query(bare_database_url, left + named) == [(0,)]
        assert await migrate(engine) == (None, latest())
        assert sorted(query(bare_database_url, COLUMNS)) == sorted(before)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []


async def test_indexes_that_a_cut_left_half_made_are_made_again(bare_database_url):
    valid = """
        SELECT count(*) FILTER (WHERE indisvalid), count(*) FROM pg_index
        WHERE indrelid = 'store.messages'::regclass
    """
    async with connect(bare_database_url) as engine:
        await migrate(engine)
        await downgrade(engine, "0003")
        made = query(bare_database_url, valid)
        with psycopg.connect(bare_database_url, autocommit=True) as admin:
            # One index is invalid, as an interrupted CREATE INDEX CONCURRENTLY leaves it, and one
            # is missing.
            admin.execute(
                "UPDATE pg_index SET indisvalid = false"
                " WHERE indexrelid = 'store.messages_tags'::regclass"
            )
            admin.execute("DROP INDEX store.messages_thread")
            admin.execute("UPDATE store.schema_version SET version_num = '0002'")
        assert query(bare_database_url, valid) != made
        assert await migrate(engine) == ("0002", latest())
        assert query(bare_database_url, valid) == made


async def test_indexes_are_made_while_others_write(bare_database_url):
    """Writers do not wait; the migration waits only for open transactions to end."""
    async with connect(bare_database_url) as engine, connect(bare_database_url) as other:
        await migrate(engine)
        with psycopg.connect(bare_database_url, autocommit=True) as admin:
            admin.execute("DROP INDEX store.messages_sent")
            admin.execute("UPDATE store.schema_version SET version_num = '0002'")
        async with other.connect() as writing:
            await writing.execute(text("DELETE FROM store.messages WHERE false"))
            migrating_ = asyncio.create_task(upgrade_to(engine, command.upgrade, "0003"))
            held = "SELECT count(*) FROM pg_stat_progress_create_index"
            async with asyncio.timeout(60):
                while query(bare_database_url, held) == [(0,)]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # what is awaited happens in another process
            await apply(other, everything(await new_flow(other)))
            assert not migrating_.done()
            await writing.commit()
            await migrating_
        assert query(bare_database_url, "SELECT version_num FROM store.schema_version") == [
            ("0003",)
        ]


async def test_threads_can_be_read_while_they_are_dated(bare_database_url):
    async with connect(bare_database_url) as engine:
        await migrate(engine)
        await apply(engine, everything(await new_flow(engine)))
        await downgrade(engine, "0013")
        with psycopg.connect(bare_database_url) as other:
            other.execute("LOCK TABLE store.journal")
            migrating_ = asyncio.create_task(upgrade_to(engine, command.upgrade, "0014"))
            async with asyncio.timeout(60):
                while not waits_for_lock(bare_database_url):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # what is awaited happens in another process
            with psycopg.connect(bare_database_url, options="-c lock_timeout=20s") as reader:
                assert reader.execute("SELECT FROM archive.threads").fetchall()
            assert not migrating_.done()
        await migrating_


async def test_threads_that_an_older_release_kept_are_as_they_would_be_made(bare_database_url):
    async with connect(bare_database_url) as engine:
        await migrate(engine)
        flow_key = await new_flow(engine)
        await apply(engine, everything(flow_key))
        undated = (
            "SELECT count(*) FROM store.threads WHERE updated_at IS NULL AND told_at > '2000-1-1'"
        )
        before = query(bare_database_url, undated)
        await downgrade(engine, "0013")
        await migrate(engine)
        assert query(bare_database_url, undated) == before != [(0,)]
        assert [
            step.differences async for step in check(engine, flow_key) if step.differences
        ] == []


async def test_files_that_an_older_release_heard_of_are_wanted(bare_database_url):
    named = [
        {"path": "/files/1/k/" + "x" * 989, "file_name": "just short enough", "file_size": 7},
        {"path": "/files/1/k/" + "x" * 990, "file_name": "too long"},
        {"path": "/files/1/k/" + "ä" * 495, "file_name": "too long in bytes"},
        {"path": "/files/1/k/sizeless", "file_name": "sizeless"},
        {"file_name": "pathless"},
    ]
    async with connect(bare_database_url) as engine:
        await migrate(engine)
        for _ in range(2):
            said = [frame(5, attachments=named), frame(6, attachments=named[:1]), frame(7)]
            flow_key = await new_flow(engine)
            arrivals = [streamed(one, flow_key) for one in said]
            await apply(engine, Batch(now=NOW, arrivals=arrivals))
        wanted = "SELECT flow_key, path, size_bytes, sha256, attempts FROM store.attached"
        before = query(bare_database_url, wanted)
        await downgrade(engine, "0017")
        await migrate(engine)
        assert sorted(query(bare_database_url, wanted)) == sorted(before)
        assert len(before) == 4


async def test_back_to_an_older_schema_leaves_no_word_of_the_newer(bare_database_url):
    words = """
        SELECT c.relname, attname, description FROM pg_description
        JOIN pg_class c ON c.oid = objoid LEFT JOIN pg_attribute ON attrelid = objoid
                                                                AND attnum = objsubid
        WHERE relnamespace = 'archive'::regnamespace ORDER BY 1, 2 NULLS FIRST
    """
    async with connect(bare_database_url) as engine:
        await make_schema(engine)
        await upgrade_to(engine, command.upgrade, "0017")
        before = query(bare_database_url, words)
        await upgrade_to(engine, command.upgrade, "0018")
        assert query(bare_database_url, words) != before
        await downgrade(engine, "0017")
        assert query(bare_database_url, words) == before


SAMPLES = {
    "bigint": "7",
    "boolean": "true",
    "bytea": "'\\xff00'",
    "double precision": "1.5",
    "int8multirange": "'{[1,5),[7,9)}'",
    "int8range": "'[1,5)'",
    "integer": "7",
    "integer[]": "'{7,8}'",
    "bigint[]": "'{7,8}'",
    "json": '\'{"a":  "\u00e9"}\'',
    "jsonb": "'{\"a\": 1}'",
    "smallint": "0",
    "text": "'a text'",
    "text[]": "'{a,\"b c\"}'",
    "timestamp with time zone": "'2024-01-01T00:00:00.123456Z'",
    "tsvector": "'a:1 text:2'",
    "uuid": "'00000000-0000-4000-8000-000000000007'",
}
"""A value of each type that tables have: a new type must be added before it can be migrated."""

TABLES = """
    SELECT c.relname, json_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
        FILTER (WHERE a.attidentity = '')
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT attisdropped
    WHERE c.relnamespace = 'store'::regnamespace AND c.relkind = 'r'
      AND c.relname <> 'schema_version'
    GROUP BY 1 ORDER BY 1
"""


def fill_empty_tables(url: str) -> None:
    """Insert a row into each table of the present schema that has none."""
    with psycopg.connect(url, autocommit=True) as admin:
        for table, columns in admin.execute(TABLES).fetchall():
            if admin.execute(f"SELECT FROM store.{table} LIMIT 1".encode()).fetchone() is None:
                names = ", ".join(columns)
                values = ", ".join(SAMPLES[type_] for type_ in columns.values())
                # Identity columns are left out (see TABLES): Postgres makes their keys.
                text = f"INSERT INTO store.{table} ({names}) VALUES ({values})"
                admin.execute(text.encode())


def rows_of(url: str) -> dict[str, list[dict[str, str]]]:
    """Each row of each table: column to value, as text."""
    found = {}
    with psycopg.connect(url) as admin:
        for table, _ in admin.execute(TABLES).fetchall():
            rows = admin.execute(f"SELECT to_json(t)::text FROM store.{table} AS t".encode())
            found[table] = [
                {name: json.dumps(value) for name, value in json.loads(row).items()}
                for (row,) in rows
            ]
    return found


async def test_each_migration_keeps_what_the_one_before_held(bare_database_url):
    """All migrations run one after the other, each with a row in every table."""
    url = bare_database_url
    scripts = ScriptDirectory.from_config(migrating._config())
    revisions = [script.revision for script in scripts.walk_revisions()][::-1]
    assert known() == revisions
    assert len(revisions) >= 5
    async with connect(url) as engine:
        await make_schema(engine)
        before: dict[str, list[dict[str, str]]] = {}
        for revision in revisions:
            await upgrade_to(engine, command.upgrade, revision)
            after = rows_of(url)
            for table, rows in before.items():
                kept = [{name: row.get(name) for name in rows[0]} for row in after[table]]
                assert kept == rows, (revision, table)
            with psycopg.connect(url) as reader:
                for (view,) in reader.execute(VIEWS).fetchall():
                    assert reader.execute(f"TABLE archive.{view}".encode()).fetchall() is not None
            fill_empty_tables(url)
            before = rows_of(url)
            assert all(before.values()), revision
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
        await check_schema(engine)


VIEWS = """
    SELECT relname FROM pg_class WHERE relnamespace = 'archive'::regnamespace AND relkind = 'v'
"""


async def make_schema(engine: Engine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))


async def test_who_reads_for_long_delays_a_migration_and_nobody_else(bare_database_url):
    """A migration that waits for a table's lock lets those that queue behind it go first."""
    async with connect(bare_database_url) as engine:
        await make_schema(engine)
        await upgrade_to(engine, command.upgrade, "0001")
        with psycopg.connect(bare_database_url) as reader:
            reader.execute("SELECT FROM store.revisions")  # as a dump does
            migrating_ = asyncio.create_task(migrate(engine))
            waits = (
                "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
            )
            async with asyncio.timeout(60):
                while query(bare_database_url, waits) == [(0,)]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            impatient = "-c lock_timeout=20s"
            with psycopg.connect(bare_database_url, options=impatient) as other:
                await asyncio.to_thread(other.execute, "TABLE store.revisions")
            assert not migrating_.done()
            reader.rollback()
            assert await migrating_ == ("0001", latest())
        async with engine.connect() as connection:
            shown = await connection.execute(text("SHOW lock_timeout"))
            assert shown.scalar_one() == "0"


async def test_who_keeps_a_migration_waiting_is_told(
    bare_database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(migrating, "NOTICE_SECONDS", 0.0)
    async with connect(bare_database_url) as engine, asyncio.timeout(60):
        with psycopg.connect(bare_database_url, application_name="somebody") as other:
            other.execute("SELECT pg_advisory_lock(%s)", [migrating.ONE_AT_A_TIME])
            pid = other.info.backend_pid
            migrated = asyncio.create_task(migrate(engine))
            while not caplog.records:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await migrated
    (told,) = caplog.records
    assert told.getMessage() == "waiting for another migration to end"
    assert vars(told)["program"] == "somebody"
    assert vars(told)["pid"] == pid


async def test_who_began_before_an_index_is_made_is_told_of(
    bare_database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(migrating, "NOTICE_SECONDS", 0.05)
    async with connect(bare_database_url) as engine, asyncio.timeout(60):
        await make_schema(engine)
        await upgrade_to(engine, command.upgrade, "0002")
        with psycopg.connect(bare_database_url, application_name="pg_dump") as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT FROM store.flows")
            migrated = asyncio.create_task(migrate(engine))
            while not caplog.records:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            pid = reader.info.backend_pid
        assert await migrated == ("0002", latest())
    (told,) = caplog.records
    assert told.getMessage() == "the migration waits for a transaction that began earlier"
    assert (vars(told)["program"], vars(told)["pid"]) == ("pg_dump", pid)


async def waiting_for_an_index(engine: Engine, database_url: str) -> asyncio.Task[Any]:
    """Start a migration; return when it waits for a reader before it can create an index."""
    await make_schema(engine)
    await upgrade_to(engine, command.upgrade, "0002")
    migrated = asyncio.create_task(migrate(engine))
    while not waits_for_lock(database_url):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return migrated


@pytest.fixture
def reading(bare_database_url: str) -> Iterator[None]:
    """A reader with an open snapshot of the database, like a dump."""
    with psycopg.connect(bare_database_url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT FROM pg_class")
        yield


@pytest.mark.usefixtures("reading")
async def test_what_ended_the_making_of_an_index_is_told(bare_database_url):
    async with connect(bare_database_url) as engine, asyncio.timeout(60):
        migrated = await waiting_for_an_index(engine, bare_database_url)
        with psycopg.connect(bare_database_url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        with pytest.raises(DBAPIError, match="terminating connection due to administrator"):
            await migrated


@pytest.mark.usefixtures("reading")
async def test_the_making_of_an_index_can_be_interrupted(bare_database_url):
    async with connect(bare_database_url) as engine, asyncio.timeout(60):
        migrated = await waiting_for_an_index(engine, bare_database_url)
        migrated.cancel()
        with pytest.raises(asyncio.CancelledError):
            await migrated


async def test_an_extension_is_found_where_the_database_keeps_it(bare_database_url):
    with psycopg.connect(bare_database_url, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA elsewhere")
        admin.execute("CREATE EXTENSION pg_trgm SCHEMA elsewhere")
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET search_path = public, elsewhere")
    async with connect(bare_database_url) as engine:
        await migrate(engine)
        async with engine.connect() as connection:
            shown = await connection.execute(text("SHOW search_path"))
            assert shown.scalar_one() == "pg_catalog"
    made = "SELECT count(*) FROM pg_indexes WHERE indexname = 'texts_parts'"
    assert query(bare_database_url, made) == [(1,)]


@pytest.mark.parametrize("path", ["''", '"$user"', "public", "nowhere, pg_catalog, public"])
@pytest.mark.parametrize("place", ["Else Where", None])
async def test_an_extension_is_found_or_made_wherever_the_database_looks(
    bare_database_url, path, place
):
    with psycopg.connect(bare_database_url, autocommit=True) as admin:
        if place:
            admin.execute(f'CREATE SCHEMA "{place}"')
            admin.execute(f'CREATE EXTENSION pg_trgm SCHEMA "{place}"')
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET search_path = {path}")
    async with connect(bare_database_url) as engine:
        await migrate(engine)
    made = "SELECT count(*) FROM pg_indexes WHERE indexname = 'texts_parts'"
    assert query(bare_database_url, made) == [(1,)]
    lies_in = (
        "SELECT nspname FROM pg_extension JOIN pg_namespace AS schema ON schema.oid = extnamespace"
        " WHERE extname = 'pg_trgm'"
    )
    assert query(bare_database_url, lies_in) == [(place or "public",)]


async def test_an_extension_is_made_where_there_is_no_schema_for_everybody(bare_database_url):
    with psycopg.connect(bare_database_url, autocommit=True) as admin:
        admin.execute("DROP SCHEMA public")
    async with connect(bare_database_url) as engine:
        await migrate(engine)
    made = "SELECT count(*) FROM pg_indexes WHERE indexname = 'texts_parts'"
    assert query(bare_database_url, made) == [(1,)]


async def test_an_extension_that_was_not_there_gets_its_index_at_the_next_migration(
    database_url, admin, caplog
):
    caplog.set_level(logging.INFO, logger="archiver")
    made = "SELECT indexdef FROM pg_indexes WHERE indexname = 'texts_parts'"
    before = query(database_url, made)
    admin.execute("DROP EXTENSION pg_trgm CASCADE")
    assert query(database_url, made) == []
    async with connect(database_url) as engine:
        await migrate(engine)
        assert query(database_url, made) == before
        assert caplog.messages == ["created the index for parts of words"]
        await migrate(engine)
    assert len(caplog.messages) == 1


async def test_an_index_that_cannot_be_made_stops_no_migration(database_url, admin, caplog):
    admin.execute("DROP EXTENSION pg_trgm CASCADE")
    admin.execute("CREATE FUNCTION public.similarity(text, text) RETURNS real RETURN 1")
    async with connect(database_url) as engine:
        assert await migrate(engine) == (latest(), latest())
    assert caplog.messages == ["cannot create the index for parts of words"]


async def test_the_views_ask_nothing_that_stands_before_postgress_own(bare_database_url):
    with psycopg.connect(bare_database_url, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA like_others")
        admin.execute(
            "CREATE FUNCTION like_others.current_setting(text) RETURNS text"
            " LANGUAGE sql AS $$SELECT 'anything'$$"
        )
        admin.execute(
            "CREATE FUNCTION like_others.lower(int8range) RETURNS bigint"
            " LANGUAGE sql AS 'SELECT 5::bigint'"
        )
        path = "like_others, pg_catalog, public"
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET search_path = {path}")
    async with connect(bare_database_url) as engine:
        await migrate(engine)
    with psycopg.connect(bare_database_url, autocommit=True) as admin:
        admin.execute("DROP SCHEMA like_others CASCADE")
        assert admin.execute("SELECT count(*) FROM archive.gaps").fetchone() == (0,)


@pytest.mark.parametrize("revision", ["0001", "0003"])
async def test_an_older_schema_is_refused_with_the_command_to_run(bare_database_url, revision):
    async with connect(bare_database_url) as engine:
        await make_schema(engine)
        await upgrade_to(engine, command.upgrade, revision)
        with pytest.raises(SchemaMismatch, match=f"schema {revision}.*run: archiver migrate"):
            await check_schema(engine)


async def downgrade(engine: Engine, to: str = "base") -> None:
    await upgrade_to(engine, command.downgrade, to)


async def upgrade_to(engine: Engine, step: Callable[[Config, str], None], to: str) -> None:
    def run(connection: Connection) -> None:
        config = migrating._config()
        config.attributes["connection"] = connection
        step(config, to)

    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()


async def test_a_database_without_archive_is_refused_with_what_to_do(bare_database_url):
    async with connect(bare_database_url) as engine:
        with pytest.raises(SchemaMismatch, match="archiver migrate"):
            await check_schema(engine)


async def test_a_database_of_a_newer_release_is_refused_and_left_alone(database_url):
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("UPDATE store.schema_version SET version_num = '9999'")
    async with connect(database_url) as engine:
        for work in (check_schema, migrate):
            with pytest.raises(SchemaMismatch, match="9999"):
                await work(engine)
        assert issubclass(SchemaMismatch, ArchiverError)
    assert query(database_url, "SELECT version_num FROM store.schema_version") == [("9999",)]


def test_a_wheel_migrates_where_nothing_else_is(bare_database_url, tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "archiver/_migrations/env.py" in names
    assert not [name for name in names if name.startswith(("migrations/", "tests/"))]

    program = (
        "import asyncio, sys\n"
        "from archiver.store import engine, migrating\n"
        "async def main():\n"
        "    async with engine.connect(sys.argv[1]) as database:\n"
        "        print(migrating.__file__, *await migrating.migrate(database))\n"
        "asyncio.run(main())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, bare_database_url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        check=True,
        capture_output=True,
        text=True,
    )
    place, *revisions = ran.stdout.split()
    assert Path(place).is_relative_to(tmp_path / "site")
    assert revisions == ["None", latest()]
    assert query(bare_database_url, "SELECT count(*) FROM archive.messages") == [(0,)]


@pytest.mark.parametrize(
    ("arguments", "named", "told"),
    [
        (["upgrade", "head"], True, "run archiver migrate instead"),
        (["stamp", "head"], True, "run archiver migrate instead"),
        (["upgrade", "head", "--sql"], True, "run archiver migrate instead"),
        (["current"], True, "the database has no archive yet; run: archiver migrate"),
        (["current"], False, "set ARCHIVER_DATABASE_URL to the database"),
    ],
)
def test_alembic_by_hand_is_told_what_to_do_instead(bare_database_url, arguments, named, told):
    environ = {name: value for name, value in os.environ.items() if "ARCHIVER" not in name}
    if named:
        environ["ARCHIVER_DATABASE_URL"] = bare_database_url
    program = [sys.executable, "-m", "alembic", *arguments]
    ran = subprocess.run(
        program, cwd=ROOT, env=environ, check=False, capture_output=True, text=True
    )
    assert ran.returncode != 0
    assert told in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    assert query(bare_database_url, "SELECT to_regnamespace('store')") == [(None,)]
