"""The newest id of a flow is found, whatever its newest messages hold."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import daemon
from archiver.domain.coverage import Ranges
from archiver.ingest.ends import EndUnknown, find_end
from archiver.ingest.roster import Roster
from archiver.ingest.source import Source
from archiver.simulator.entities import Timeline
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
from tests.ingest.arriving import query
from tests.test_daemon import settings_for

UNREADABLE = b'{"event": null, "content": "no kind and no id"}'


@given(st.integers(0, 10**6), st.integers(0, 10**6) | st.integers(0, 2**53))
def test_the_end_is_found_by_what_lies_beyond(known, beyond):
    asked: list[int] = []

    async def is_beyond(id_: int) -> bool:
        asked.append(id_)
        return bool(id_ < known + beyond)

    end = asyncio.run(find_end(known, known + 2**53, is_beyond))
    assert end == known + beyond
    assert len(asked) <= 3 + 2 * beyond.bit_length()


@given(st.integers(0, 10**6), st.integers(1, 2**53))
def test_what_is_listed_beyond_all_is_no_end(known, distance):
    async def is_beyond(_: int) -> bool:
        return True

    with pytest.raises(EndUnknown):
        asyncio.run(find_end(known, known + distance, is_beyond))


class Look:
    """An empty archive, and a flow of some messages to look at."""

    def __init__(self, flowdock: Simulator, source: Source, roster: Roster, url: str) -> None:
        self.source, self.roster, self.url = source, roster, url
        self.timeline: Timeline = flowdock.world.flows[0].timeline
        (self.flow_key,) = source.paths
        self.ids = [one.id for one in self.timeline]

    def spoil(self, newest: int) -> None:
        """Make the service list the last *newest* messages in a form that cannot be read."""
        for id_ in self.ids[-newest:]:
            message = self.timeline.get(id_)
            assert message is not None
            message.encoded = UNREADABLE

    async def fill(self) -> None:
        """Wait until the known ids have settled, and list all of the flow."""
        await asyncio.sleep(self.source.heads.settling_seconds)
        await self.source.wanting()
        head = self.source.heads.newest(self.flow_key)
        await self.source.ask(self.flow_key, 1, head, newest=False, purpose="backfill")

    def errors(self) -> list[tuple[str, str | None]]:
        found = query(self.url, "SELECT purpose, error FROM store.pages ORDER BY page_key")
        return [(purpose, error) for purpose, error in found]


@pytest.fixture
async def look(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Look]:
    monkeypatch.setattr("archiver.ingest.source.STREAM_FIRST_SECONDS", 0.0)
    async with Simulator.start(flows=1, history=150, listing_delay_seconds=0) as flowdock:
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            account = shared.account(settings.require_accounts()[0])
            await account.look_up()
            yield Look(flowdock, account.source, account._roster, database_url)


@pytest.mark.parametrize("newest", [1, 7, 60])
async def test_newest_messages_that_cannot_be_read_hide_no_others(look, newest):
    look.spoil(newest)
    assert await look.source.look_at_head(look.flow_key) == look.ids[-1 - newest]
    assert look.source.heads.newest(look.flow_key) == look.ids[-1]
    await look.fill()
    gaps = query(look.url, "SELECT from_id, to_id FROM archive.gaps")
    assert Ranges.of(gaps).last == look.ids[-1]


async def test_a_flow_of_which_nothing_can_be_read_is_a_gap(look):
    look.spoil(len(look.ids))
    assert await look.source.look_at_head(look.flow_key) == 0
    assert look.source.heads.newest(look.flow_key) == look.ids[-1]
    await look.fill()
    assert query(look.url, "SELECT from_id, to_id FROM archive.gaps") == [(1, look.ids[-1])]
    assert query(look.url, "SELECT count(*) > 0 FROM archive.rejects") == [(True,)]


async def test_what_was_found_beyond_is_not_looked_for_again(look):
    look.spoil(3)
    asked = []
    page = look.source.client.page

    async def noted(*given, **wanted):
        asked.append(wanted)
        return await page(*given, **wanted)

    look.source.client.page = noted
    await look.source.look_at_head(look.flow_key)
    assert len(asked) < 20
    asked.clear()
    await look.source.look_at_head(look.flow_key)
    assert len(asked) == 3


async def test_that_nobody_can_tell_how_far_a_flow_has_come_is_noted(look):
    """The newest message cannot be read, and the service lists it whatever range is asked for."""
    look.spoil(1)
    page = look.source.client.page

    async def stubborn(*given, since=None, **wanted):
        return await page(*given, since=None, **wanted)

    look.source.client.page = stubborn
    for _ in range(2):
        assert await look.roster.look_at_head(look.flow_key) is None
    assert "new messages of this flow cannot be found" in look.source.untold[look.flow_key]
    assert look.source.heads.newest(look.flow_key) == look.ids[-2]
    assert look.errors() == [("head", look.source.untold[look.flow_key])]

    look.source.client.page = page
    look.source.untold.clear()  # as after a restart
    await look.roster.look_up()
    assert await look.roster.look_at_head(look.flow_key) == look.ids[-2]
    assert look.source.untold == {}
    assert look.errors()[1:] == [("head", None)]
