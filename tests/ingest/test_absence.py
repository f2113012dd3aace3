"""A few vanished messages are marked as deleted, a bulk of them is not, however pages are cut."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.daemon import works
from archiver.domain.coverage import Ranges
from archiver.ingest import absence
from archiver.ingest.absence import MASS, sort_out
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.source import Source
from archiver.settings import Settings
from archiver.settings.account import Account
from archiver.settings.sections import BackfillSettings, DatabaseSettings
from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
from archiver.store.places import Place
from tests.ingest import arriving
from tests.ingest.arriving import query

THERE, GONE, REMOVED = "there", "gone", "removed"

_rows = st.lists(
    st.tuples(
        st.sampled_from([THERE, GONE, GONE, REMOVED]),
        st.booleans(),
        st.integers(1, 4) | st.integers(MASS - 1, MASS + 2),
    ),
    min_size=1,
    max_size=9,
)
"""Runs of messages: their state, whether they are inbox items, and how many there are."""


class Flow:
    """A flow of which an archive holds everything, and the service only a part."""

    def __init__(self, rows: Sequence[tuple[str, bool, int]]) -> None:
        states = [(state, is_inbox) for state, is_inbox, many in rows for _ in range(many)]
        self.held = [
            Place(id_, is_inbox, state == REMOVED, state == REMOVED)
            for id_, (state, is_inbox) in enumerate(states)
        ]
        self.there = {id_ for id_, (state, _) in enumerate(states) if state == THERE}

    async def show(self, id_: int) -> bytes | None:
        return b"{}" if id_ in self.there else None

    async def beside(self, place: Place, older: bool, with_inbox: bool) -> list[Place]:
        side = self.held[: place.id][::-1] if older else self.held[place.id + 1 :]
        return [one for one in side if with_inbox or not one.is_inbox][:MASS]

    def look_at(self, first: int, last: int) -> None:
        """List a part of the flow, and mark as deleted what has vanished, except in bulk."""
        held = self.held[first : last + 1]
        listed = {one.id for one in held} & self.there
        looking = sort_out(held, listed, show=self.show, beside=self.beside)
        absent, kept = asyncio.run(looking)
        assert sorted([*absent, *kept]) == [
            one.id for one in held if one.id not in listed and not one.is_deleted
        ]
        for id_ in (id_ for id_, frame in absent.items() if frame is None):
            self.held[id_] = replace(self.held[id_], is_deleted=True)

    def marked(self) -> set[int]:
        return {one.id for one in self.held if one.is_deleted and not one.is_removed}

    def by_themselves(self) -> set[int]:
        """What is gone, except in runs of more than MASS messages, in the flow or in its chat."""
        bulk: set[int] = set()
        for lane in (self.held, [one for one in self.held if not one.is_inbox]):
            for is_there, row in groupby(lane, lambda one: one.id in self.there):
                ids = [one.id for one in row]
                if not is_there and len(ids) > MASS:
                    bulk.update(ids)
        removed = {one.id for one in self.held if one.is_removed}
        return {one.id for one in self.held} - self.there - bulk - removed


@given(_rows, st.data())
def test_what_is_marked_does_not_depend_on_how_pages_cut_the_flow(rows, data):
    flow = Flow(rows)
    size = len(flow.held)
    cuts = sorted(data.draw(st.sets(st.integers(1, size - 1), max_size=6))) if size > 1 else []
    pages = [(first, last - 1) for first, last in pairwise([0, *cuts, size])]
    # Each page is listed repeatedly, in any order, as after restarts or by two daemons.
    for page in data.draw(st.permutations(pages)) + data.draw(st.permutations(pages)):
        flow.look_at(*page)
    assert flow.marked() == flow.by_themselves()


async def test_nothing_is_asked_for_when_nothing_is_missed():
    flow = Flow([(THERE, False, 9), (REMOVED, False, 2), (GONE, False, 3)])

    async def show(_: int) -> bytes | None:
        raise AssertionError("it was asked for")

    unmissed = {one.id for one in flow.held if not one.is_removed}
    assert await sort_out(flow.held, unmissed, show=show, beside=flow.beside) == ({}, [])


async def test_what_comes_back_while_it_is_asked_for_is_not_marked():
    flow = Flow([(GONE, False, 60)])
    asked = []

    async def show(id_: int) -> bytes | None:
        asked.append(id_)
        if len(asked) == 4:
            flow.there = {one.id for one in flow.held}
        return await flow.show(id_)

    absent, kept = await sort_out(flow.held[:5], (), show=show, beside=flow.beside)
    assert absent == dict.fromkeys(range(5), b"{}")
    assert kept == []


@asynccontextmanager
async def archived(
    database_url: str, *, integrations: bool = False, held: int = 60
) -> AsyncIterator[tuple[Simulator, Source, int, list[int]]]:
    """A flow of 60 messages, of which an archive holds the first *held*; and all their ids.

    With *integrations*, every third message is an inbox item.
    """
    async with Simulator.start(flows=1, listing_delay_seconds=0) as flowdock:
        flow, me = flowdock.world.flows[0], flowdock.me
        for number in range(60):
            if integrations and number % 3 == 0:
                flowdock.world.post(flow, None, {"subject": "a build"}, event="mail", app="influx")
            else:
                flowdock.world.post(flow, me, f"number {number}")
        account = Account(name="default", token=flowdock.token, api_url=flowdock.api_url)
        settings = Settings(
            data_dir=Path("/nonexistent"),
            accounts=(account,),
            database=DatabaseSettings(url=database_url),
            backfill=BackfillSettings(requests_per_second=1000),
        )
        async with connect(database_url) as engine, works(settings, engine) as shared:
            archive = shared.account(account)
            await archive.look_up()
            (flow_key,) = (key for key, path in archive.source.paths.items() if path == flow.path)
            ids = [message.id for message in flow.timeline]
            await archive.source.ask(flow_key, 1, ids[held - 1], newest=False, purpose="backfill")
            yield flowdock, archive.source, flow_key, ids


def deleted(database_url: str) -> set[int]:
    return {
        id_
        for (id_,) in query(database_url, "SELECT id FROM store.messages WHERE deleted_at NOTNULL")
    }


async def test_the_edge_of_a_bulk_belongs_to_the_bulk_and_people_are_followed(database_url):
    async with archived(database_url) as (flowdock, source, flow_key, ids):
        timeline = flowdock.world.flows[0].timeline
        for id_ in [*ids[10:40], ids[50], ids[52], ids[53]]:
            timeline.conceal(id_)
        # The first page and the last hold one message of the bulk each.
        for first, last in ((1, ids[10]), (ids[11], ids[38]), (ids[39], ids[-1])):
            await source.ask(flow_key, first, last, newest=False, purpose="audit")
        assert deleted(database_url) == {ids[50], ids[52], ids[53]}


async def test_inbox_items_that_outlive_a_bulk_do_not_hide_it(database_url):
    async with archived(database_url, integrations=True) as (flowdock, source, flow_key, ids):
        timeline = flowdock.world.flows[0].timeline
        for number, id_ in enumerate(ids[:40]):
            if number % 3 or number == 21:
                timeline.conceal(id_)
        await source.ask(flow_key, 1, ids[4], newest=False, purpose="audit")
        await source.ask(flow_key, ids[5], ids[-1], newest=False, purpose="audit")
        assert deleted(database_url) == {ids[21]}


async def test_what_another_flow_holds_is_neither_missed_nor_next_to_what_is(database_url):
    """Each flow has ids of its own."""
    async with archived(database_url) as (flowdock, source, flow_key, ids):
        other, last = await arriving.new_flow(source.engine), ids[-1]
        beyond = [arriving.frame(last + step) for step in range(1, MASS + 2)]
        heard = [arriving.streamed(one, other) for one in beyond]
        await apply(source.engine, Batch(now=arriving.NOW, arrivals=heard))
        flowdock.world.flows[0].timeline.conceal(last)
        await source.ask(flow_key, 1, last + 1, newest=True, purpose="audit")
        assert deleted(database_url) == {last}
        missed = "SELECT id FROM store.journal WHERE witness = 'show'"
        assert query(database_url, missed) == [(last,)]


@pytest.mark.parametrize("newest", [True, False])
async def test_an_empty_page_about_very_many_proves_them_part_by_part(
    database_url, monkeypatch, newest
):
    """The service has removed nearly all, and the archive keeps it: that must fit into memory."""
    monkeypatch.setattr(absence, "MOST_HELD", 25)
    async with archived(database_url) as (flowdock, source, flow_key, ids):
        for id_ in ids[:58]:
            flowdock.world.flows[0].timeline.conceal(id_)
        first, last, parts = 1, ids[57], []
        while first <= last:
            page = await source.ask(flow_key, first, last, newest=newest, purpose="audit")
            assert page.trouble is None
            parts.append(sum(id_ in page.proven for id_ in ids))
            first, last = (first, page.proven.first - 1) if newest else (page.proven.last + 1, last)
        assert parts == [25, 25, 8]
        assert deleted(database_url) == set()


HOLLOW = Fault(kind="hollow", on="rest", path="*/messages", frames=100)


async def test_a_page_that_lacks_what_is_there_proves_nothing(database_url):
    """The archive holds messages that the page of a service with an outdated index lacks."""
    async with archived(database_url, held=5) as (flowdock, source, flow_key, ids):
        flowdock.faults.add(HOLLOW)
        wrong = await source.ask(flow_key, 1, ids[-1], newest=False, purpose="backfill")
        assert flowdock.faults.fired == {"hollow": 1}
        assert wrong.trouble == "the page lacks 5 messages that exist"
        assert not wrong.proven
        held = query(database_url, "SELECT from_id, to_id FROM archive.coverage")
        assert held == [(1, ids[4])]
        errors = "SELECT error FROM store.pages WHERE error IS NOT NULL"
        assert query(database_url, errors) == [(wrong.trouble,)]

        right = await source.ask(flow_key, 1, ids[-1], newest=False, purpose="backfill")
        assert right.proven == Ranges(((1, ids[-1]),))


async def test_a_listing_that_lost_sight_of_many_that_are_there_lifts_no_doubt(
    database_url, caplog
):
    async with archived(database_url) as (flowdock, source, flow_key, ids):
        flowdock.faults.add(HOLLOW)
        wrong = await source.ask(flow_key, 1, ids[-1], newest=True, purpose="audit")
        assert flowdock.faults.fired == {"hollow": 1}
        assert wrong.trouble == "the page lacks 2 messages that exist"
        assert not wrong.proven
        assert deleted(database_url) == set()
        assert "vanished in bulk" not in caplog.text


@pytest.mark.parametrize("beyond", [1, 10**15])
async def test_what_is_shown_and_is_not_what_was_asked_for_is_rejected(database_url, beyond):
    async with archived(database_url) as (flowdock, source, flow_key, ids):
        timeline = flowdock.world.flows[0].timeline
        message = timeline.get(ids[3])
        assert message is not None
        message.encoded = arriving.frame(ids[-1] + beyond, flow=flowdock.world.flows[0].id)
        flowdock.faults.add(dataclasses.replace(HOLLOW, frames=1))
        wrong = await source.ask(flow_key, ids[2], ids[4], newest=False, purpose="audit")
        assert flowdock.faults.fired == {"hollow": 1}
        assert wrong.ids == (ids[2], ids[4])
        assert not wrong.proven
        assert query(database_url, "SELECT max(id) FROM store.journal") == [(ids[-1],)]


async def test_what_is_shown_and_cannot_be_read_proves_the_listing_wrong_as_well(database_url):
    async with archived(database_url) as (flowdock, source, flow_key, ids):
        message = flowdock.world.flows[0].timeline.get(ids[3])
        assert message is not None
        message.encoded = arriving.frame(ids[3], flow="another")
        flowdock.faults.add(dataclasses.replace(HOLLOW, frames=1))
        wrong = await source.ask(flow_key, ids[2], ids[4], newest=False, purpose="audit")
        assert flowdock.faults.fired == {"hollow": 1}
        assert not wrong.proven
        assert query(database_url, "SELECT count(*) FROM archive.rejects") == [(1,)]
        assert deleted(database_url) == set()


async def test_what_vanished_beyond_what_cannot_be_read_is_found(database_url):
    async with archived(database_url) as (flowdock, source, flow_key, ids):
        timeline = flowdock.world.flows[0].timeline
        message = timeline.get(ids[20])
        assert message is not None
        message.encoded = b'{"event": "message"}'
        for id_ in (ids[10], ids[30]):
            timeline.conceal(id_)
        read = await source.ask(flow_key, 1, ids[-1], newest=False, purpose="audit")
        assert ids[20] not in read.proven
        assert deleted(database_url) == {ids[10], ids[30]}
