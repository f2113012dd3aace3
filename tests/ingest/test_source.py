"""How a page is requested decides what it proves and which doubts it lifts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace
from functools import partial
from itertools import count, product

import msgspec
import pytest

from archiver import daemon
from archiver.domain.coverage import Ranges
from archiver.domain.proportion import FARTHEST_JUMP, OUT_OF_PROPORTION
from archiver.flowdock.refusals import FlowRefused, StatusRefused
from archiver.ingest.absence import MASS, MOST_SHOWN
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.belonging import ANOTHER_FLOW
from archiver.ingest.emptiness import NOT_EMPTY
from archiver.ingest.ends import EndElsewhere
from archiver.ingest.lag import BEHIND
from archiver.ingest.source import Source
from archiver.settings.sections import IngestSettings
from archiver.simulator.entities import Message
from archiver.simulator.faults import Fault
from archiver.simulator.membership import join
from archiver.simulator.server import Simulator, wall_clock
from archiver.store import coverage, doubts, wanted
from archiver.store.connection import Transaction
from archiver.store.coverage import Standing
from archiver.store.engine import connect, transaction
from archiver.store.wanted import Wanting
from tests.ingest.arriving import (
    NOW,
    edit,
    fail_to_journal,
    frame,
    gone,
    listed,
    new_flow,
    query,
    streamed,
    tag_change,
)
from tests.test_daemon import settings_for, until

SETTLING_SECONDS = 20.0
Leap = Callable[[float], None]
POSITIONS = "SELECT as_of FROM store.pages UNION SELECT as_of FROM store.journal"
DOUBTED = "SELECT lower(doubted), upper(doubted) - 1 FROM store.ledger"


class Flowdock:
    """A service of one flow with a short history.

    It calls *while_listing* whenever it reads its clock, as it does to list.
    """

    def __init__(self) -> None:
        self.while_listing: Callable[[], None] = lambda: None
        self.simulator: Simulator

    def clock(self) -> int:
        self.while_listing()
        return wall_clock()


@pytest.fixture
async def flowdock() -> AsyncIterator[Flowdock]:
    it = Flowdock()
    async with Simulator.start(
        flows=1, history=20, listing_delay_seconds=0, clock=it.clock
    ) as it.simulator:
        yield it


@pytest.fixture
async def source(flowdock: Flowdock, database_url: str, leap: Leap) -> AsyncIterator[Source]:
    """The source of a flow that is known to be due up to its newest id.

    Its clock is the one that `leap` puts forward.
    """
    settings = replace(
        settings_for(flowdock.simulator, database_url, private=False),
        ingest=IngestSettings(settling_seconds=SETTLING_SECONDS),
    )
    async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
        account = shared.account(settings.require_accounts()[0])
        await account.look_up()
        (flow,) = flowdock.simulator.world.flows
        (flow_key,) = account.source.paths
        see(account.source, flow.timeline.head)
        async with transaction(engine) as tx:
            await coverage.advance(tx, {flow_key: Standing(due=flow.timeline.head)}, now=NOW)
        yield account.source


def key(source: Source) -> int:
    (flow_key,) = source.paths
    return flow_key


def see(source: Source, id_: int, *, seconds_ago: float = 60) -> None:
    source.heads.seen(key(source), id_, at=asyncio.get_running_loop().time() - seconds_ago)


async def open_stream(source: Source) -> None:
    async with transaction(source.engine) as tx:
        await doubts.open_streams(tx, [key(source)])


async def ask(source: Source, last: int) -> None:
    await source.ask(key(source), 1, last, newest=False, purpose="audit")


async def test_a_listing_has_the_position_that_had_settled(source, database_url):
    head = source.heads.newest(key(source))
    see(source, head + 5, seconds_ago=0)
    await ask(source, head)
    assert query(database_url, POSITIONS) == [(head,)]


async def test_a_listing_has_the_position_of_when_it_was_asked_for(flowdock, source, database_url):
    head = source.heads.newest(key(source))
    flowdock.while_listing = lambda: see(source, head + 9)
    await ask(source, head)
    assert source.heads.newest(key(source)) == head + 9
    assert query(database_url, POSITIONS) == [(head,)]


async def test_a_listing_lifts_the_doubts_of_a_stream_that_has_long_been_open(
    source, database_url, leap
):
    head = source.heads.newest(key(source))
    await open_stream(source)
    assert (await source.wanting())[key(source)].doubted == Ranges()
    await ask(source, head)
    assert query(database_url, DOUBTED) == [(1, head)]  # not all of it may have been listable yet

    leap(SETTLING_SECONDS)
    assert (await source.wanting())[key(source)].doubted == Ranges(((1, head),))
    await ask(source, head)
    assert query(database_url, DOUBTED) == [(None, None)]


async def test_a_listing_lifts_no_doubt_that_arose_while_it_was_asked_for(
    flowdock, source, database_url, leap
):
    head = source.heads.newest(key(source))
    faults = flowdock.simulator.faults
    faults.add(Fault(kind="silence", on="rest", path="*/messages", seconds=2.5 * SETTLING_SECONDS))
    asking = asyncio.create_task(ask(source, head))
    await until(lambda: faults.fired["silence"] == 1)
    await open_stream(source)
    await source.wanting()
    leap(SETTLING_SECONDS)
    assert not asking.done()
    leap(1.5 * SETTLING_SECONDS)
    await asking
    assert query(database_url, DOUBTED) == [(1, head)]


async def test_an_epoch_counts_from_when_it_is_learned(source, database_url, monkeypatch, leap):
    """It began while the database was being asked, so little of its settling time has passed."""
    head = source.heads.newest(key(source))
    read = wanted.wanting

    async def late(tx: Transaction, flow_keys: Collection[int]) -> dict[int, Wanting]:
        leap(SETTLING_SECONDS)
        await open_stream(source)
        return await read(tx, flow_keys)

    monkeypatch.setattr(wanted, "wanting", late)
    assert (await source.wanting())[key(source)].doubted == Ranges()
    await ask(source, head)
    assert query(database_url, DOUBTED) == [(1, head)]


async def test_a_listing_has_the_position_that_another_daemon_heard_of(source, database_url, leap):
    """Another daemon had the flow until a moment ago: nothing newer may ever come on our stream."""
    head = source.heads.newest(key(source))
    await source.wanting()
    change = streamed(edit(head + 5, head, "mended"), key(source))
    await apply(source.engine, Batch(now=NOW, arrivals=[change]))
    await open_stream(source)
    await source.wanting()
    leap(SETTLING_SECONDS)
    await ask(source, head)
    assert query(database_url, DOUBTED) == [(head, head)]  # the change may be newer than the page

    noted = Batch(now=NOW, gains={key(source): Standing(due=head + 5)})
    await apply(source.engine, noted)
    await source.wanting()
    await ask(source, head)
    assert query(database_url, DOUBTED) == [(None, None)]


@pytest.mark.parametrize("purpose", ["backfill", "audit"])
async def test_a_listing_outweighs_a_file_of_when_more_could_be_listed(
    flowdock, source, database_url, purpose
):
    """The newest messages in the file have been deleted since, so listings end below them."""
    timeline, head = flowdock.simulator.world.flows[0].timeline, source.heads.newest(key(source))
    *_, deleted, tagged = [one.id for one in timeline if one.event == "message"]
    files = [("older", head), ("old", head + 3)]
    for id_, (tag, as_of) in product((deleted, tagged), files):
        element = listed(frame(id_, tags=[tag]), key(source), as_of=as_of)
        found = msgspec.structs.replace(element, witness="import")
        await apply(source.engine, Batch(now=NOW, arrivals=[found]))
    timeline.remove(deleted)
    states = "SELECT id, tags, deleted_at IS NULL FROM archive.messages WHERE id = ANY (%s)"
    for tag in ("new", "newer"):
        flowdock.simulator.world.change_tags(
            flowdock.simulator.world.flows[0], tagged, add=[tag], remove=["new"]
        )
        await source.ask(key(source), 1, head, newest=True, purpose=purpose)
        told = {id_: rest for id_, *rest in query(database_url, states, [deleted, tagged])}
        assert told == {deleted: [["old"], False], tagged: [timeline.get(tagged).tags, True]}
        assert tag in timeline.get(tagged).tags


async def test_what_postgres_refuses_of_a_page_is_not_reported_as_proven(
    flowdock, source, database_url
):
    head = source.heads.newest(key(source))
    (flow,) = flowdock.simulator.world.flows
    refused = next(message.id for message in flow.timeline)
    fail_to_journal(database_url, refused, state="22023")
    reading = await source.ask(key(source), 1, head, newest=False, purpose="backfill")
    assert reading.trouble == "PostgreSQL refused 1 of the page's messages"
    assert refused not in reading.proven
    assert query(database_url, "SELECT reason FROM archive.rejects") == [("not to be kept",)]
    proven = query(database_url, "SELECT from_id, to_id FROM archive.coverage ORDER BY 1")
    assert Ranges.of(proven) == reading.proven


@pytest.mark.parametrize("purpose", ["backfill", "audit"])
async def test_a_path_that_leads_to_another_flow_by_now_tells_nothing_of_the_one_it_led_to(
    flowdock, source, database_url, purpose
):
    """The flow was renamed, a new one has its path, and flows have not been looked up since."""
    head = source.heads.newest(key(source))
    if purpose == "audit":
        await ask(source, head)
    messages = "SELECT id, content, deleted_at, as_of FROM store.messages ORDER BY id"
    stands = (messages, "SELECT * FROM archive.coverage")
    before = [query(database_url, stand) for stand in stands]

    replaced_by_another(flowdock)
    reading = await source.ask(key(source), 1, head, newest=False, purpose=purpose)
    assert reading.trouble == "2 messages of the page could not be read"
    with pytest.raises(FlowRefused):
        await source.ask(key(source), 9, head, newest=False, purpose=purpose)
    assert [query(database_url, stand) for stand in stands] == before
    assert query(database_url, "SELECT DISTINCT reason FROM archive.rejects") == [(ANOTHER_FLOW,)]


@pytest.mark.parametrize("purpose", ["backfill", "audit"])
async def test_an_empty_flow_that_has_taken_the_path_tells_nothing_of_the_one_that_had_it(
    flowdock, source, database_url, purpose
):
    """It lists nothing, so no message names it: the gap is not empty, the messages not deleted."""
    head = source.heads.newest(key(source))
    if purpose == "audit":
        await ask(source, head)
    stands = (
        "SELECT id, deleted_at FROM store.messages ORDER BY id",
        "SELECT * FROM archive.coverage",
    )
    before = [query(database_url, stand) for stand in stands]
    replaced_by_an_empty_one(flowdock)
    with pytest.raises(FlowRefused):
        await source.ask(key(source), 1, head, newest=False, purpose=purpose)
    assert [query(database_url, stand) for stand in stands] == before


async def test_how_far_another_flow_has_come_says_nothing_of_the_one_that_had_its_path(
    flowdock, source
):
    """Otherwise ids that this flow has yet to reach would be taken for ids without messages."""
    head = source.heads.newest(key(source))
    replaced_by_another(flowdock, head=head + 1000)
    with pytest.raises(EndElsewhere):
        await source.look_at_head(key(source))
    assert source.heads.newest(key(source)) == head


async def test_an_empty_flow_that_has_taken_the_path_says_nothing_of_how_far_the_other_has_come(
    flowdock, source
):
    """Otherwise a flow of which nothing is known yet would seem to be whole."""
    replaced_by_an_empty_one(flowdock)
    with pytest.raises(FlowRefused):
        await source.look_at_head(key(source))


@pytest.mark.parametrize("id_", ["acme:main", "acme:before"])
async def test_a_flow_of_an_old_id_that_has_taken_the_path_says_nothing_of_the_one_that_had_it(
    flowdock, source, database_url, id_
):
    """It was never listed, so nobody knows that its id is one, and not how a path is written."""
    head = source.heads.newest(key(source))
    replaced_by_another(flowdock, head=head + 1000, id_=id_)
    with pytest.raises(FlowRefused):
        await source.look_at_head(key(source))
    assert source.heads.newest(key(source)) == head
    with pytest.raises(FlowRefused):
        await source.ask(key(source), 1, head + 1001, newest=False, purpose="backfill")
    flowdock.simulator.faults.add(Fault(kind="status", on="rest", path="*/flows/*/main", times=0))
    source.client._limits = msgspec.structs.replace(source.client._limits, patience_seconds=0)
    with pytest.raises(StatusRefused):
        await source.ask(key(source), 1, head + 1001, newest=False, purpose="backfill")
    assert query(database_url, "SELECT * FROM store.messages") == []
    assert query(database_url, "SELECT * FROM archive.coverage") == []


async def test_messages_of_old_are_the_flows_though_another_has_the_path_that_they_name(
    flowdock, source, database_url
):
    """The flow was renamed, and its id was not yet one when they were sent."""
    head, flow_key = source.heads.newest(key(source)), key(source)
    (flow,) = flowdock.simulator.world.flows
    replaced_by_another(flowdock)
    for message in flow.timeline:
        message.encoded = frame(message.id, flow="acme:main")
    async with daemon.works(settings_for(flowdock.simulator, database_url), source.engine) as now:
        account = now.account(now.settings.require_accounts()[0])
        await account.look_up()
        assert account.source.paths[flow_key] == "acme/renamed"
        reading = await account.source.ask(flow_key, 1, head, newest=False, purpose="backfill")
    assert reading.trouble is None
    assert {id_ for (id_,) in query(database_url, "SELECT id FROM store.messages")} == set(
        reading.ids
    )


@pytest.mark.parametrize("asked", [("page", 1), ("page", 2), ("page", 3), ("show", 1)])
@pytest.mark.parametrize("other", ["empty", "unreadable"])
async def test_an_empty_page_proves_nothing_where_another_flow_takes_the_path_meanwhile(
    flowdock, source, database_url, monkeypatch, asked, other
):
    """The index lists nothing, and only Show Message tells that there is something."""
    head = source.heads.newest(key(source))
    ids = [one.id for one in flowdock.simulator.world.flows[0].timeline]
    await source.ask(key(source), ids[3], ids[8], newest=False, purpose="backfill")
    proven = query(database_url, "SELECT * FROM archive.coverage")
    lost = Fault(kind="hollow", on="rest", path="*/messages", frames=100, times=0)
    flowdock.simulator.faults.add(lost)

    def take() -> None:
        flowdock.simulator.faults.clear()
        (replaced_by_an_empty_one if other == "empty" else replaced_by_an_unreadable_one)(flowdock)

    kind, number = asked
    before_request(source, monkeypatch, kind, number, take)
    with pytest.raises(FlowRefused):
        await source.ask(key(source), ids[9], head, newest=False, purpose="backfill")
    assert query(database_url, "SELECT * FROM archive.coverage") == proven


async def test_nothing_has_vanished_since_another_flow_said_so_before_it_gave_the_path_back(
    flowdock, source, database_url, monkeypatch
):
    head = source.heads.newest(key(source))
    ids = [one.id for one in flowdock.simulator.world.flows[0].timeline]
    await ask(source, head)
    replaced_by_an_empty_one(flowdock)
    before_request(source, monkeypatch, "page", 2, lambda: gives_the_path_back(flowdock))
    reading = await source.ask(key(source), ids[-3], head, newest=False, purpose="audit")
    assert reading.trouble == NOT_EMPTY
    deleted = "SELECT id FROM archive.messages WHERE deleted_at IS NOT NULL"
    assert query(database_url, deleted) == []


@pytest.mark.parametrize("number", [2, 3])
async def test_a_range_is_not_empty_since_another_flow_said_so_before_it_gave_the_path_back(
    flowdock, source, database_url, monkeypatch, number
):
    ids = [one.id for one in flowdock.simulator.world.flows[0].timeline]
    replaced_by_an_empty_one(flowdock)
    before_request(source, monkeypatch, "page", number, lambda: gives_the_path_back(flowdock))
    reading = await source.ask(key(source), 1, ids[3], newest=False, purpose="backfill")
    assert reading.trouble == NOT_EMPTY
    assert query(database_url, "SELECT * FROM archive.coverage") == []


async def test_nothing_is_said_to_have_vanished_in_bulk_from_a_flow_whose_path_another_has(
    flowdock, source, caplog
):
    (flow,) = flowdock.simulator.world.flows
    for _ in range(MASS):
        flowdock.simulator.world.post(flow, flowdock.simulator.me, "said before")
    see(source, flow.timeline.head)
    await ask(source, flow.timeline.head)
    replaced_by_an_empty_one(flowdock)
    with pytest.raises(FlowRefused):
        await ask(source, flow.timeline.head)
    assert caplog.records == []


@pytest.mark.parametrize(("number", "other"), [(2, "empty"), (3, "longer"), (1, "unreadable")])
async def test_how_far_a_flow_has_come_is_not_looked_for_in_another_that_takes_the_path_meanwhile(
    flowdock, source, monkeypatch, number, other
):
    """The newest message cannot be read, so more is asked than once."""
    head = source.heads.newest(key(source))
    list(flowdock.simulator.world.flows[0].timeline)[-1].encoded = b'{"event": null}'
    takers = {
        "empty": lambda: replaced_by_an_empty_one(flowdock),
        "longer": lambda: replaced_by_another(flowdock, head=head + 1000),
        "unreadable": lambda: replaced_by_an_unreadable_one(flowdock, head=head + 1000),
    }
    before_request(source, monkeypatch, "page", number, takers[other])
    with pytest.raises((FlowRefused, EndElsewhere)):
        await source.look_at_head(key(source))
    assert source.heads.newest(key(source)) == head


async def test_how_far_a_flow_has_come_is_not_looked_for_in_another_that_gives_the_path_back(
    flowdock, source, monkeypatch
):
    head = source.heads.newest(key(source))
    list(flowdock.simulator.world.flows[0].timeline)[-1].encoded = b'{"event": null}'
    longer = partial(replaced_by_another, flowdock, head=head + 1000)
    before_request(source, monkeypatch, "page", 3, longer)
    before_request(source, monkeypatch, "page", 9, lambda: gives_the_path_back(flowdock))
    with pytest.raises(EndElsewhere):
        await source.look_at_head(key(source))
    assert source.heads.newest(key(source)) == head


def before_request(
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    number: int,
    happen: Callable[[], None],
) -> None:
    """Let something *happen* just before the service gets the *number*-th request of a *kind*."""
    request, numbers = getattr(source.client, kind), count(1)

    async def requested(*asked, **how):
        if next(numbers) == number:
            happen()
        return await request(*asked, **how)

    monkeypatch.setattr(source.client, kind, requested)


def replaced_by_an_unreadable_one(flowdock: Flowdock, *, head: int = 0) -> None:
    """As by another, of which what is listed cannot be read."""
    replaced_by_another(flowdock, head=head)
    for message in flowdock.simulator.world.flows[-1].timeline:
        message.encoded = b'{"event": null}'


def replaced_by_an_empty_one(flowdock: Flowdock) -> None:
    """As by another, of which nothing is listed."""
    replaced_by_another(flowdock)
    elsewhere = flowdock.simulator.world.flows[-1].timeline
    for message in list(elsewhere):
        elsewhere.remove(message.id)


def gives_the_path_back(flowdock: Flowdock) -> None:
    """Give the path back to the flow that had it before it was replaced by another."""
    world = flowdock.simulator.world
    world.directory.move_flow(world.flows[-1], "elsewhere")
    world.directory.move_flow(world.flows[0], "main")


def replaced_by_another(flowdock: Flowdock, *, head: int = 0, id_: str | None = None) -> None:
    """Rename the flow, and give its path to a new one that begins after *head*."""
    world, me = flowdock.simulator.world, flowdock.simulator.me
    world.directory.move_flow(world.flows[0], "renamed")
    new = world.directory.add_flow(world.flows[0].organization, slug="main", name="Main")
    if id_ is not None:
        del world.directory.flows[new.id]
        new.id = id_
        world.directory.flows[id_] = new
    new.timeline.head = head
    join(world, new, me)
    world.post(new, me, "said elsewhere")


async def test_a_head_out_of_all_proportion_is_not_believed(flowdock, source):
    (flow,) = flowdock.simulator.world.flows
    known = source.heads.newest(key(source))
    flow.timeline.head = 2**60
    flowdock.simulator.world.post(flow, flowdock.simulator.me, "from afar")
    assert await source.look_at_head(key(source)) == known
    assert source.heads.newest(key(source)) == known


async def test_an_element_of_a_page_that_is_out_of_all_proportion_is_rejected(
    flowdock, source, database_url
):
    head = source.heads.newest(key(source))
    (flow,) = flowdock.simulator.world.flows
    odd = next(message for message in flow.timeline)
    odd.id, odd.encoded = head + FARTHEST_JUMP + 1, None
    await ask(source, head)
    assert query(database_url, "SELECT reason FROM archive.rejects") == [(OUT_OF_PROPORTION,)]
    assert query(database_url, "SELECT max(id) <= %s FROM store.journal", head) == [(True,)]


async def test_nothing_is_concluded_from_a_flow_that_is_lost(flowdock, source, database_url):
    head = source.heads.newest(key(source))
    await ask(source, head)
    (flow,) = flowdock.simulator.world.flows
    gone = next(one.id for one in flow.timeline)

    def lose() -> None:
        """Serve one last page, which lacks a message, and then disable the flow."""
        flowdock.while_listing = lambda: None
        flow.timeline.remove(gone)
        flow.disabled = True

    flowdock.while_listing = lose
    with pytest.raises(FlowRefused):
        await ask(source, head)
    deleted = "SELECT id FROM archive.messages WHERE deleted_at IS NOT NULL AND id = %s"
    assert query(database_url, deleted, gone) == []


async def test_what_a_page_brings_is_kept_though_what_it_lacks_cannot_be_asked_for(
    flowdock, source, database_url
):
    timeline, head = flowdock.simulator.world.flows[0].timeline, source.heads.newest(key(source))
    messages = [one.id for one in timeline]
    await source.ask(key(source), messages[-1], head, newest=True, purpose="backfill")
    timeline.remove(messages[-1])
    flowdock.simulator.faults.add(Fault(kind="status", on="rest", path="*/messages/*", status=400))
    with pytest.raises(StatusRefused):
        await source.ask(key(source), 1, head, newest=True, purpose="backfill")
    held = "SELECT id FROM archive.messages WHERE deleted_at IS NULL ORDER BY id"
    assert query(database_url, held) == [(id_,) for id_ in messages]
    claimed = "SELECT from_id, to_id FROM archive.coverage"
    assert query(database_url, claimed) == [(messages[-1], head)]
    await source.ask(key(source), 1, head, newest=True, purpose="backfill")
    assert query(database_url, claimed) == [(messages[0], head)]


async def test_an_empty_page_proves_nothing_where_messages_are_listed(flowdock, source):
    faults = flowdock.simulator.faults
    faults.add(Fault(kind="hollow", on="rest", path="*/messages", frames=100))
    head = source.heads.newest(key(source))
    reading = await source.ask(key(source), 1, head, newest=False, purpose="backfill")
    assert faults.fired["hollow"] == 1
    assert (reading.proven, reading.trouble) == (Ranges(), NOT_EMPTY)
    reading = await source.ask(key(source), 1, head, newest=False, purpose="backfill")
    assert reading.proven == Ranges(((1, head),))


@pytest.mark.parametrize("first", [0, 1])
async def test_an_empty_page_proves_nothing_where_the_archive_knows_better(flowdock, source, first):
    """The index is down: nothing is listed, but each message can be shown."""
    held = [one.id for one in flowdock.simulator.world.flows[0].timeline][-10:]
    above, head = held[0] - 1, source.heads.newest(key(source))
    await source.ask(key(source), above + 1, head, newest=True, purpose="backfill")
    flowdock.simulator.faults.add(
        Fault(kind="hollow", on="rest", path="*/messages", frames=100, times=0)
    )
    asked = [(1, above), (head + 1, head + 9)][first]
    reading = await source.ask(key(source), *asked, newest=False, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), NOT_EMPTY)


async def test_an_empty_page_is_proof_when_all_that_was_held_is_gone(flowdock, source):
    head = source.heads.newest(key(source))
    timeline = flowdock.simulator.world.flows[0].timeline
    for one in list(timeline)[:-3]:
        timeline.remove(one.id)
    await source.ask(key(source), 1, head, newest=True, purpose="backfill")
    for one in list(timeline):
        timeline.remove(one.id)
    reading = await source.ask(key(source), 1, head, newest=False, purpose="backfill")
    assert reading.proven == Ranges(((1, head),))


async def test_an_empty_page_proves_nothing_though_messages_are_listed_above_it(flowdock, source):
    ids = [one.id for one in flowdock.simulator.world.flows[0].timeline]
    flowdock.simulator.faults.add(Fault(kind="hollow", on="rest", path="*/messages", frames=100))
    reading = await source.ask(key(source), 1, ids[5], newest=False, purpose="backfill")
    assert flowdock.simulator.faults.fired["hollow"] == 1
    assert (reading.proven, reading.trouble) == (Ranges(), NOT_EMPTY)


async def test_an_empty_page_proves_nothing_though_the_newest_message_is_just_at_its_beginning(
    flowdock, source
):
    newest = [one.id for one in flowdock.simulator.world.flows[0].timeline][-1]
    flowdock.simulator.faults.add(Fault(kind="hollow", on="rest", path="*/messages", frames=100))
    reading = await source.ask(key(source), newest, newest + 9, newest=False, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), NOT_EMPTY)


@pytest.mark.parametrize("kind", ["message", "inbox item"])
async def test_an_empty_page_proves_nothing_though_what_is_listed_is_all_above_it(
    flowdock, source, kind
):
    """The index has lost old messages: the one below can be shown, but is not listed any more."""
    (flow,) = flowdock.simulator.world.flows
    said = flow.timeline
    old = next(one.id for one in said if (one.app == "influx") is (kind == "inbox item"))
    await source.ask(key(source), old, old, newest=False, purpose="backfill")
    faults = flowdock.simulator.faults
    faults.add(Fault(kind="hollow", on="rest", path="*/messages", frames=100, times=2))
    reading = await source.ask(key(source), old + 1, old + 1, newest=False, purpose="backfill")
    assert faults.fired["hollow"] == 2
    assert (reading.proven, reading.trouble) == (Ranges(), NOT_EMPTY)


async def test_an_empty_page_is_proof_below_and_between_what_is_held(flowdock, source):
    timeline, head = flowdock.simulator.world.flows[0].timeline, source.heads.newest(key(source))
    ids = [one.id for one in timeline]
    for id_ in [*ids[:3], *ids[6:9]]:
        timeline.remove(id_)
    await source.ask(key(source), ids[3], head, newest=False, purpose="backfill")
    for first, last in ((1, ids[3] - 1), (ids[5] + 1, ids[9] - 1)):
        reading = await source.ask(key(source), first, last, newest=False, purpose="backfill")
        assert reading.proven == Ranges(((first, last),))


async def test_an_empty_page_proves_nothing_though_the_newest_that_was_held_is_deleted(
    flowdock, source
):
    timeline, head = flowdock.simulator.world.flows[0].timeline, source.heads.newest(key(source))
    await ask(source, head)
    newest = [one.id for one in timeline][-1]
    timeline.remove(newest)
    heard = gone(newest, key(source), as_of=head)
    await apply(source.engine, Batch(now=NOW, arrivals=[heard]))
    flowdock.simulator.faults.add(
        Fault(kind="hollow", on="rest", path="*/messages", frames=100, times=0)
    )
    reading = await source.ask(key(source), head + 1, head + 9, newest=False, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), NOT_EMPTY)


async def test_an_empty_page_proves_nothing_though_the_newest_that_was_held_are_gone_unheard(
    flowdock, source
):
    timeline, head = flowdock.simulator.world.flows[0].timeline, source.heads.newest(key(source))
    await ask(source, head)
    for id_ in [one.id for one in timeline][-3:]:
        timeline.remove(id_)
    flowdock.simulator.faults.add(
        Fault(kind="hollow", on="rest", path="*/messages", frames=100, times=0)
    )
    reading = await source.ask(key(source), head + 1, head + 9, newest=False, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), NOT_EMPTY)


async def test_an_empty_page_is_proof_behind_a_message_that_cannot_be_read(flowdock, source):
    timeline, head = flowdock.simulator.world.flows[0].timeline, source.heads.newest(key(source))
    list(timeline)[-1].encoded = b'{"event": null}'
    reading = await source.ask(key(source), head + 1, head + 9, newest=False, purpose="backfill")
    assert reading.proven == Ranges(((head + 1, head + 9),))


@pytest.mark.parametrize("newest", [True, False])
async def test_the_end_of_a_page_proves_nothing_while_what_was_heard_since_is_not_listed(
    flowdock, source, newest
):
    """This happens after an outage, while the index is catching up."""
    head = source.heads.newest(key(source))
    missed, heard = say_unlisted(flowdock), say_unlisted(flowdock)
    await hear(source, heard)
    first = head - 5 if newest else head + 1
    asked = (key(source), first, heard.id - 1)
    reading = await source.ask(*asked, newest=newest, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), BEHIND)
    missed.listable_at = heard.listable_at = 0
    reading = await source.ask(*asked, newest=newest, purpose="backfill")
    assert reading.ids[-1] == missed.id
    reading = await source.ask(key(source), missed.id, heard.id, newest=True, purpose="backfill")
    assert reading.proven == Ranges(((missed.id, heard.id),))


async def test_nor_does_it_while_a_message_is_not_listed_that_was_read_since(flowdock, source):
    head, missed = source.heads.newest(key(source)), say_unlisted(flowdock)
    read = tag_change(missed.id + 1, missed.id, remove=[":unread:7"])
    await apply(source.engine, Batch(now=NOW, arrivals=[streamed(read, key(source))]))
    asked = (key(source), head + 1, missed.id)
    reading = await source.ask(*asked, newest=False, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), BEHIND)
    flowdock.simulator.world.flows[0].timeline.remove(missed.id)
    reading = await source.ask(*asked, newest=False, purpose="backfill")
    assert reading.proven == Ranges(((head + 1, missed.id),))


async def test_nor_does_it_where_many_that_were_heard_first_are_known_to_be_deleted(
    flowdock, source
):
    head, missed = source.heads.newest(key(source)), say_unlisted(flowdock)
    for _ in range(MOST_SHOWN):
        deleted = say_unlisted(flowdock)
        await hear(source, deleted)
        absent = gone(deleted.id, key(source), as_of=deleted.id)
        await apply(source.engine, Batch(now=NOW, arrivals=[absent]))
        flowdock.simulator.world.flows[0].timeline.remove(deleted.id)
    await hear(source, say_unlisted(flowdock))
    asked = (key(source), head + 1, missed.id)
    reading = await source.ask(*asked, newest=False, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), BEHIND)


async def test_nor_does_it_where_what_was_read_since_is_just_above_what_is_listed(flowdock, source):
    (flow,), head = flowdock.simulator.world.flows, source.heads.newest(key(source))
    last = flowdock.simulator.world.post(flow, flowdock.simulator.me, "listed")
    flowdock.simulator.world.listing_delay_ms = 60_000
    missed = flowdock.simulator.world.post(flow, flowdock.simulator.me, "not listed yet")
    assert missed.id == last.id + 1
    read = tag_change(missed.id + 1, missed.id, remove=[":unread:7"])
    await apply(source.engine, Batch(now=NOW, arrivals=[streamed(read, key(source))]))
    reading = await source.ask(key(source), head + 1, missed.id, newest=True, purpose="backfill")
    assert reading.ids == (last.id,)
    assert (reading.proven, reading.trouble) == (Ranges(), BEHIND)


async def test_nor_does_it_while_an_inbox_item_is_not_listed_that_was_heard_since(flowdock, source):
    head, heard = source.heads.newest(key(source)), say_unlisted(flowdock)
    await hear(source, heard, app="influx")
    asked = (key(source), head + 1, heard.id - 1)
    reading = await source.ask(*asked, newest=False, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), BEHIND)


async def test_nor_does_it_though_another_flow_holds_a_message_of_the_same_id(flowdock, source):
    head, missed = source.heads.newest(key(source)), say_unlisted(flowdock)
    namesake = streamed(frame(missed.id), await new_flow(source.engine))
    read = tag_change(missed.id + 1, missed.id, remove=[":unread:7"])
    heard = [namesake, streamed(read, key(source))]
    await apply(source.engine, Batch(now=NOW, arrivals=heard))
    asked = (key(source), head + 1, missed.id)
    reading = await source.ask(*asked, newest=False, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), BEHIND)


@pytest.mark.parametrize("gone", ["many older ones", "a newer one that was often read"])
async def test_nor_does_it_where_others_that_were_read_since_are_gone(flowdock, source, gone):
    head = source.heads.newest(key(source))
    said = [say_unlisted(flowdock).id for _ in range(MOST_SHOWN + 1)]
    *older, newest = said
    removed = older if gone == "many older ones" else [*older[1:], newest]
    for id_ in removed:
        flowdock.simulator.world.flows[0].timeline.remove(id_)
    read = said if gone == "many older ones" else [older[0], *[newest] * MOST_SHOWN]
    heard = [
        streamed(tag_change(newest + at, id_, remove=[":unread:7"]), key(source))
        for at, id_ in enumerate(read, start=1)
    ]
    await apply(source.engine, Batch(now=NOW, arrivals=heard))
    reading = await source.ask(key(source), head + 1, newest, newest=False, purpose="backfill")
    assert (reading.proven, reading.trouble) == (Ranges(), BEHIND)


@pytest.mark.parametrize("ahead", [0, 1000])
async def test_nor_does_it_where_another_flow_takes_the_path_meanwhile(
    flowdock, source, monkeypatch, ahead
):
    """It shows none of what was heard, and may have come further; neither says anything of this."""
    head = source.heads.newest(key(source))
    _, heard = say_unlisted(flowdock), say_unlisted(flowdock)
    await hear(source, heard)
    page = source.client.page

    async def page_of_before(*asked, **how):
        found = await page(*asked, **how)
        monkeypatch.undo()
        flowdock.simulator.world.listing_delay_ms = 0
        replaced_by_another(flowdock, head=ahead)
        return found

    monkeypatch.setattr(source.client, "page", page_of_before)
    with pytest.raises(FlowRefused):
        await source.ask(key(source), head - 5, heard.id - 1, newest=True, purpose="backfill")


@pytest.mark.parametrize("heard_since", ["deleted", "unsettled"])
async def test_it_is_proof_when_what_was_heard_since_need_not_be_listed(
    flowdock, source, heard_since
):
    head = source.heads.newest(key(source))
    heard = say_unlisted(flowdock)
    await hear(source, heard, seconds_ago=0 if heard_since == "unsettled" else 60)
    if heard_since == "deleted":
        flowdock.simulator.world.flows[0].timeline.remove(heard.id)
    reading = await source.ask(key(source), 1, head, newest=True, purpose="backfill")
    assert reading.trouble is None
    reading = await source.ask(key(source), head + 1, heard.id - 1, newest=False, purpose="audit")
    assert reading.proven == Ranges(((head + 1, heard.id - 1),))


def say_unlisted(flowdock: Flowdock) -> Message:
    world = flowdock.simulator.world
    world.listing_delay_ms = 60_000
    (flow,) = world.flows
    world.signal(flow, world.users[0], "activity.user", {})  # takes an id, too
    return world.post(flow, world.users[0], "not listed yet")


async def hear(
    source: Source, said: Message, *, seconds_ago: float = 60, app: str | None = None
) -> None:
    heard = streamed(frame(said.id, app=app), key(source))
    await apply(source.engine, Batch(now=NOW, arrivals=[heard]))
    see(source, said.id, seconds_ago=seconds_ago)


async def test_messages_that_are_too_large_for_one_page_come_in_parts(
    flowdock, source, database_url
):
    (flow,) = flowdock.simulator.world.flows
    for _ in range(3):
        flowdock.simulator.world.post(flow, flowdock.simulator.me, "large " * 750_000)
    head, after, parts = flow.timeline.head, 0, []
    while after < head:
        reading = await source.ask(key(source), after + 1, head, newest=False, purpose="backfill")
        after = reading.proven.last
        parts.append(len(reading.ids))
    assert parts[:2] == [10, 10]
    assert set(parts[2:]) == {1}
    assert query(database_url, "SELECT count(*) FROM store.journal") == [(sum(parts),)]
