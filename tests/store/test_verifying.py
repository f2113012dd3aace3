"""What a verification asks of the stored messages."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import verifying
from archiver.store.engine import connect, transaction
from tests.ingest.arriving import NOW, SENT, edit, frame, new_flow, streamed


async def test_what_was_sent_since_a_time_begins_with_what_was_sent_at_that_time(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        arrivals = [streamed(frame(id_), flow_key) for id_ in (3, 5, 9)]
        await apply(engine, Batch(now=NOW, arrivals=arrivals))
        first = []
        for later in (0, 4, 5, 6, 10):
            since = datetime.fromtimestamp(SENT / 1000, UTC) + timedelta(milliseconds=later)
            async with transaction(engine) as tx:
                first.append(await verifying.first_since(tx, flow_key, since))
    assert first == [1, 4, 4, 6, 10]


async def first_since(database_url: str, sent: dict[int, int | None], since: int) -> int:
    """Where to begin for *since*; *sent* has times by id, all in milliseconds after SENT."""
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        frames = [
            frame(id_, sent=None if later is None else SENT + later) for id_, later in sent.items()
        ]
        arrivals = [streamed(one, flow_key) for one in frames]
        await apply(engine, Batch(now=NOW, arrivals=arrivals))
        moment = datetime.fromtimestamp(SENT / 1000, UTC) + timedelta(milliseconds=since)
        async with transaction(engine) as tx:
            return await verifying.first_since(tx, flow_key, moment)


@pytest.mark.parametrize(
    ("sent", "first"),
    [
        ({}, 1),
        ({3: 0, 5: 50, 9: 90}, 4),
        ({3: 0, 5: 50, 9: -(10**12)}, 4),
        ({3: 0, 5: -(10**12), 9: 90}, 6),
        ({3: 0, 5: None, 9: 90}, 4),
        ({3: 0, 5: 10, 9: None}, 6),
        ({3: 0, 5: 10, 9: 20}, 10),
        ({3: 10**12, 5: 0, 9: 90}, 1),
    ],
)
async def test_no_time_that_a_message_claims_hides_another(database_url, sent, first):
    assert await first_since(database_url, sent, 50) == first


async def test_what_was_sent_since_is_found_by_its_time(database_url):
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("""
            INSERT INTO store.messages (flow_key, id, event, sent_at, content, tags, edits, removed,
                                        as_of, revisions)
            SELECT 1, n, 'message', timestamptz '2020-01-01Z' + n * interval '1 minute', 'x', '{}',
                   0, false, n, 0
            FROM generate_series(1, 40000) AS n
        """)
        db.execute("ANALYZE store.messages")
    since = datetime(2020, 1, 27, tzinfo=UTC)
    explain = text("EXPLAIN (ANALYZE, FORMAT JSON) " + verifying._LAST_BEFORE.text)
    async with connect(database_url) as engine, transaction(engine) as tx:
        (plan,) = (await tx.execute(explain, {"flow_key": 1, "since": since})).scalar_one()
        assert await verifying.first_since(tx, 1, since) == 37440
    nodes = list(nodes_of(plan["Plan"]))
    assert {node.get("Index Name") for node in nodes} >= {"messages_sent"}
    assert max(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in nodes) < 3000


def nodes_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from nodes_of(inner)


async def test_a_page_full_is_counted_by_what_is_there(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        arrivals = [streamed(frame(id_), flow_key) for id_ in (3, 5, 7, 9)]
        arrivals.append(streamed(edit(11, 5, ""), flow_key))
        await apply(engine, Batch(now=NOW, arrivals=arrivals))
        async with transaction(engine) as tx:
            counted = [await verifying.nth(tx, flow_key, 1, 99, number=n) for n in (1, 2, 3, 4)]
    assert counted == [3, 7, 9, 99]
