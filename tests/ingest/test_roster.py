"""Which flows are read, as they come and go."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg

from archiver import daemon
from archiver.simulator.membership import leave
from archiver.simulator.server import Simulator
from archiver.store import missing
from archiver.store.engine import connect
from archiver.store.reading import flow_reports
from tests.ingest.arriving import query, waits_for_lock
from tests.test_daemon import settings_for, until


async def test_a_flow_may_be_found_lost_while_another_is_ended(database_url):
    joined = "SELECT joined FROM store.flows"
    async with Simulator.start(flows=2, history=5) as flowdock:
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            account = shared.account(settings.require_accounts()[0])
            await account.look_up()
            with psycopg.connect(database_url) as holding:
                holding.execute("SELECT FROM store.flows FOR UPDATE")
                for flow in flowdock.world.flows:
                    leave(flowdock.world, flow, flowdock.me)
                looking = asyncio.create_task(account.look_up())
                await until(lambda: waits_for_lock(database_url))
                (other,) = account.source.paths
                losing = asyncio.create_task(account.source.lose(other, reason="refused"))
                await until(lambda: not account.source.paths)
            await asyncio.gather(looking, losing)
    assert query(database_url, joined) == [(False,), (False,)]


async def test_a_flow_that_was_left_while_nobody_looked_is_not_taken_for_read_for_ever(
    database_url, caplog
):
    joined = "SELECT path FROM store.flows WHERE joined"
    async with Simulator.start(flows=2, history=5) as flowdock:
        settings = settings_for(flowdock, database_url, private=False)
        left, kept = flowdock.world.flows
        async with connect(database_url) as engine:
            for days in (0, 0.9, 1.1):
                with psycopg.connect(database_url) as looking_back:
                    looking_back.execute(
                        "UPDATE store.flows SET last_seen_at = now() - %s", [timedelta(days=days)]
                    )
                async with daemon.works(settings, engine) as shared:
                    account = shared.account(settings.require_accounts()[0])
                    await account.look_up()
                    await account.look_up()
                if days == 0:
                    leave(flowdock.world, left, flowdock.me)
                read = {path for (path,) in query(database_url, joined)}
                assert read == ({kept.path} if days > 1 else {kept.path, left.path})
    assert [record.__dict__["flow"] for record in caplog.records] == [left.path]


async def test_no_flow_is_taken_for_lost_before_its_own_account_was_asked(database_url, caplog):
    """As after days in which no daemon ran."""
    async with Simulator.start(history=5) as mine, Simulator.start(history=5, seed=9) as theirs:
        both = [
            settings_for(mine, database_url, private=False),
            settings_for(theirs, database_url, private=False, name="other"),
        ]
        settings = replace(both[0], accounts=(*both[0].accounts, *both[1].accounts))
        async with connect(database_url) as engine:
            for days in (0, 2):
                with psycopg.connect(database_url) as looking_back:
                    looking_back.execute(
                        "UPDATE store.flows SET last_seen_at = now() - %s", [timedelta(days=days)]
                    )
                async with daemon.works(settings, engine) as shared:
                    accounts = [shared.account(one) for one in settings.require_accounts()]
                    for account in (*accounts, *accounts):
                        await account.look_up()
    assert caplog.records == []


async def test_no_flow_is_taken_for_lost_since_the_clock_was_set_back(database_url, caplog):
    ahead = [timedelta(0)]
    async with Simulator.start(flows=2, history=5) as flowdock:
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            shared.now = lambda: datetime.now(UTC) + ahead[0]
            account = shared.account(settings.require_accounts()[0])
            for ahead[0] in (timedelta(days=2), timedelta(0), timedelta(days=-2), timedelta(0)):
                await account.look_up()
    assert query(database_url, "SELECT joined FROM store.flows") == [(True,), (True,)]
    assert caplog.records == []


async def test_a_flow_that_is_found_empty_is_measured_and_noted_once(database_url):
    noted = "SELECT path FROM store.pages JOIN store.flows USING (flow_key) WHERE purpose = 'head'"
    async with Simulator.start(flows=2, listing_delay_seconds=0) as flowdock:
        empty, spoken = flowdock.world.flows
        flowdock.world.post(spoken, flowdock.me, "hello")
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine:
            for _ in range(2):
                async with daemon.works(settings, engine) as shared, engine.connect() as tx:
                    account = shared.account(settings.require_accounts()[0])
                    await account.look_up()
                    keys = account.source.paths
                    before = await missing.unmeasured(tx, keys)
                    await account.look_at_heads()
                    await account.look_at_heads()
                    after = await missing.unmeasured(tx, keys)
                    gaps = {
                        one.flow: one.gaps
                        for one in await flow_reports(tx, [*keys], now=shared.now(), exact=True)
                    }
                # How far the other goes is noted as time passes.
                assert {keys[key] for key in after} == {spoken.path}
                assert gaps == {empty.path: 0, spoken.path: None}
                assert query(database_url, noted) == [(empty.path,)]
                assert before >= after
