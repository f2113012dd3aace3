"""Telling whose locks we wait for."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from archiver.embedded import run_server
from archiver.store import holdups
from archiver.store.connection import Engine
from archiver.store.engine import connect, transaction
from archiver.store.holdups import telling_of_holdups

RELEASED = "no lock is waited for any more"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What is waited for is logged soon."""
    monkeypatch.setattr(holdups, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(holdups, "NOTICE_SECONDS", 0.1)
    caplog.set_level(logging.INFO, "archiver.store.holdups")


@pytest.fixture
async def engine(quick: None, database_url: str) -> AsyncIterator[Engine]:
    async with connect(database_url, pool_size=1) as it, telling_of_holdups(it):
        yield it


@pytest.fixture(scope="module")
def preparing_url(swift_module_path: Path) -> Iterator[str]:
    """The URL of a server that can prepare a transaction, which most are not set up for."""
    with run_server(swift_module_path / "home", settings={"max_prepared_transactions": "1"}) as it:
        yield it.url


async def count(engine: Engine, table: str) -> None:
    async with transaction(engine) as tx:
        await tx.execute(text(f"SELECT count(*) FROM {table}"))


def told(caplog: pytest.LogCaptureFixture) -> dict[str, str | None]:
    """Whom each session that was logged waits for, by the name of its program."""
    return {
        vars(record)["program"]: vars(record).get("waits_for")
        for record in caplog.records
        if record.message == "waiting for a lock of another session"
    }


async def test_who_locks_a_table_is_logged_once(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(database_url, application_name="vacuuming") as other:
        other.execute("LOCK TABLE store.rejects")
        writing = asyncio.create_task(count(engine, "store.rejects"))
        await until(lambda: told(caplog) == {"vacuuming": None})
        facts = vars(caplog.records[0])
        assert (facts["pid"], facts["user"]) == (other.info.backend_pid, other.info.user)
        await asyncio.sleep(0.2)
    await writing
    await until(lambda: caplog.messages[1:] == [RELEASED])


async def test_who_queues_before_us_is_logged_with_whom_that_one_waits_for(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(database_url, application_name="reading") as reader:
        reader.execute("SELECT FROM store.rejects")
        altering = asyncio.create_task(lock_as("altering", database_url))
        await until(lambda: is_waiting("altering", database_url))
        writing = asyncio.create_task(count(engine, "store.rejects"))
        reading = str(reader.info.backend_pid)
        await until(lambda: told(caplog) == {"reading": None, "altering": reading})
    await asyncio.gather(altering, writing)
    await until(lambda: caplog.messages[2:] == [RELEASED])


async def test_a_prepared_transaction_is_logged(
    quick: None, preparing_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(preparing_url, autocommit=True) as other:
        other.execute("CREATE TABLE locked ()")
        other.execute("BEGIN; LOCK TABLE locked; PREPARE TRANSACTION 'forgotten'")
        async with connect(preparing_url) as engine, telling_of_holdups(engine):
            reading = asyncio.create_task(count(engine, "public.locked"))
            await until(lambda: "pg_prepared_xacts" in caplog.text)
            other.execute("COMMIT PREPARED 'forgotten'")
            await reading
            await until(lambda: caplog.messages[1:] == [RELEASED])


async def test_a_transaction_that_only_lasts_is_not_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with transaction(engine) as tx:
        await tx.execute(text("SELECT pg_sleep(0.4)"))
    assert not caplog.messages


async def lock_as(program: str, database_url: str) -> None:
    connecting = psycopg.AsyncConnection.connect(database_url, application_name=program)
    async with await connecting as connection:
        await connection.execute("LOCK TABLE store.rejects")


def is_waiting(program: str, database_url: str) -> bool:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'",
            [program],
        )
        return found.rowcount == 1


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
