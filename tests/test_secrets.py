"""No secret is kept: neither in the database, which may be stolen as a dump, nor in logs."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from archiver.simulator.server import Simulator
from archiver.simulator.wire import flow_object
from tests.test_daemon import Archive, archiving, settings_for, until

KEPT = "kept as it was said"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def everything(url: str) -> Iterator[str]:
    """Every row of every table, as text, with bytes shown as far as they can be read."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND relnamespace = 'store'::regnamespace"
        ).fetchall()
        for (table,) in tables:
            for row in connection.execute(f"TABLE {table}").fetchall():
                yield repr([bytes(one) if isinstance(one, memoryview) else one for one in row])


async def test_no_secret_of_a_flow_nor_the_token_is_kept(
    database_url: str, told: pytest.LogCaptureFixture
) -> None:
    async with Simulator.start(
        seed=7, history=60, listing_delay_seconds=0.0, keepalive_seconds=1
    ) as flowdock:
        world = flowdock.world
        flow, *_ = world.flows
        body = flow_object(flow, flowdock.me, users=True)
        assert {"api_token", "join_url"} <= body.keys()

        def event(kind: str, **more: Any) -> bytes:
            about = {"event": kind, "flow": flow.id, "user": "1", "content": body}
            return json.dumps({**about, "note": KEPT, **more}).encode()

        async with archiving(settings_for(flowdock, database_url)):
            await flowdock.connected()
            newest = flow.timeline.head
            frames = [
                event("flow-change", id=newest + 1),  # goes to the journal
                event("flow-add"),  # goes to the signals
                event("flow-change", id="none of ours"),  # goes to the rejects, like the next
                event("flow-change", id=newest + 2).replace(b'"access_mode"', b'"cut off'),
                event("message", id=newest + 3, content="with it", thread=body),
            ]
            for frame in frames:
                world.inject(flow, frame)
            rejects = "SELECT count(*) FROM archive.rejects"
            said = "SELECT count(*) FROM archive.messages WHERE content = 'with it'"
            with Archive(database_url, flowdock) as archive:
                await until(lambda: archive.query(rejects) == [(2,)])
                await until(lambda: archive.query(said) == [(1,)])
            await asyncio.sleep(0)
        secrets = {flowdock.token, *(one.api_token for one in world.flows)}
        secrets |= {one.invitation for one in world.flows}

    rows = list(everything(database_url))
    assert sum(KEPT in row for row in rows) == len(frames)
    assert sum("***" in row for row in rows) >= len(frames)
    assert told.records
    lines = [repr(vars(record)) for record in told.records]
    assert [row for row in (*rows, *lines) if any(secret in row for secret in secrets)] == []
