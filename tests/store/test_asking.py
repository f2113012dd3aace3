"""A query can only read, also behind a pooler, where nothing is prepared."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event, text

from archiver.store import asking
from archiver.store.asking import Json, QueryRefused, ask
from archiver.store.connection import Engine
from archiver.store.engine import connect, transaction
from archiver.store.sessions import is_pooled


@pytest.fixture(params=[False, True], ids=["direct", "pooled"])
async def engine(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    async with connect(database_url, pool_size=1) as it:
        if request.param:
            event.listen(it.sync_engine, "begin", _prepare_nothing)
        async with transaction(it) as tx:
            await tx.execute(text("CREATE TABLE public.kept AS SELECT 1 AS what"))
            assert is_pooled(tx) is request.param
        yield it


def _prepare_nothing(connection):
    connection.connection.driver_connection.prepare_threshold = None


async def rows_of(engine: Engine, query: str, *, zone: str = "UTC") -> list[Sequence[Any]]:
    async with ask(engine, query, schema="public", seconds=5, zone=zone) as answer:
        return [row async for row in answer.rows]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "SET TRANSACTION READ WRITE"])
async def test_nothing_can_end_the_transaction_that_only_reads(engine, end):
    query = f"SELECT 1; {end}; DELETE FROM public.kept; COMMIT"
    with pytest.raises(QueryRefused, match="one query at a time"):
        await rows_of(engine, query)
    assert await rows_of(engine, "SELECT what FROM kept") == [(1,)]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT 1; SELECT 2", "one query at a time"),
        (
            "WITH gone AS (DELETE FROM public.kept RETURNING what) SELECT * FROM gone",
            "a query can only read the archive, not change it",
        ),
        ("SELECT * FROM nowhere", "Fehler; archiver sql --help names the views"),
    ],
)
async def test_a_server_may_speak_another_language(engine, monkeypatch, query, told):
    monkeypatch.setattr(asking, "first_line", lambda _error: "Fehler")
    with pytest.raises(QueryRefused) as caught:
        await rows_of(engine, query)
    assert str(caught.value).partition("\n")[0] == told


async def test_values_come_as_what_they_are(engine):
    query = (
        "SELECT 1.50 AS share, ARRAY['%s'] AS tags, DATE '2023-07-01' AS day, NULL AS nothing,"
        " '{\"a\": 1}'::jsonb AS content, '\\x00ff'::bytea AS raw, '10.0.0.0/8'::cidr::text,"
        " '2023-07-01T12:00:00Z'::timestamptz AS at, int8range(1, 3)::text, 'x'::\"char\""
    )
    rows = await rows_of(engine, query)
    at = datetime(2023, 7, 1, 12, tzinfo=UTC)
    values = (Decimal("1.50"), ["%s"], date(2023, 7, 1), None, '{"a": 1}', b"\0\xff", "10.0.0.0/8")
    assert rows == [(*values, at, "[1,3)", "x")]
    assert isinstance(rows[0][4], Json)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("'infinity'::timestamptz", "infinity"),
        ("'-infinity'::timestamp", "-infinity"),
        ("'infinity'::date", "infinity"),
        ("'0044-03-15 BC'::date", "0044-03-15 BC"),
        ("'0044-03-15 12:00Z BC'::timestamptz", "0044-03-15 13:39:49+01:39:49 BC"),
        ("'0001-01-01 00:00Z'::timestamptz", datetime(1, 1, 1, tzinfo=UTC)),
        ("'9999-12-31 23:00Z'::timestamptz", "10000-01-01 01:00:00+02"),
        ("'12000-01-01'::timestamp", "12000-01-01 00:00:00"),
        ("'24:00'::time", "24:00:00"),
        ("'24:00+02'::timetz", "24:00:00+02"),
        ("'1 year 2 mons -3 days'::interval", "1 year 2 mons -3 days"),
        ("'3 days 04:00'::interval", timedelta(days=3, hours=4)),
        ("'1000000000 days'::interval", "1000000000 days"),
        ("ARRAY['infinity', '2024-05-31']::date[]", ["infinity", date(2024, 5, 31)]),
        ("'[1e400, 1.10, {}]'::jsonb->1", "1.10"),
        ('\'{"a": 1e999,\n "a": 1.10}\'::json', '{"a": 1e999,\n "a": 1.10}'),
        ("ARRAY['1.10']::jsonb[]", ["1.10"]),
    ],
)
async def test_what_python_has_no_value_for_is_as_postgres_writes_it(engine, value, told):
    zone = "Europe/Helsinki"
    assert await rows_of(engine, f"SELECT {value}", zone=zone) == [(told,)]
