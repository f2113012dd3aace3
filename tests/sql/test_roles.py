"""What the two roles can and cannot do, tested on connections as these roles.

Their names contain a space and capitals, so that a name that is not quoted fails here.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction

from archiver.ingest.apply import apply
from archiver.ingest.rebuild import check, rebuild
from archiver.simulator.server import Simulator
from archiver.store import asides, coverage, granting, inspecting, rejecting
from archiver.store.engine import connect, transaction
from archiver.store.granting import Granted, RolesRefused, grant
from archiver.store.migrating import migrate
from archiver.store.revision import check_schema, latest
from archiver.store.schema import metadata
from tests.conftest import created, named
from tests.ingest.applying import chapter, everything
from tests.ingest.arriving import NOW, new_flow, query
from tests.sql.conftest import PASSWORD, Command, Roles
from tests.test_daemon import Archive, archiving, settings_for
from tests.test_migrations import cut_off_while_it_waits, downgrade

ROOT = Path(__file__).parent.parent.parent
VIEWS = "SELECT table_name FROM information_schema.views WHERE table_schema = 'archive'"


def make(url: str, roles: Roles, admin: psycopg.Connection) -> Granted:
    """Make the roles with the command's own function, and let them log in."""

    async def run() -> Granted:
        async with connect(url) as engine:
            return await grant(engine, writer=roles.writer, reader=roles.reader)

    granted = asyncio.run(run())
    for name in (roles.writer, roles.reader):
        admin.execute(f"ALTER ROLE \"{name}\" PASSWORD '{PASSWORD}'")
    return granted


@pytest.fixture(scope="module")
def shared_url(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str, roles: Roles
) -> Iterator[str]:
    """A database with something in every table, in which the roles have their rights."""
    with created(postgres_admin, template_database) as name:
        url = named(postgres_url, name)
        make(url, roles, postgres_admin)
        asyncio.run(fill(url))
        yield url


async def fill(url: str) -> None:
    async with connect(url) as engine:
        await apply(engine, everything(await new_flow(engine)))


@pytest.fixture
def reader(shared_url: str, roles: Roles) -> Iterator[psycopg.Connection]:
    with psycopg.connect(roles.of(shared_url, roles.reader)) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def writer(shared_url: str, roles: Roles) -> Iterator[psycopg.Connection]:
    with psycopg.connect(roles.of(shared_url, roles.writer)) as connection:
        yield connection
        connection.rollback()


def test_a_reader_reads_every_view_without_naming_the_schema(reader, shared_url):
    views = [name for (name,) in query(shared_url, VIEWS)]
    assert "messages" in views
    for view in views:
        reader.execute(f"SELECT * FROM {view}")


def test_a_reader_asks_for_the_past(reader):
    told = reader.execute("SELECT content FROM messages_as_of('infinity')").fetchall()
    assert told == [("changed",)]


@pytest.mark.parametrize("table", [*metadata.tables, "store.schema_version"])
def test_a_reader_reads_no_table(reader, table):
    with pytest.raises(InsufficientPrivilege):
        reader.execute(f"SELECT * FROM {table}")


NOT_BY_READERS = [
    "UPDATE archive.flows SET name = 'mine'",
    "DELETE FROM archive.users",
    "INSERT INTO archive.rejects (reason) VALUES ('forged')",
    "UPDATE store.messages SET content = 'forged'",
    "TRUNCATE store.journal",
    "CREATE TABLE archive.mine ()",
    "CREATE VIEW archive.mine AS SELECT 1",
    "CREATE TABLE store.mine ()",
    "CREATE TABLE public.mine ()",
    "CREATE TEMPORARY TABLE mine ()",
    "SELECT 1 AS one INTO TEMPORARY mine",
    "DROP VIEW archive.messages",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
]


@pytest.mark.parametrize("statement", NOT_BY_READERS)
def test_a_reader_changes_nothing_even_after_lifting_its_defaults(reader, statement):
    with pytest.raises((ReadOnlySqlTransaction, InsufficientPrivilege)):
        reader.execute(statement)
    reader.rollback()
    reader.execute("SET default_transaction_read_only = off")
    reader.commit()
    with pytest.raises(InsufficientPrivilege):
        reader.execute(statement)


LARGE_OBJECTS = [
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'of any size')",
    "SELECT lo_put(lo_create(0), 0, 'of any size')",
]


@pytest.mark.parametrize("statement", LARGE_OBJECTS)
def test_a_reader_makes_no_large_object_where_that_is_forbidden(reader, shared_url, statement):
    (forbidding,) = re.findall(r"REVOKE EXECUTE [^;]*", (ROOT / "docs/sql.md").read_text())
    reader.execute("SET default_transaction_read_only = off")
    reader.commit()
    reader.execute(statement)
    reader.rollback()
    with psycopg.connect(shared_url, autocommit=True) as superuser:
        superuser.execute(forbidding)
        try:
            with pytest.raises(InsufficientPrivilege):
                reader.execute(statement)
            reader.rollback()
        finally:
            superuser.execute(forbidding.replace("REVOKE", "GRANT").replace("FROM", "TO"))


def test_the_sessions_of_a_reader_are_read_only_and_end_what_runs_on(reader):
    told = {name: reader.execute(f"SHOW {name}").fetchone()[0] for name in granting.READER_DEFAULTS}
    assert told == {
        "search_path": "archive",
        "default_transaction_read_only": "on",
        "statement_timeout": "1min",
        "idle_in_transaction_session_timeout": "10min",
    }
    reader.execute("SET statement_timeout = '10ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        reader.execute("SELECT count(*) FROM generate_series(1, 100000000)")


def test_a_view_of_a_later_release_is_the_readers_and_the_writers_too(reader, writer, shared_url):
    with psycopg.connect(shared_url, autocommit=True) as owner:
        owner.execute("CREATE VIEW archive.later AS SELECT 1 AS one")
        try:
            for role in (reader, writer):
                assert role.execute("SELECT one FROM archive.later").fetchall() == [(1,)]
                role.rollback()
        finally:
            owner.execute("DROP VIEW archive.later")


NOT_FOR_READERS = [
    ["status"],
    ["search", "changed"],
    ["export", "exported"],
    ["gaps"],
    ["rejects"],
    ["explain", "acme/main", "5"],
    ["rebuild", "--check"],
    ["import", "messages.json"],
    ["run"],
    ["backfill"],
    ["verify"],
]


def test_the_commands_that_query_work_for_a_reader_and_the_others_say_no(
    command: Command, shared_url, roles, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "messages.json").write_text("[]")
    url = roles.of(shared_url, roles.reader)
    asked = command("sql", "--json", "SELECT content FROM messages WHERE id = 5", url=url)
    assert (asked.status, json.loads(asked.out)) == (0, {"content": "changed"}), asked.err
    told = (
        f"the user {roles.reader!r} may only read the views, with archiver sql or any SQL client; "
        "for everything else, use another in ARCHIVER_DATABASE_URL, such as archiver_writer"
    )
    monkeypatch.setenv("ARCHIVER_TOKEN", "t")
    for other in NOT_FOR_READERS:
        refused = command(*other, url=url)
        assert (refused.status, refused.out) == (2, ""), other
        assert refused.err.split("\n")[-2] == f"archiver: error: {told}"
    monkeypatch.delenv("ARCHIVER_TOKEN")
    checked = command("check", "--json", url=url)
    assert checked.status == 1
    found = {one["subject"]: one for one in json.loads(checked.out)["results"]}
    assert (found["rights"]["verdict"], found["rights"]["told"]) == ("wrong", told)
    assert found["schema"]["verdict"] == "ok"


@pytest.fixture
def checked(
    database_url: str, roles: Roles, admin: psycopg.Connection, command: Command
) -> Callable[[], dict[str, str]]:
    """What ``archiver check`` reports to the writer as wrong, by subject."""
    make(database_url, roles, admin)

    def look() -> dict[str, str]:
        done = command("check", "--json", url=roles.of(database_url, roles.writer))
        found = json.loads(done.out)["results"]
        return {one["subject"]: one["told"] for one in found if one["verdict"] == "wrong"}

    return look


def test_a_right_that_the_daemon_will_need_is_missed_by_check(checked, admin, roles):
    assert checked().keys() == {"settings"}  # no account is configured
    admin.execute(f'REVOKE DELETE ON store.signals FROM "{roles.writer}"')
    assert checked()["rights"].endswith("lacks rights on store.signals")


def test_a_database_that_takes_nothing_is_told_by_check_and_left_as_it_was(
    checked, database_url, admin, monkeypatch
):
    monkeypatch.setitem(inspecting.PATIENCE_SECONDS, "lock_timeout", 0.1)
    assert checked().keys() == {"settings"}  # no account is configured
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE store.rejects IN EXCLUSIVE MODE")
        assert "due to lock timeout" in checked()["database"]
    assert admin.execute("SELECT count(*) FROM store.rejects").fetchone() == (0,)


def test_who_has_no_right_at_all_is_told_whom_to_name(
    command: Command, shared_url, roles, postgres_admin
):
    nobody = f"{roles.reader}_nobody"
    postgres_admin.execute(f"CREATE ROLE {nobody} LOGIN PASSWORD '{PASSWORD}'")
    try:
        refused = command("status", url=roles.of(shared_url, nobody))
    finally:
        postgres_admin.execute(f"DROP ROLE {nobody}")
    assert refused.status == 2
    assert "permission denied for schema archive; use a user in ARCHIVER_DATABASE_URL" in (
        refused.err
    )


NOT_BY_THE_WRITER = [
    "UPDATE store.journal SET event = 'forged'",
    "DELETE FROM store.journal",
    "TRUNCATE store.journal",
    "UPDATE store.rejects SET reason = 'forged'",
    "UPDATE store.file_parts SET bytes = ''",
    "DELETE FROM store.file_parts",
    "DELETE FROM store.files",
    "DELETE FROM store.attached",
    "DELETE FROM store.sightings",
    "DELETE FROM store.ledger",
    "DELETE FROM store.flows",
    "DELETE FROM store.users",
    "UPDATE store.pages SET proven = asked",
    "UPDATE store.signals SET at = now()",
    "UPDATE store.schema_version SET version_num = '9999'",
    "TRUNCATE store.messages",
    "TRUNCATE store.pages",
    "ALTER TABLE store.journal ADD COLUMN mine text",
    "CREATE INDEX ON store.messages (uuid)",
    "DROP TABLE store.threads",
    "CREATE TABLE store.mine ()",
    "CREATE TABLE archive.mine ()",
    "CREATE TEMPORARY TABLE mine ()",
    "CREATE OR REPLACE VIEW archive.schema_version AS SELECT '1' AS version",
    "CREATE TRIGGER mine BEFORE INSERT ON store.journal EXECUTE FUNCTION tsvector_update_trigger()",
    "CREATE ROLE mine",
]


@pytest.mark.parametrize("statement", NOT_BY_THE_WRITER)
def test_a_writer_neither_rewrites_the_record_nor_makes_tables(writer, statement):
    with pytest.raises(InsufficientPrivilege):
        writer.execute(statement)


def test_a_writer_is_told_its_rights_on_every_table():
    tables = {name.removeprefix("store.") for name in metadata.tables}
    assert granting.WRITES.keys() == tables | {"schema_version"}


async def test_a_writer_archives_prunes_rebuilds_and_places_rejects(shared_url, roles):
    async with connect(roles.of(shared_url, roles.writer)) as engine:
        await check_schema(engine)
        flow_key = await new_flow(engine)
        for number in range(2):
            await apply(engine, chapter(number, flow_key))
        async with transaction(engine) as tx:
            await asides.drop_signals(tx, before=NOW + timedelta(days=1))
            await coverage.drop_audits(tx, before=NOW, until=NOW)
            await rejecting.remove(tx, await rejecting.ids(tx))
        with psycopg.connect(shared_url, autocommit=True) as owner:
            forge = "UPDATE store.{} WHERE flow_key = %s"
            owner.execute(forge.format("messages SET content = 'forged'"), [flow_key])
            owner.execute(forge.format("revisions SET content = 'forged'"), [flow_key])
            owner.execute(forge.format("threads SET thread_id = 'forged'"), [flow_key])
            owner.execute(forge.format("messages SET id = id + 1000000"), [flow_key])
        assert [step async for step in rebuild(engine, flow_key) if step.differences]
        assert not [step async for step in check(engine, flow_key) if step.differences]


async def test_the_daemon_runs_as_the_writer(shared_url, roles):
    async with Simulator.start(
        seed=7, history=60, listing_delay_seconds=0.0, keepalive_seconds=1
    ) as flowdock:
        settings = settings_for(flowdock, roles.of(shared_url, roles.writer))
        with Archive(shared_url, flowdock) as archive:
            async with archiving(settings):
                await flowdock.connected()
                await flowdock.play(seed=3, events=150)
                await archive.completed()
            tables = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'store'"
            owners = archive.query(tables)
            kinds = dict(archive.query("SELECT event, count(*) FROM archive.events GROUP BY 1"))
    assert owners != [(roles.writer,)]
    assert kinds["message-edit"]
    assert kinds["tag-change"]


def test_roles_are_made_once_and_changed_defaults_are_kept(
    shared_url, roles, postgres_admin, reader
):
    postgres_admin.execute(
        f"ALTER ROLE {roles.reader} IN DATABASE {reader.info.dbname} SET statement_timeout = '5s'"
    )
    assert make(shared_url, roles, postgres_admin) == Granted(made=(), left=())
    with psycopg.connect(roles.of(shared_url, roles.reader)) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("5s",)


def test_archives_of_one_server_share_the_roles(database_url, shared_url, roles, postgres_admin):
    assert make(database_url, roles, postgres_admin).made == ()
    for url in (database_url, shared_url):
        query(roles.of(url, roles.reader), "SELECT * FROM messages")
        query(roles.of(url, roles.writer), "SELECT * FROM store.journal")


async def test_what_a_migration_adds_is_the_roles_without_asking(
    bare_database_url, roles, postgres_admin
):
    async with connect(bare_database_url) as engine:
        await migrate(engine)
        await grant(engine, writer=roles.writer, reader=roles.reader)
        async with transaction(engine) as tx:
            for view in ("messages", "gaps"):
                await tx.exec_driver_sql(
                    f'REVOKE ALL ON archive.{view} FROM "{roles.reader}", "{roles.writer}"'
                )
            await tx.exec_driver_sql(f'REVOKE ALL ON store.users FROM "{roles.writer}"')
            await granting.renew(tx)
    held = "SELECT has_table_privilege(%s, %s, %s)"
    with psycopg.connect(bare_database_url) as owner:
        for role, table, right in (
            (roles.reader, "archive.messages", "SELECT"),
            (roles.writer, "archive.gaps", "SELECT"),
            (roles.writer, "store.users", "UPDATE"),
        ):
            assert owner.execute(held, [role, table, right]).fetchone() == (True,)
        for table in ("store.users", "store.journal"):
            assert owner.execute(held, [roles.reader, table, "SELECT"]).fetchone() == (False,)


async def test_a_migration_that_is_cut_off_owes_the_roles_nothing(
    bare_database_url, roles, postgres_admin
):
    async with connect(bare_database_url) as engine:
        await migrate(engine)
        await grant(engine, writer=roles.writer, reader=roles.reader)
        await downgrade(engine, "-1")
        with psycopg.connect(bare_database_url) as blocker:
            blocker.execute(f'REVOKE ALL ON store.users FROM "{roles.writer}"')
            blocker.commit()
            # A grant on this table has to wait until this transaction has ended.
            blocker.execute(f'REVOKE ALL ON store.users FROM "{roles.reader}"')
            migrating = asyncio.create_task(migrate(engine))
            await cut_off_while_it_waits(migrating, bare_database_url)
            blocker.rollback()
        await migrate(engine)
    held = "SELECT has_table_privilege(%s, 'store.users', 'UPDATE')"
    assert query(bare_database_url, held, roles.writer) == [(True,)]


REFUSED = {
    "one name for both": ({"writer": "same", "reader": "same"}, "must be two roles"),
    "no name": ({"writer": "", "reader": "r"}, "use 1 to 63 letters"),
    "a name that Postgres would cut": ({"writer": "w" * 64, "reader": "r"}, "use 1 to 63 letters"),
    "a name of Postgres's own": (
        {"writer": "pg_w", "reader": "r"},
        "PostgreSQL reserves that name",
    ),
    "everybody": ({"writer": "w", "reader": "public"}, "PostgreSQL reserves that name"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_names_that_cannot_be_roles_are_refused(shared_url, case):
    names, told = REFUSED[case]
    async with connect(shared_url) as engine:
        with pytest.raises(RolesRefused, match=told):
            await grant(engine, **names)


async def test_whoever_can_do_everything_is_no_reader(shared_url, postgres_admin):
    async with connect(shared_url) as engine:
        with pytest.raises(RolesRefused, match="is a superuser"):
            await grant(engine, reader=postgres_admin.info.user)


def test_who_may_not_make_roles_is_told_what_to_let_others_do(
    command: Command, bare_database_url, postgres_admin, roles
):
    """This is the owner of a database on somebody else's server, from the refusal to the end."""
    names = Roles(writer=f"{roles.writer} 2", reader=f"{roles.reader}_2")
    owner = f"{roles.reader}_owner"
    database = psycopg.conninfo.conninfo_to_dict(bare_database_url)["dbname"]
    arguments = ["migrate", "--roles", "--writer", names.writer, "--reader", names.reader]
    postgres_admin.execute(f"CREATE ROLE {owner} LOGIN PASSWORD '{PASSWORD}'")
    try:
        postgres_admin.execute(f"ALTER DATABASE {database} OWNER TO {owner}")
        url = names.of(bare_database_url, owner)
        refused = command(*arguments, url=url)
        assert refused.status == 2
        assert f"the user '{owner}' may not create roles" in refused.err
        statements = [line.strip() for line in refused.err.splitlines() if "CREATE ROLE" in line]
        assert len(statements) == 2

        for statement in statements:
            postgres_admin.execute(statement)
        granted = command(*arguments, "--json", url=url)
        assert granted.status == 0, granted.err
        told = json.loads(granted.out)
        assert (told["before"], told["after"]) == (latest(), latest())
        assert told["roles"] == {"writer": names.writer, "reader": names.reader, "made": []}
        assert len(told["left"]) == len(granting.READER_DEFAULTS)
        for statement in told["left"]:
            postgres_admin.execute(statement)
        postgres_admin.execute(f"ALTER ROLE {names.reader} PASSWORD '{PASSWORD}'")
        assert query(names.of(bare_database_url, names.reader), "SELECT * FROM messages") == []
        again = command(*arguments, url=url)
        assert "existed already" in again.out
        assert "to be run by a user who may" not in again.out
    finally:
        postgres_admin.execute(f"ALTER DATABASE {database} OWNER TO CURRENT_USER")
        with psycopg.connect(bare_database_url, autocommit=True) as admin:
            for role in (owner, names.reader, names.writer):
                found = "SELECT FROM pg_roles WHERE rolname = %s"
                if admin.execute(found, [role]).rowcount:
                    admin.execute(f'DROP OWNED BY "{role}" CASCADE')
                    admin.execute(f'DROP ROLE "{role}"')


def test_the_command_makes_roles_and_says_so(command: Command, database_url, roles, postgres_admin):
    names = ["--writer", f"{roles.writer} 3", "--reader", f"{roles.reader}_3"]
    try:
        told = command("migrate", "--roles", *names, url=database_url)
        assert told.status == 0, told.err
        assert told.out.splitlines() == [
            f"schema already at {latest()}",
            f"role {names[1]} writes: created, without a password",
            f"role {names[3]} reads: created, without a password",
        ]
    finally:
        with psycopg.connect(database_url, autocommit=True) as admin:
            for role in (names[1], names[3]):
                admin.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')
