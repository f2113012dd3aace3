"""From what is heard to what is written and claimed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Rejected, Signal
from archiver.domain.model import Flow, FlowId, UserId
from archiver.domain.proportion import FARTHEST_SIGNAL
from archiver.flowdock.stream import Closed, Frames, Occurrence, Opened
from archiver.ingest.heads import Heads
from archiver.ingest.intake import Began, Came, Ended, Intake
from archiver.ingest.live import (
    CLAIM_SECONDS,
    OLD_NAME,
    Listener,
    Pace,
    Rate,
    claim_pause,
    listen,
    receive,
    write_forever,
)
from archiver.ingest.names import Names
from archiver.ingest.tally import AccountTally, Link, Tally
from archiver.store import coverage, doubts
from archiver.store.connection import Engine
from archiver.store.engine import DatabaseError, connect, transaction
from tests.ingest.arriving import (
    LONG_AGO,
    NOW,
    fail_to_journal,
    frame,
    new_flow,
    query,
    streamed,
    waits_for_lock,
)
from tests.test_daemon import until

SETTLING_SECONDS = 0.2


def began(connection: int, flow_key: int, *, at: float) -> Began:
    return Began(connection, at, frozenset({flow_key}), LONG_AGO, UserId("1"))


class Writing:
    """A connection of one flow that has long been open, and the writer behind it."""

    def __init__(self, engine: Engine, flow_key: int, url: str) -> None:
        self.engine, self.flow_key, self.url = engine, flow_key, url
        self.intake = Intake(limit_bytes=10**6, settling_seconds=SETTLING_SECONDS)
        self.heads = Heads(settling_seconds=SETTLING_SECONDS)
        self.clock = asyncio.get_running_loop().time
        self.intake.put_now(began(1, flow_key, at=self.clock() - 100))

    def came(self, *ids: int, seconds_ago: float) -> None:
        for id_ in ids:
            arrival = streamed(frame(id_), self.flow_key)
            self.intake.put_now(Came(1, self.clock() - seconds_ago, [arrival]))

    async def write(self, *, batch_events: int) -> None:
        pace = Pace(batch_events=batch_events, linger_seconds=0)
        tally = Tally.of(["default"])
        await write_forever(
            self.engine, self.intake, self.heads, pace=pace, tally=tally, now=lambda: NOW
        )

    def claimed(self) -> Ranges:
        return Ranges.of(query(self.url, "SELECT from_id, to_id FROM archive.coverage"))


@pytest.fixture
async def writing(database_url: str) -> AsyncIterator[Writing]:
    async with connect(database_url) as engine:
        yield Writing(engine, await new_flow(engine), database_url)


def paced(*came: tuple[int, float]) -> float:
    """The rate measured when so many events have come after so many seconds each."""
    rate, now = Rate(now=0.0), 0.0
    for events, seconds in came:
        now += seconds
        rate.note(events, now=now)
    return rate.per_second


def test_how_fast_events_come_is_told_of_the_last_moments():
    assert paced((5, 10.0)) == 0.5
    assert paced(*[(10, 0.005)] * 1000) == pytest.approx(2000, rel=0.01)
    assert paced(*[(1, 0.001), (3, 0.001)] * 2000) == pytest.approx(2000, rel=0.01)
    assert paced(*[(10, 0.005)] * 1000, (0, 0.25)) == pytest.approx(1000, rel=0.01)
    assert paced(*[(10, 0.005)] * 1000, (1, 1.0)) == 1


def test_a_batch_fills_only_where_that_brings_enough():
    pace = Pace(batch_events=1, linger_seconds=0.01)
    assert [pace.lingering(rate) for rate in (0.0, 10.0, 500.0, 1599.0)] == [0.0] * 4
    assert pace.lingering(1600.0) == 0.01
    assert pace.lingering(32_000.0) == 0.0005
    assert Pace(batch_events=1, linger_seconds=0).lingering(1e6) == 0


def listener(writing: Writing) -> Listener:
    return Listener(
        intake=writing.intake,
        names=Names(writing.engine),
        me=UserId("1"),
        origin="default 1",
        newest=lambda _flow_key: 100,
        on_opened=frozenset,
        on_heard=lambda _came: None,
        tally=AccountTally(name="default"),
        link=Link(),
    )


@asynccontextmanager
async def at_work(writing: Writing, *, batch_events: int) -> AsyncIterator[None]:
    task = asyncio.create_task(writing.write(batch_events=batch_events))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_of_many_flows_claims_are_written_more_rarely_but_within_seconds():
    assert [claim_pause(flows) for flows in (0, 500, 2000, 10**6)] == [0.5, 0.5, 2.0, 5.0]


async def test_nothing_is_claimed_over_an_event_that_waits_to_be_written(writing):
    """Event 5 came late, and the batch that holds it fails."""
    writing.came(1, 9, seconds_ago=50)
    writing.came(5, seconds_ago=50)
    fail_to_journal(writing.url, 5, state="42000")
    with pytest.raises(DatabaseError):
        await writing.write(batch_events=3)
    assert query(writing.url, "SELECT array_agg(id ORDER BY id) FROM store.journal") == [([1, 9],)]
    assert 5 not in writing.claimed()


async def test_nothing_is_due_that_a_stream_may_still_prove_by_what_waits(writing):
    writing.came(1, 9, seconds_ago=50)
    writing.came(5, seconds_ago=50)
    fail_to_journal(writing.url, 5, state="42000")
    with pytest.raises(DatabaseError):
        await writing.write(batch_events=3)
    assert writing.heads.newest(writing.flow_key) == 9
    assert writing.heads.due(now=writing.clock()) == {}


@pytest.mark.parametrize(
    ("settled", "unsettled", "claimed"),
    [((1, 2, 3), (), ((1, 1), (3, 6))), ((1,), (2, 3), ((1, 1), (4, 6)))],
)
async def test_a_claim_does_not_go_on_over_an_event_that_was_refused(
    writing, settled, unsettled, claimed
):
    fail_to_journal(writing.url, 2, state="22023")
    writing.came(*settled, seconds_ago=50)
    writing.came(*unsettled, seconds_ago=0)
    async with at_work(writing, batch_events=10):
        await until(lambda: bool(writing.claimed()))
        await asyncio.sleep(SETTLING_SECONDS)
        writing.came(4, 6, seconds_ago=0)
        await until(lambda: 5 in writing.claimed())
    assert writing.claimed() == Ranges(claimed)


async def test_what_a_refused_event_may_have_changed_is_doubted_though_nothing_comes_after_it(
    writing,
):
    fail_to_journal(writing.url, 4, state="22023")
    writing.came(1, 3, seconds_ago=50)
    async with at_work(writing, batch_events=10):
        await until(lambda: bool(writing.claimed()))
        with psycopg.connect(writing.url) as listing:
            listing.execute("UPDATE store.ledger SET doubted = '{}'")
        writing.came(4, seconds_ago=0)
        await until(lambda: bool(query(writing.url, "SELECT FROM archive.doubts")))


async def test_what_an_ended_stream_proved_is_doubted_where_another_daemon_listens_since(writing):
    """Message 5 may have changed after the one stream ended and before the other was opened."""
    flow = writing.flow_key
    async with at_work(writing, batch_events=10), connect(writing.url) as another:
        await until(lambda: query(writing.url, "SELECT max(epoch) FROM store.ledger") == [(1,)])
        async with transaction(another) as tx:
            await coverage.lock(tx, [flow])
            writing.came(5, seconds_ago=50)
            writing.intake.put_now(Ended(1, writing.clock()))
            await until(lambda: waits_for_lock(writing.url))
            await doubts.open_streams(tx, [flow])
        await until(lambda: 5 in writing.claimed())
    assert query(writing.url, "SELECT from_id, to_id FROM archive.doubts") == [(5, 5)]


async def test_a_stream_that_does_not_open_is_told_with_its_address_and_a_time_to_read(
    writing, caplog
):
    async def occur() -> AsyncIterator[Occurrence]:
        url = "http://127.0.0.1:1"
        yield Closed(url=url, connection=None, reason="no answer", retry_in_seconds=0.14247004890)
        yield Opened(connection=1, answered_at=NOW)
        yield Closed(url=url, connection=1, reason="ended", retry_in_seconds=61.666)

    await listen(occur(), listener(writing))
    told = [one.__dict__ for one in caplog.records if one.levelname == "WARNING"]
    assert [(one["msg"], one["reason"], one["again_seconds"]) for one in told] == [
        ("stream not opened", "no answer", 0.1),
        ("stream closed", "ended", 61.7),
    ]
    assert {one["url"] for one in told} == {"http://127.0.0.1:1"}


async def test_an_id_out_of_all_proportion_is_believed_of_nothing(writing):
    ours = listener(writing)
    for kind in ("message", "activity.user"):
        near, far = await receive([frame(101, kind), frame(2**60, kind)], ours, received_at=NOW)
        assert near.id == 101
        assert isinstance(far.decoded, Rejected)
        assert far.decoded.reason == "its id is impossibly high for its flow"


async def test_an_event_that_names_a_path_is_not_taken_for_one_of_the_flow_that_has_it(writing):
    """It may be the id of a flow that has the path by now, and has not been listed yet."""
    ours = listener(writing)
    (key,) = (await ours.names.see([Flow(id=FlowId("main"), path="acme/main")], now=NOW)).values()
    frames = [frame(101, kind, flow="acme:main") for kind in ("message", "activity.user")]
    said, active = await receive(frames, ours, received_at=NOW)
    assert said.decoded == Rejected(reason=OLD_NAME)
    assert (active.flow_key, active.id) == (key, None)

    await ours.names.see([Flow(id=FlowId("acme:main"), path="acme/main")], now=NOW)
    (said,) = await receive(frames[:1], ours, received_at=NOW)
    assert said.id == 101
    assert said.flow_key not in {None, key}


async def test_nothing_is_claimed_over_what_lies_unread_while_a_new_flow_is_named(writing):
    """Event 5 came late, behind an event of a flow that another daemon is just inserting."""
    ours = listener(writing)
    known = await ours.names.key(FlowId("known"), now=NOW)

    async def occur() -> AsyncIterator[Occurrence]:
        yield Opened(connection=1, answered_at=LONG_AGO)
        await asyncio.sleep(SETTLING_SECONDS)
        for flow, *ids in (("known", 1, 9), ("new", 1), ("known", 5)):
            yield Frames(frames=[frame(id_, flow=flow) for id_ in ids], received_at=NOW)
        await asyncio.Event().wait()

    opened = replace(ours, on_opened=lambda: frozenset({known}))
    with psycopg.connect(writing.url) as other:
        new = "INSERT INTO store.flows (flow_id, path, first_seen_at) VALUES ('new', 'new', now())"
        other.execute(new)
        async with at_work(writing, batch_events=10), asyncio.TaskGroup() as group:
            listening = group.create_task(listen(occur(), opened))
            await until(lambda: waits_for_lock(writing.url))
            claims_are_due = writing.clock() + SETTLING_SECONDS + 2 * CLAIM_SECONDS
            await until(lambda: writing.clock() > claims_are_due)
            assert not writing.claimed()
            other.commit()
            await until(lambda: 9 in writing.claimed())
            listening.cancel()
    assert (5,) in query(writing.url, "SELECT id FROM archive.events")


async def test_no_conversation_is_claimed_over_what_somebody_external_sent_in_one(writing):
    """Event 11 does not tell whose conversation it is in, since its sender is not a person."""
    ours = listener(writing)
    talk = await ours.names.key(FlowId("private/1/2"), now=NOW)
    writing.intake.put_now(began(2, talk, at=writing.clock() - 100))
    async with at_work(writing, batch_events=10):
        for id_, sender, seconds_ago in ((10, "2", 90), (11, "0", 80), (12, "2", 70)):
            said = frame(id_, flow=None, user=sender, to="1")
            came = await receive([said], ours, received_at=NOW)
            writing.intake.put_now(Came(2, writing.clock() - seconds_ago, came))
        await until(lambda: 12 in writing.claimed())
    assert writing.claimed() == Ranges(((10, 10), (12, 12)))
    told = query(writing.url, "SELECT flow, id FROM archive.events ORDER BY id")
    assert told == [("private/1/2", 10), ("private/1/2", 12)]
    assert query(writing.url, "SELECT reason FROM archive.rejects") == [("it names no flow",)]


async def test_a_signal_moves_no_head_further_than_what_is_known(writing):
    far = 101 + FARTHEST_SIGNAL
    frames = [frame(id_, kind) for kind in ("message", "activity.user") for id_ in (101, far)]
    message, later, signal, lone = await receive(frames, listener(writing), received_at=NOW)
    assert [one.id for one in (message, later, signal, lone)] == [101, far, 101, None]
    assert isinstance(lone.decoded, Signal)
    flow_key = signal.flow_key
    assert flow_key is not None
    writing.intake.put_now(began(2, flow_key, at=writing.clock() - 100))
    writing.intake.put_now(Came(2, writing.clock() - 50, [signal, lone]))
    async with at_work(writing, batch_events=10):
        await until(lambda: bool(writing.claimed() and writing.heads.newest(flow_key)))
    assert writing.claimed().last == 101
    assert writing.heads.newest(flow_key) == 101
    assert query(writing.url, "SELECT count(*) FROM store.signals") == [(2,)]
