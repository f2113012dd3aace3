"""Queries to Postgres: their parameters, and how their answers are read."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import BigInteger, Boolean, ColumnElement, DateTime, Numeric, cast, literal, select

from archiver.store.bulk import bigint, integer
from archiver.store.connection import Engine, driver_of
from archiver.store.engine import connect, transaction
from archiver.store.fetching import Query, fetch, query

BEGUN = datetime(1, 1, 1, tzinfo=UTC)
LARGE = 2**63 - 1

ASKED = Query.of("""
    SELECT CAST(%(number)s AS integer), CAST(%(large)s AS bigint), CAST(%(said)s AS text),
           CAST(%(number)s AS integer) + 1
""")
VALUES = {"number": integer(-7), "large": bigint(LARGE), "said": "größer".encode()}


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    async with connect(database_url) as engine:
        yield engine


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_a_parameter_that_is_named_twice_is_sent_once(engine, is_pooled):
    assert len(ASKED.about(VALUES).values) == 3
    async with transaction(engine) as tx:
        if is_pooled:
            driver_of(tx).prepare_threshold = None
        assert await fetch(tx, ASKED, VALUES) == [(-7, LARGE, "größer", -6)]


async def test_values_that_stand_in_a_statement_are_sent_as_what_they_are(engine):
    values: list[ColumnElement[Any]] = [
        literal(-5),
        literal(LARGE, BigInteger),
        literal("'", literal_execute=False),
        literal(BEGUN, DateTime(timezone=True)),
        cast(literal(True), Boolean),
    ]
    async with transaction(engine) as tx:
        assert await fetch(tx, query(select(*values))) == [(-5, LARGE, "'", BEGUN, True)]


def test_a_value_that_nobody_knows_how_to_send_is_refused_at_once():
    with pytest.raises(KeyError):
        query(select(literal(1, Numeric())))


async def test_answers_are_read_by_their_types(engine):
    asked = Query.of("""
        SELECT NULL::text, true, ARRAY['a', NULL, ''], '{"a": [1, null]}'::jsonb,
               '0001-01-01T00:00:00Z'::timestamptz, '\\x00ff'::bytea
        UNION ALL SELECT 'x', NULL, '{}', 'null', 'epoch', NULL
    """)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    async with transaction(engine) as tx:
        assert await fetch(tx, asked) == [
            (None, True, ["a", None, ""], {"a": [1, None]}, BEGUN, b"\0\xff"),
            ("x", None, [], None, epoch, None),
        ]
