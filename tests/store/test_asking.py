"""A query can do nothing but read, behind a pooler too, where nothing is prepared."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from sqlalchemy import event, text

from archiver.store.asking import QueryRefused, ask
from archiver.store.engine import Engine, connect, transaction
from archiver.store.sessions import is_pooled


@pytest.fixture(params=[False, True], ids=["direct", "pooled"])
async def engine(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    async with connect(database_url, pool_size=1) as it:
        if request.param:
            event.listen(it.sync_engine, "begin", _prepare_nothing)
        async with transaction(it) as tx:
            await tx.execute(text("CREATE TABLE kept AS SELECT 1 AS what"))
            assert is_pooled(tx) is request.param
        yield it


def _prepare_nothing(connection):
    connection.connection.driver_connection.prepare_threshold = None


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "SET TRANSACTION READ WRITE"])
async def test_nothing_can_end_the_transaction_that_only_reads(engine, end):
    query = f"SELECT 1; {end}; DELETE FROM kept; COMMIT"
    with pytest.raises(QueryRefused, match="one query at a time"):
        await ask(engine, query, schema="public", seconds=5)
    answer = await ask(engine, "SELECT what FROM kept", schema="public", seconds=5)
    assert answer.rows == [(1,)]


async def test_values_come_as_what_they_are(engine):
    query = (
        "SELECT 1.50 AS share, ARRAY['%s'] AS tags, DATE '2023-07-01' AS day, NULL AS nothing,"
        " '{\"a\": 1}'::jsonb AS content, '\\x00ff'::bytea AS raw, '10.0.0.0/8'::cidr::text,"
        " '2023-07-01T12:00:00Z'::timestamptz AS at, int8range(1, 3)::text, 'x'::\"char\""
    )
    answer = await ask(engine, query, schema="public", seconds=5)
    at = datetime(2023, 7, 1, 12, tzinfo=UTC)
    values = (Decimal("1.50"), ["%s"], date(2023, 7, 1), None, {"a": 1}, b"\0\xff", "10.0.0.0/8")
    assert answer.rows == [(*values, at, "[1,3)", "x")]
