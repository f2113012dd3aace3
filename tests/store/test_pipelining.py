"""Pipelined statements: all or nothing, with the usual errors, and one wait for all of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import text

from archiver.store.connection import Engine, driver_of
from archiver.store.engine import Fault, connect, fault, transaction
from archiver.store.fetching import rows_in
from archiver.store.pipelining import Statement, send
from tests.test_daemon import until

MADE = b"CREATE TABLE public.kept (id bigint, said text)"
KEPT = b"INSERT INTO public.kept VALUES ($1::bigint, $2::text)"
END_SLEEPERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'
"""
TOLD = b"SELECT id, length(said)::smallint FROM public.kept ORDER BY id"


def row(id_: int, said: str | None = None) -> Statement:
    return Statement(KEPT, [id_.to_bytes(8, signed=True), None if said is None else said.encode()])


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    async with connect(database_url, pool_size=1) as it:
        async with transaction(it) as tx:
            await tx.execute(text(MADE.decode()))
        yield it


async def kept(engine: Engine) -> list[tuple[int | None, ...]]:
    async with transaction(engine) as tx:
        (answer,) = await send(tx, [Statement(TOLD)])
        return rows_in(tx, answer)


async def test_each_is_done_after_the_one_before_and_its_answer_is_told(engine):
    async with transaction(engine) as tx:
        statements = [row(-(2**63), "à"), Statement(TOLD), row(7), Statement(TOLD)]
        answers = await send(tx, statements)
        assert [rows_in(tx, answer) for answer in answers] == [
            [],
            [(-(2**63), 1)],
            [],
            [(-(2**63), 1), (7, None)],
        ]
    assert await kept(engine) == [(-(2**63), 1), (7, None)]


async def test_a_large_one_goes_through_as_well(engine):
    async with transaction(engine) as tx:
        statements = [row(number, "x" * 3_000_000) for number in range(3)]
        await send(tx, [*statements, Statement(b"SELECT repeat('y', 5000000)")])
    async with transaction(engine) as tx:
        sizes = await tx.execute(text("SELECT sum(length(said)) FROM public.kept"))
        assert sizes.scalar_one() == 9_000_000


@pytest.mark.parametrize(
    ("refused", "expected", "kind"),
    [
        (Statement(b"SELECT $1::text", [b"a\0b"]), Fault.ROW, psycopg.DataError),
        (Statement(b"SELECT $1::json", [b"{"]), Fault.ROW, psycopg.DataError),
        (Statement(b"SELEC 1"), Fault.OURS, psycopg.ProgrammingError),
        (Statement(b"DO $$BEGIN RAISE 'x' USING ERRCODE = '53100'; END$$"), Fault.SERVER, None),
        (Statement(b"DO $$BEGIN RAISE 'x' USING ERRCODE = 'ZZ999'; END$$"), Fault.OURS, None),
    ],
)
async def test_what_is_refused_is_told_by_its_state_and_undoes_the_rest(
    engine, refused, expected, kind
):
    for _ in range(2):  # statements that the first round prepared must not get in the way
        with pytest.raises(psycopg.Error) as caught:
            async with transaction(engine) as tx:
                await send(tx, [row(1, "before"), refused, row(2, "after")], commits=True)
        assert fault(caught.value) is expected
        assert kind is None or isinstance(caught.value, kind)
        assert await kept(engine) == []
    async with transaction(engine) as tx:
        await send(tx, [row(3)])
    assert await kept(engine) == [(3, None)]


async def test_an_error_does_not_quote_what_was_said(engine):
    async with transaction(engine) as tx:
        await tx.execute(text("CREATE UNIQUE INDEX ON public.kept (said)"))
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        async with transaction(engine) as tx:
            await send(tx, [row(1, "a secret"), row(2, "a secret")])
    assert "secret" not in str(caught.value)


async def test_after_a_rollback_statements_are_known_anew(engine):
    for number in range(2):
        async with transaction(engine) as tx:
            await send(tx, [row(number)])
            await driver_of(tx).execute(TOLD, prepare=True)  # so that psycopg prepares one, too
            async with tx.begin_nested() as savepoint:
                await send(tx, [row(8)])
                await savepoint.rollback()
            await send(tx, [row(number)])
        with pytest.raises(RuntimeError):
            await left_in_the_midst(engine, [row(9)])
    assert await kept(engine) == [(0, None), (0, None), (1, None), (1, None)]


async def left_in_the_midst(engine: Engine, statements: list[Statement]) -> None:
    async with transaction(engine) as tx:
        await send(tx, statements)
        await driver_of(tx).execute(TOLD, prepare=True)
        raise RuntimeError


async def test_the_commit_goes_with_the_last_ones(engine, database_url):
    with psycopg.connect(database_url, autocommit=True) as other:
        async with transaction(engine) as tx:
            await send(tx, [row(1)])
            assert other.execute(TOLD).fetchall() == []
            await send(tx, [row(2)], commits=True)
            assert other.execute(TOLD).fetchall() == [(1, None), (2, None)]


async def test_behind_a_pooler_nothing_is_prepared_and_the_commit_comes_last(engine, database_url):
    with psycopg.connect(database_url, autocommit=True) as other:
        async with transaction(engine) as tx:
            driver_of(tx).prepare_threshold = None
            answers = await send(tx, [row(1), Statement(TOLD)], commits=True)
            assert rows_in(tx, answers[1]) == [(1, None)]
            assert other.execute(TOLD).fetchall() == []
            prepared = await tx.execute(text("SELECT count(*) FROM pg_prepared_statements"))
            assert prepared.scalar_one() == 0
        assert other.execute(TOLD).fetchall() == [(1, None)]


async def test_a_server_that_goes_away_meanwhile_is_the_servers_fault(engine, database_url):
    async def work() -> None:
        async with transaction(engine) as tx:
            await send(tx, [row(1), Statement(b"SELECT pg_sleep(30)")])

    task = asyncio.create_task(work())
    with psycopg.connect(database_url, autocommit=True) as admin:
        await until(lambda: bool(admin.execute(END_SLEEPERS).rowcount))
    with pytest.raises(psycopg.Error) as caught:
        await task
    assert fault(caught.value) is Fault.SERVER
    assert caught.value.sqlstate == "57P01"
    assert await kept(engine) == []


async def test_who_is_cancelled_meanwhile_leaves_as_cancelled(engine):
    async def work() -> None:
        async with transaction(engine) as tx:
            await send(tx, [row(1), Statement(b"SELECT pg_sleep(30)")])

    for _ in range(3):  # more often than the pool has connections
        task = asyncio.create_task(work())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(10):
        assert await kept(engine) == []


@pytest.mark.parametrize("more", [[], ["INSERT INTO public.kept VALUES (2)"]])
async def test_a_transaction_whose_connection_broke_is_refused_whoever_ignored_that(engine, more):
    """Else another connection would keep what follows the break, without what came before it."""

    async def work() -> None:
        async with transaction(engine) as tx:
            await send(tx, [row(1)])
            with suppress(psycopg.Error):
                await send(tx, [Statement(b"SELECT pg_terminate_backend(pg_backend_pid())")])
            for statement in more:
                await tx.execute(text(statement))

    with pytest.raises(psycopg.OperationalError) as caught:
        await work()
    assert fault(caught.value) is Fault.SERVER
    assert await kept(engine) == []
