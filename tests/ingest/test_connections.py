"""Which streams are followed while earlier ones of the same flows are still ending."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

from archiver import daemon
from archiver.domain.model import Flow, FlowId, UserId
from archiver.flowdock.refusals import ShardRefused
from archiver.flowdock.shards import Shard
from archiver.flowdock.stream import Occurrence, Opened
from archiver.ingest.connections import Connections, Follow, Lines
from archiver.ingest.directory import Choice
from archiver.ingest.intake import Began
from archiver.ingest.leases import EVERYTHING
from archiver.ingest.roster import Roster
from archiver.ingest.tally import AccountTally
from archiver.ingest.watch import Watch
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
from tests.ingest.arriving import LONG_AGO
from tests.test_daemon import settings_for, until


@asynccontextmanager
async def connecting(
    database_url: str, follow: Follow, *, private: bool
) -> AsyncIterator[tuple[Connections, Roster, AccountTally]]:
    """The connections of an account with one flow, and its roster and tally."""
    async with (
        Simulator.start(flows=1) as flowdock,
        connect(database_url) as engine,
        daemon.works(settings_for(flowdock, database_url), engine) as shared,
    ):
        (account,) = shared.settings.accounts
        tally = shared.tally.accounts[account.name]
        roster = Roster(
            shared.source(account),
            shared.names,
            tally=tally,
            choice=Choice(
                is_wanted=lambda _path: True, private=private, idle_patterns=lambda _paths: ()
            ),
            share=EVERYTHING,
            aside_seconds=1,
            now=daemon.utc_now,
        )
        lines = Lines(
            request_line_bytes=4096,
            follow=follow,
            names=shared.names,
            intake=shared.intake,
            tally=tally,
        )
        watch = Watch(every_seconds=1, settling_seconds=1)
        yield Connections(lines, roster, watch), roster, tally


async def test_a_stream_may_take_longer_to_end_than_the_one_after_it(database_url):
    door, opened = asyncio.Event(), 0

    async def follow(_shard: Shard) -> AsyncGenerator[Occurrence, None]:
        nonlocal opened
        opened += 1
        number = opened
        try:
            yield Opened(connection=1, answered_at=LONG_AGO)
            await asyncio.Event().wait()
        finally:
            if number == 1:
                await door.wait()

    async with (
        connecting(database_url, follow, private=False) as (connections, _roster, tally),
        asyncio.TaskGroup() as group,
    ):
        me = UserId("1")
        await connections.deal_out({1: "acme/main"}, me, group)
        await until(lambda: tally.opened == 1)
        await connections.deal_out({2: "acme/main"}, me, group)  # by now another flow's path
        await until(lambda: tally.opened == 2)
        await connections.deal_out({}, me, group)
        assert len(tally.links) == 1
        door.set()
        await until(lambda: not tally.links)


async def test_a_flow_whose_stream_is_refused_does_not_cost_private_messages_theirs(database_url):
    """The flow can still be read, so it stays among the flows that are wanted."""
    opened = []

    async def follow(shard: Shard) -> AsyncGenerator[Occurrence, None]:
        if shard.flows:
            raise ShardRefused(403)
        opened.append(shard)
        yield Opened(connection=1, answered_at=LONG_AGO)
        await asyncio.Event().wait()

    async with connecting(database_url, follow, private=True) as (connections, roster, _tally):
        me = (await roster.source.client.me()).id
        roster.begin(me)
        await roster.look_up()

        async def keep_following() -> None:
            async with asyncio.TaskGroup() as group:
                while True:
                    roster.stale.clear()
                    await connections.deal_out(roster.source.paths, me, group)
                    await roster.stale.wait()

        following = asyncio.create_task(keep_following())
        await until(lambda: opened == [Shard(private=True)])
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def test_a_stream_is_of_the_flows_that_its_account_sees_at_the_paths(database_url):
    """Another account may see another flow at the same path."""
    again = asyncio.Event()

    async def follow(_shard: Shard) -> AsyncGenerator[Occurrence, None]:
        yield Opened(connection=1, answered_at=LONG_AGO)
        await again.wait()
        yield Opened(connection=2, answered_at=LONG_AGO)
        await asyncio.Event().wait()

    async with (
        connecting(database_url, follow, private=False) as (connections, roster, tally),
        asyncio.TaskGroup() as group,
    ):
        await roster.look_up()
        names, intake = connections._lines.names, connections._lines.intake
        ((key, path),) = roster.source.paths.items()
        await connections.deal_out({key: path}, UserId("1"), group)
        await until(lambda: tally.opened == 1)
        theirs = Flow(id=FlowId("aaaaaaaa-0000-4000-8000-00000000000a"), path=path)
        await names.see([theirs], now=daemon.utc_now())
        assert names.known(FlowId(path)) != key
        again.set()
        await until(lambda: tally.opened == 2)
        await connections.deal_out({}, UserId("1"), group)
        items = await intake.take(most=9, enough=1, linger_seconds=0, patience_seconds=1)
        assert [one.flow_keys for one in items if isinstance(one, Began)] == [frozenset([key])] * 2
