"""The choice of flows changes while the daemon runs; flows that stay are followed all the while."""

import asyncio
import json

from archiver import daemon
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
from tests.test_daemon import Archive, settings_for, until

SIGNALS = "SELECT payload FROM archive.signals WHERE flow = %s AND event = 'activity.user'"


async def test_what_passes_while_a_flow_is_excluded_is_heard_and_the_flow_is_said_to_be_excluded(
    database_url, caplog
):
    caplog.set_level("INFO")
    async with (
        Simulator.start(
            flows=3, history=9, listing_delay_seconds=0, keepalive_seconds=1
        ) as flowdock,
        connect(database_url) as engine,
    ):
        kept, _, excluded = flowdock.world.flows
        before = settings_for(flowdock, database_url, private=False)
        after = settings_for(
            flowdock, database_url, private=False, flows=("*", f"!{excluded.path}")
        )
        stop, sent = asyncio.Event(), 0
        async with daemon.works(before, engine) as works:
            running = asyncio.create_task(daemon.archive(works, stop=stop))
            tally = works.tally.accounts["default"]
            await until(lambda: len(tally.matched_at) == 3)
            (old,) = flowdock.streams.connections
            works.replan(after)
            while old in flowdock.streams.connections or sent < 50:
                flowdock.world.signal(kept, flowdock.me, "activity.user", {"number": sent})
                sent += 1
                await asyncio.sleep(0.001)
            with Archive(database_url, flowdock) as archive:
                await until(lambda: len(archive.query(SIGNALS, kept.path)) >= sent)
                stop.set()
                await running
                heard = {json.dumps(payload) for (payload,) in archive.query(SIGNALS, kept.path)}

    assert tally.ended == {}
    assert len(heard) == sent
    told = [
        one
        for one in caplog.records
        if one.message in {"flow excluded by the settings", "flow can no longer be read"}
    ]
    assert [(one.message, one.__dict__["flow"]) for one in told] == [
        ("flow excluded by the settings", excluded.path)
    ]


async def test_what_the_replaced_stream_had_withheld_is_found(database_url):
    """It was open and brought nothing of an edit, and no later message can show that any more."""
    async with (
        Simulator.start(
            flows=2, history=9, listing_delay_seconds=0, keepalive_seconds=1
        ) as flowdock,
        connect(database_url) as engine,
    ):
        kept, excluded = flowdock.world.flows
        before = settings_for(flowdock, database_url, private=False)
        after = settings_for(
            flowdock, database_url, private=False, flows=("*", f"!{excluded.path}")
        )
        stop = asyncio.Event()
        async with daemon.works(before, engine) as works:
            running = asyncio.create_task(daemon.archive(works, stop=stop))
            with Archive(database_url, flowdock) as archive:
                await archive.completed()
                message = flowdock.world.post(kept, flowdock.me, "as it was")
                flowdock.world.post(kept, flowdock.me, "and more")
                await archive.completed()
                await archive.certain()
                with flowdock.world.unheard():
                    flowdock.world.edit(kept, message.id, "as it is")
                works.replan(after)
                said = "SELECT content FROM archive.messages WHERE flow = %s AND id = %s"
                await until(
                    lambda: archive.query(said, kept.path, message.id) == [("as it is",)],
                    seconds=20,
                )
            stop.set()
            await running
