"""Which flows are read, as they come and go."""

import asyncio

import psycopg

from archiver import daemon
from archiver.simulator.membership import leave
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
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
