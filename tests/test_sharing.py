"""Two daemons on one archive: each flow has one stream, and the daemon that is left follows all."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from archiver import daemon
from archiver.domain.model import FlowId
from archiver.ingest.names import Names
from archiver.settings import Settings
from archiver.settings.sections import SharingSettings
from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
from tests.test_daemon import Archive, archiving, settings_for, until

FLOWS = 5
HOLDERS = "SELECT daemon, count(*) FROM archive.leases GROUP BY 1 ORDER BY 1"


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(
        seed=7, flows=FLOWS, history=50, listing_delay_seconds=0.0, keepalive_seconds=1
    ) as it:
        yield it


@pytest.fixture
def archive(database_url: str, flowdock: Simulator) -> Iterator[Archive]:
    with Archive(database_url, flowdock) as it:
        yield it


def sharing(
    flowdock: Simulator, archive: Archive, name: str, *, lease_seconds: float = 1, **account: Any
) -> Settings:
    settings = settings_for(flowdock, archive.url, **account)
    return replace(settings, sharing=SharingSettings(lease_seconds=lease_seconds, name=name))


def followed(flowdock: Simulator) -> Counter[str]:
    """The number of streams for each flow, and for private conversations."""
    found: Counter[str] = Counter()
    for connection in flowdock.streams.connections:
        found.update(connection.flows)
        found["private"] += connection.private
    return +found


async def test_each_flow_is_on_one_stream_of_one_daemon_and_on_the_others_when_it_stops(
    flowdock,
    archive,
):
    left, right = (sharing(flowdock, archive, name) for name in ("left", "right"))
    all_once = Counter([*(flow.id for flow in flowdock.world.flows), "private"])
    async with archiving(left):
        await until(lambda: followed(flowdock) == all_once)
        assert [name for name, _ in archive.query(HOLDERS)] == ["left"]
        async with archiving(right):
            await until(lambda: len(archive.query(HOLDERS)) == 2)
            await until(lambda: len(flowdock.streams.connections) == 2)
            await until(lambda: followed(flowdock) == all_once)
            shares = [number for _, number in archive.query(HOLDERS)]
            assert sum(shares) == len(all_once)
            assert max(shares) - min(shares) <= 1
            await flowdock.play(seed=11, events=200)
            await archive.completed()
        await until(lambda: followed(flowdock) == all_once)
        assert [name for name, _ in archive.query(HOLDERS)] == ["left"]
        flowdock.world.post(flowdock.world.flows[0], flowdock.me, "still there?")
        await archive.completed()
    assert archive.query(HOLDERS) == []


async def test_flows_of_which_no_stream_stands_are_told_as_long_as_that_is_so(flowdock, archive):
    unheard = "SELECT unnest(unheard) FROM archive.daemons ORDER BY 1"
    slots = "SELECT flow FROM archive.leases ORDER BY 1"
    async with archiving(sharing(flowdock, archive, "one")):
        await flowdock.connected()
        await until(lambda: archive.query(unheard) == [])
        flowdock.faults.add(Fault(kind="refuse", seconds=2.0))
        await until(lambda: archive.query(unheard) == archive.query(slots) != [])
        await until(lambda: archive.query(unheard) == [])


async def test_a_daemon_without_a_share_is_ready_and_one_that_shares_nothing_follows_all(
    flowdock,
    archive,
):
    flow = flowdock.world.flows[0]
    both = [
        sharing(flowdock, archive, name, lease_seconds=60, flows=(flow.path,), private=False)
        for name in ("left", "right")
    ]
    alone = replace(both[1], sharing=SharingSettings(enabled=False))
    stop = asyncio.Event()
    async with archiving(both[0]), connect(archive.url) as engine:
        await until(lambda: followed(flowdock) == {flow.id: 1})
        async with daemon.works(both[1], engine) as works:
            running = asyncio.create_task(daemon.archive(works, stop=stop))
            tally = works.tally.accounts["default"]
            await until(lambda: tally.elsewhere == 1)
            assert (tally.paths, tally.links) == ({}, set())
            stop.set()
            await running
        async with archiving(alone):
            await until(lambda: followed(flowdock) == {flow.id: 2})
            assert archive.query(HOLDERS) == [("left", 1)]


async def test_who_takes_over_knows_the_conversations_that_another_has_heard_of_since(
    flowdock, archive
):
    """Otherwise their doubts would not begin with the stream if the service does not list them."""
    begun = FlowId("private/1/77")
    settings = sharing(flowdock, archive, "right")
    async with connect(archive.url) as engine, daemon.works(settings, engine) as right:
        assert right.leases is not None
        await right.leases.see("default", {"acme/main"})
        await Names(engine).key(begun, now=daemon.utc_now())
        await right.leases.see("default", {"acme/main", "private/1"})
        assert right.names.known(begun) is not None
