"""Connections: whose fault an error is, and what cancelling leaves behind."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from archiver.embedded import run_server
from archiver.errors import ArchiverError
from archiver.store.address import DatabaseUnreachable, parsed
from archiver.store.connection import Engine, driver
from archiver.store.engine import (
    DatabaseError,
    Fault,
    carried,
    connect,
    create_engine,
    fault,
    telling,
    transaction,
)
from archiver.store.pipelining import Statement, send
from archiver.store.rows import FEW_ROWS, Rows, add_rows, copy
from archiver.store.schema import rejects, signals
from archiver.store.sessions import (
    CARRIED,
    OURS,
    AnotherHistory,
    DatabaseHistory,
    Whereabouts,
    is_pooled,
)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    async with connect(database_url, pool_size=2) as it:
        yield it


async def raised(engine: Engine, statement: str, **parameters: object) -> Fault:
    with pytest.raises(DatabaseError) as caught:
        async with transaction(engine) as tx:
            await tx.execute(text(statement), parameters)
    assert isinstance(caught.value, DBAPIError | UnicodeError)
    return fault(caught.value)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1 / 0", Fault.ROW),
        ("SELECT '{'::jsonb", Fault.ROW),
        ("SELECT 9223372036854775807 + 1", Fault.ROW),
        ("SELECT repeat('a', 1024 * 1024 * 1024)", Fault.ROW),
        ("DO $$ BEGIN RAISE 'a trigger of somebody'; END $$", Fault.ROW),
        ("SELECT nothing", Fault.OURS),
        ("SELECT FROM store.nothing", Fault.OURS),
        ("SELEC 1", Fault.OURS),
        ("SET TRANSACTION READ ONLY; CREATE TABLE t ()", Fault.SERVER),
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(10)", Fault.SERVER),
        ("SELECT pg_terminate_backend(pg_backend_pid())", Fault.SERVER),
        ("DO $$ BEGIN RAISE 'full' USING ERRCODE = '53100'; END $$", Fault.SERVER),
        ("DO $$ BEGIN RAISE 'too long' USING ERRCODE = '25P04'; END $$", Fault.SERVER),
        ("DO $$ BEGIN RAISE 'deadlock' USING ERRCODE = '40P01'; END $$", Fault.SERVER),
    ],
)
async def test_the_state_that_postgres_tells_says_whose_fault_it_is(engine, statement, expected):
    assert await raised(engine, statement) is expected


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
async def test_what_the_client_cannot_send_is_the_rows_fault(engine, value):
    assert await raised(engine, "SELECT CAST(:value AS text)", value=value) is Fault.ROW


async def insert(tx, table, columns, rows):
    """Insert rows like `copy`, but with statements."""
    for at in range(0, len(rows), FEW_ROWS):
        await add_rows(tx, Rows(table, columns, rows[at : at + FEW_ROWS]))


@pytest.mark.parametrize("put", [copy, insert])
@pytest.mark.parametrize("broken", ["\0", "\ud800", 10**40, "{"])
async def test_what_is_refused_is_the_rows_fault_and_nothing_is_kept(engine, put, broken):
    values = {"flow_key": 1, "event": "e", "at": 0, "payload": "{}"}
    name = "flow_key" if isinstance(broken, int) else "payload" if broken == "{" else "event"
    rows = [tuple(values.values()), tuple({**values, name: broken}.values())]
    with pytest.raises(DatabaseError) as caught:
        async with transaction(engine) as tx:
            await put(tx, signals, list(values), rows)
    assert isinstance(caught.value, psycopg.Error | UnicodeError)
    assert fault(caught.value) is Fault.ROW
    async with transaction(engine) as tx:
        assert (await tx.execute(text("SELECT count(*) FROM store.signals"))).scalar() == 0


async def test_a_server_that_goes_away_while_rows_are_copied_is_the_servers_fault(
    engine, database_url
):
    with psycopg.connect(database_url, autocommit=True) as admin:

        def rows() -> Iterator[Sequence[object]]:
            for number in range(100_000):
                if number == 1000:
                    ended = admin.execute(
                        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                    assert ended.rowcount > 0
                yield (None, "x" * 1000, 0, "{}")

        with pytest.raises(DatabaseError) as caught:
            async with transaction(engine) as tx:
                await copy(tx, signals, ["flow_key", "event", "at", "payload"], rows())
    assert isinstance(caught.value, DBAPIError | psycopg.Error)
    assert fault(caught.value) is Fault.SERVER
    async with transaction(engine) as tx:
        assert (await tx.execute(text("SELECT count(*) FROM store.signals"))).scalar() == 0


NASTY = ["", "\\", "\\N", "\\.", "a\tb", "a\nb", "\r\n", "\b\f\v", "{}", '"', ",", "NULL", "\u2028"]


@pytest.mark.parametrize("put", [copy, insert])
async def test_new_values_are_what_they_were(engine, put):
    rows = [
        (0, origin, None if origin == "\\N" else origin, origin.encode() + b"\0\xff\\", n)
        for n, origin in enumerate(NASTY)
    ]
    names = ["received_at", "origin", "reason", "raw", "digest"]
    async with transaction(engine) as tx:
        await tx.execute(text("ALTER TABLE store.rejects ALTER reason DROP NOT NULL"))
        copied = [(*row[:4], row[4].to_bytes(16, "big")) for row in rows]
        await put(tx, rejects, names, copied)
        stored = await tx.execute(text("SELECT origin, reason, raw FROM store.rejects ORDER BY id"))
        assert [tuple(row) for row in stored] == [row[1:4] for row in rows]


@pytest.mark.parametrize("statement", ["SELECT pg_sleep(0.5)", "COPY"])
async def test_who_is_cancelled_in_a_transaction_leaves_as_cancelled(engine, statement):
    begun = asyncio.Event()

    def rows() -> Iterator[Sequence[object]]:
        while True:
            begun.set()
            yield (None, "x" * 1000, 0, "{}")

    async def work() -> None:
        async with transaction(engine) as tx:
            if statement == "COPY":
                await copy(tx, signals, ["flow_key", "event", "at", "payload"], rows())
            begun.set()
            await tx.execute(text(statement))

    for _ in range(5):  # more often than the pool has connections
        begun.clear()
        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(10), transaction(engine) as tx:
        assert (await tx.execute(text("SELECT count(*) FROM store.signals"))).scalar() == 0


@pytest.mark.parametrize("interruption", [SystemExit, KeyboardInterrupt])
async def test_a_signal_that_interrupts_a_statement_ends_the_transaction_as_itself(
    engine, interruption
):
    """The handler of SIGTERM may run while the task does, not only while it waits."""

    async def work() -> None:
        async with transaction(engine) as tx:
            await tx.execute(text("SELECT 1"))
            async with driver(tx) as connection:
                connection.pgconn.send_query(b"SELECT pg_sleep(10)")
            raise interruption

    async with asyncio.timeout(5):
        for _ in range(3):  # more often than the pool has connections
            with pytest.raises(interruption):
                await work()
        async with transaction(engine) as tx:
            assert (await tx.execute(text("SELECT 1"))).scalar() == 1


async def test_who_was_cancelled_before_it_began_leaves_nothing_behind(engine, caplog):
    async with transaction(engine) as tx:  # so that the pool has a connection to begin on
        await tx.execute(text("SELECT 1"))

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        async with transaction(engine) as tx:
            await send(tx, [Statement(b"SELECT pg_sleep(0.5)")])

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(work())
    assert not caplog.records


async def test_who_is_cancelled_leaves_as_cancelled_whatever_the_database_says(engine):
    begun = asyncio.Event()

    async def work() -> None:
        async with transaction(engine) as tx:
            begun.set()
            try:
                await asyncio.sleep(10)
            finally:
                await tx.execute(text("SELECT 1 / 0"))

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_was_not_cancelled_is_told_the_error_after_a_task_group_failed(engine):
    async def refuse() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse())
    # Older versions of Python leave the waiting task with a cancellation request that nobody made;
    # the others are given one here.
    task = asyncio.current_task()
    assert task is not None
    if not task.cancelling():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
    with pytest.raises(DBAPIError):
        async with transaction(engine) as tx:
            await tx.execute(text("SELECT 1 / 0"))
    while task.cancelling():
        task.uncancel()


async def test_a_transaction_that_raises_leaves_nothing_behind(engine):
    async def fail() -> None:
        async with transaction(engine) as tx:
            await tx.execute(text("CREATE TABLE public.t ()"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with transaction(engine) as tx:
        assert (await tx.execute(text("SELECT to_regclass('public.t')"))).scalar() is None


async def test_a_connection_that_carried_a_large_value_is_not_used_again(engine):
    async def session(*lengths: int) -> int:
        async with transaction(engine) as tx:
            carried(tx, lengths)
            return int((await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one())

    first = await session(10, 500_000, 700_000)
    assert await session(2_000_000) == first
    assert await session() != first


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/db", "http://host", "postgresql"])
def test_what_is_no_url_of_postgres_is_refused_with_the_settings_name(url):
    with pytest.raises(ArchiverError, match="ARCHIVER_DATABASE_URL"):
        parsed(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_all_names_of_postgres_lead_to_the_same_driver(scheme):
    assert parsed(f"{scheme}://host/db").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cr3t@127.0.0.1:1/db",
        "postgresql://me@127.0.0.1:1/db?password=s3cr3t&sslpassword=s3cr3t",
        "postgresql://me@127.0.0.1:1/db?oauth_client_secret=s3cr3t",
        "postgresql://me@127.0.0.1:1/db?options=-c%20a.b%3Ds3cr3t",
        "postgresql://me@name.invalid/db?pasword=s3cr3t",
    ],
)
async def test_a_server_that_is_not_there_is_told_without_its_password(url):
    with pytest.raises(DatabaseUnreachable) as caught:
        async with connect(url):
            pass
    assert f"me@{urlsplit(url).hostname}" in str(caught.value).replace("me:***@", "me@")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "advice"),
    [
        ("guest", "set ARCHIVER_DATABASE_PASSWORD, or put it into ARCHIVER_DATABASE_URL"),
        (
            "guest:wr0ng",
            "the server answers: correct the user in ARCHIVER_DATABASE_URL, or the pass",
        ),
        ("guest:s3cr3t", "the server answers: correct the user or the database in ARCHIVER_DAT"),
    ],
)
async def test_what_a_server_asks_for_is_told(choosy, user, advice):
    with pytest.raises(DatabaseUnreachable) as caught:
        async with connect(choosy.replace("archiver@", f"{user}@", 1)):
            pass
    assert f"; {advice}" in str(caught.value)


@pytest.fixture(scope="module")
def choosy(swift_module_path):
    """The URL of a server that wants a password from all other users, and refuses them anyway."""
    rules = swift_module_path / "rules"
    rules.write_text("local all archiver trust\nlocal all all scram-sha-256\n")
    home = swift_module_path / "home"
    with run_server(home, settings={"hba_file": str(rules)}) as server:
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute("CREATE ROLE guest LOGIN PASSWORD 's3cr3t'")
            admin.execute("REVOKE CONNECT ON DATABASE archiver FROM PUBLIC")
        yield server.url


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("server does not support SSL, but SSL was required", "enable encryption on the server"),
        ('root certificate file "/x.pem" does not exist', "correct sslmode or sslrootcert in"),
        ('invalid sslmode value: "bogus"', "correct sslmode in ARCHIVER_DATABASE_URL"),
        ('FATAL:  no pg_hba.conf entry for host "::1"', "the server answers: correct the user"),
        ('FATAL:  database "nowhere" does not exist', "create it, or correct its name"),
        (
            "connection failed: … failed: FATAL:  Datenbank »archive« existiert nicht",
            "the server answers: correct the user or the database in ARCHIVER_DATABASE_URL, or",
        ),
        ('… failed: ВАЖНО:  роль "me" не существует', "the server answers: correct the user or"),
        ("FATAL:  sorry, too many clients already", "the server has no connection left"),
        ("FATAL:  remaining connection slots are reserved", "the server has no connection left"),
        ("FATAL:  the database system is starting up", "the server is not ready: try again"),
        ("session is read-only", "use the primary, or turn default_transaction_read_only off"),
        ("Connection refused", "set ARCHIVER_DATABASE_URL to a PostgreSQL server that can be"),
    ],
)
def test_what_to_do_about_a_server_goes_by_what_is_said(said, advice):
    told = str(DatabaseUnreachable(parsed("postgresql://me@db.example/archive"), said))
    assert f"{said}; {advice}" in told


async def test_a_server_that_is_full_is_not_taken_for_one_with_other_rules(admin, database_url):
    admin.execute("CREATE ROLE crowded LOGIN PASSWORD 'many' CONNECTION LIMIT 0")
    url = parsed(database_url).set(username="crowded", password="many")
    try:
        with pytest.raises(DatabaseUnreachable, match="; the server has no connection left"):
            async with connect(url.render_as_string(hide_password=False)):
                pass
    finally:
        admin.execute("DROP ROLE crowded")


async def test_a_server_that_takes_no_changes_is_not_taken_for_one_that_is_away(
    admin, database_url
):
    admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_read_only = on")
    url = parsed(database_url).update_query_dict({"target_session_attrs": "read-write"})
    with pytest.raises(DatabaseUnreachable, match="; use the primary"):
        async with connect(url.render_as_string(hide_password=False)):
            pass


async def test_values_do_not_reach_the_texts_of_errors(database_url):
    engine = create_engine(database_url)
    with pytest.raises(DBAPIError) as caught:
        async with transaction(engine) as tx:
            await tx.execute(text("SELECT CAST(:value AS int) / 0"), {"value": 424242})
    await engine.dispose()
    assert "424242" not in str(caught.value)


async def test_who_waits_for_a_connection_is_not_turned_away(engine):
    assert engine.sync_engine.pool.timeout() is None


async def test_an_error_of_the_database_is_told_once_with_its_fault_and_its_state(
    database_url: str,
) -> None:
    told: list[tuple[Fault, str]] = []
    async with connect(database_url) as engine:
        watched = telling(engine, lambda whose, state: told.append((whose, state)))
        async with transaction(watched) as tx:
            await tx.execute(text("SELECT 1"))
        with pytest.raises(DBAPIError):
            async with transaction(watched) as tx:
                await tx.execute(text("SELECT 1/0"))
    gone = telling(
        create_engine("postgresql://127.0.0.1:9/none"),
        lambda whose, state: told.append((whose, state)),
    )
    with pytest.raises(OperationalError):
        async with transaction(gone):
            pass
    assert told == [(Fault.ROW, "22012"), (Fault.SERVER, "")]


async def test_a_session_that_stands_still_in_a_transaction_is_ended_and_others_go_on(database_url):
    async with connect(database_url, standstill_seconds=0.2) as engine:

        async def stand_still() -> None:
            async with transaction(engine) as tx:
                await tx.execute(text("LOCK TABLE store.ledger"))
                async with transaction(engine) as other:
                    await other.execute(text("UPDATE store.ledger SET due = 0"))
                await tx.execute(text("SELECT 1"))

        with pytest.raises(DatabaseError) as caught:
            await stand_still()
        assert isinstance(caught.value, DBAPIError)
        assert fault(caught.value) is Fault.SERVER
        async with transaction(engine) as tx:
            assert (await tx.execute(text("SELECT 1"))).scalar() == 1


ELSEWHERE = {
    "client_encoding": "'SQL_ASCII'",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "'iso_8601'",
    "TimeZone": "'Asia/Kathmandu'",
    "standard_conforming_strings": "off",
    "search_path": "public",
    "default_transaction_isolation": "'repeatable read'",
    "bytea_output": "'escape'",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "gin_fuzzy_search_limit": "1",
    "statement_timeout": "'1h'",
    "transaction_timeout": "'1h'",
    "lock_timeout": "'1h'",
    "idle_session_timeout": "'1h'",
    "idle_in_transaction_session_timeout": "'1h'",
}
"""Settings that a database may have for the sake of other programs."""


async def test_no_setting_of_the_database_reaches_sessions_of_ours(admin, database_url):
    known = {name for (name,) in admin.execute("SELECT name FROM pg_settings")}
    assert ELSEWHERE.keys() == {"client_encoding", *CARRIED, *OURS}
    for name in ELSEWHERE.keys() & known:
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET {name} = {ELSEWHERE[name]}")
    async with connect(database_url, standstill_seconds=15) as engine, transaction(engine) as tx:
        shown = await tx.execute(text("SELECT name, current_setting(name) FROM pg_settings"))
        found = {name: value for name, value in shown if name in ELSEWHERE}
        wanted = {"client_encoding": "UTF8", **CARRIED, **OURS}
        wanted |= {"idle_in_transaction_session_timeout": "15s"}
        assert found == {name: wanted[name] for name in found}
        assert found.keys() == ELSEWHERE.keys() & known
        assert not is_pooled(tx)


async def test_what_lies_in_other_schemas_is_not_taken_for_postgress_own(admin, database_url):
    admin.execute(
        "CREATE FUNCTION public.upper(int8multirange) RETURNS bigint LANGUAGE sql"
        " AS 'SELECT 5::bigint'"
    )
    async with connect(database_url) as engine, transaction(engine) as tx:
        asked = await tx.execute(text("SELECT upper('{[1,2)}'::int8multirange)"))
        assert asked.scalar_one() == 2


@pytest.mark.parametrize(
    ("told", "kept"), [("off", "local"), ("local", "local"), ("remote_apply", "remote_apply")]
)
async def test_what_is_committed_is_on_the_disk_whatever_the_server_is_set_to(
    database_url, postgres_admin, told, kept
):
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    postgres_admin.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = {told}')
    async with connect(database_url) as engine, transaction(engine) as tx:
        shown = await tx.execute(text("SELECT current_setting('synchronous_commit')"))
        assert shown.scalar_one() == kept


def history_of(engine: Engine) -> DatabaseHistory:
    history = engine.get_execution_options()["history"]
    assert isinstance(history, DatabaseHistory)
    return history


async def test_an_engine_works_on_one_history_and_on_no_other(database_url):
    async with connect(database_url) as engine:
        history = history_of(engine)
        assert history.timeline is not None
        history.check(Whereabouts(history.timeline, history.tables, history.position), before=0)
        history.check(Whereabouts(None, None, None), before=history.position)
        await engine.dispose()
        history.timeline = "that of a primary that is no more"
        with pytest.raises(AnotherHistory):
            await count_flows(engine)


async def test_a_server_that_has_come_less_far_than_before_is_an_earlier_one(database_url):
    async with connect(database_url) as engine:
        reached = history_of(engine).position
        assert reached > 0
        await engine.dispose()
        await count_flows(engine)
        await engine.dispose()
        history_of(engine).position += 2**40
        with pytest.raises(AnotherHistory):
            await count_flows(engine)


async def test_a_database_that_was_put_in_the_place_of_another_is_not_that(
    bare_database_url, postgres_admin
):
    name = psycopg.conninfo.conninfo_to_dict(bare_database_url)["dbname"]
    async with connect(bare_database_url) as engine:
        await engine.dispose()
        postgres_admin.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_before"')
        postgres_admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{name}_before"')
        try:
            with pytest.raises(AnotherHistory):
                async with engine.connect():
                    pass
        finally:
            postgres_admin.execute(f'DROP DATABASE "{name}_before"')


async def test_tables_that_are_made_anew_are_noticed_by_a_session_that_lasts(
    database_url, admin, monkeypatch
):
    async with connect(database_url) as engine:
        admin.execute("ALTER TABLE store.journal RENAME TO journal_before")
        admin.execute("CREATE TABLE store.journal (LIKE store.journal_before)")
        monkeypatch.setattr(history_of(engine), "looked_at", -math.inf)
        for _ in range(2):
            with pytest.raises(AnotherHistory):
                await count_flows(engine)


async def count_flows(engine: Engine) -> None:
    async with transaction(engine) as tx:
        await tx.execute(text("SELECT count(*) FROM store.flows"))
