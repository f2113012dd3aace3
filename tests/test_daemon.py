"""The daemon in this process, against the simulator over real sockets and a real Postgres."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from archiver import daemon
from archiver.domain.coverage import Ranges
from archiver.ingest import backfill, roster, source
from archiver.ingest.contact import LockedOut
from archiver.settings import Settings
from archiver.settings.account import Account
from archiver.settings.sections import (
    AuditSettings,
    BackfillSettings,
    DatabaseSettings,
    DirectorySettings,
    IngestSettings,
    SharingSettings,
    StreamSettings,
)
from archiver.simulator import truth
from archiver.simulator.entities import Place
from archiver.simulator.faults import Fault, Kind
from archiver.simulator.membership import found, join, leave
from archiver.simulator.server import Simulator
from archiver.store.connection import Engine
from archiver.store.engine import connect
from tests.truth import differences_in

SETTLING_SECONDS = 0.2
CUT_OFF = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'archiver %'
"""


def settings_for(
    flowdock: Simulator, database_url: str, *, stream: StreamSettings | None = None, **account: Any
) -> Settings:
    only = Account(
        **{
            "name": "default",
            "token": flowdock.token,
            "api_url": flowdock.api_url,
            "stream_url": flowdock.stream_url,
            **account,
        }
    )
    return Settings(
        data_dir=Path("/nonexistent"),
        accounts=(only,),
        database=DatabaseSettings(url=database_url),
        ingest=IngestSettings(settling_seconds=SETTLING_SECONDS),
        backfill=BackfillSettings(requests_per_second=1000, head_seconds=1),
        audit=AuditSettings(requests_per_second=1000),
        stream=stream or StreamSettings(silence_seconds=5),
        directory=DirectorySettings(refresh_seconds=1),
    )


class Archive:
    """The archive under test, as its public views show it, over one connection for many queries."""

    def __init__(self, url: str, flowdock: Simulator) -> None:
        self.url = url
        self.flowdock = flowdock
        self._connection = psycopg.connect(url, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def query(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, parameters).fetchall()

    def differences(self) -> list[str]:
        return differences_in(self._connection, self.records())

    def records(self) -> list[dict[str, Any]]:
        return list(truth.records(self.flowdock.world.directory))

    def places(self) -> dict[str, Place]:
        """The flows and conversations that the user can see, by their path in the archive."""
        world, me = self.flowdock.world, self.flowdock.me
        places: dict[str, Place] = {one.path: one for one in world.flows if me.id in one.members}
        for talk in world.directory.conversations_of(me):
            places[f"private/{me.id}/{talk.other(me).id}"] = talk
        return places

    def is_complete(self) -> bool:
        """Tell whether each flow is proven from its beginning to its newest message."""
        heads = {
            path: newest.id
            for path, place in self.places().items()
            if (newest := place.timeline.nth_newest(0)) is not None
        }
        proven: dict[str, list[tuple[int, int]]] = {}
        for flow, first, last in self.query("SELECT flow, from_id, to_id FROM archive.coverage"):
            proven.setdefault(flow, []).append((first, last))
        ranges = {flow: Ranges.of(spans) for flow, spans in proven.items()}
        return all(
            not Ranges(((1, head),)) - ranges.get(flow, Ranges()) for flow, head in heads.items()
        )

    async def completed(self) -> None:
        await until(self.is_complete)
        assert self.differences() == []

    async def mended(self) -> None:
        """Wait until all is complete, and edits made while nobody listened are found."""
        await until(self.is_complete)
        await until(lambda: self.differences() == [])

    async def certain(self) -> None:
        """Wait until there are no doubts any more."""
        doubts = "SELECT count(*) FROM archive.doubts"
        await until(lambda: self.query(doubts) == [(0,)])


async def until(holds: Callable[[], bool], *, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        began = time.monotonic()
        while not holds():
            # Daemon and simulator run in this process, too: constant checks must not starve them.
            await asyncio.sleep(max(0.02, 2 * (time.monotonic() - began)))
            began = time.monotonic()


async def run(settings: Settings, engine: Engine, *, stop: asyncio.Event) -> None:
    async with daemon.works(settings, engine) as works:
        await daemon.archive(works, stop=stop)


@asynccontextmanager
async def archiving(settings: Settings) -> AsyncIterator[None]:
    """Run the daemon while the block lasts; then stop it, which must take no more than 10 s."""
    stop = asyncio.Event()
    assert settings.database.url
    async with connect(settings.database.url) as engine:
        running = asyncio.create_task(run(settings, engine, stop=stop))
        try:
            yield
        finally:
            stop.set()
            async with asyncio.timeout(10):
                await running


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the ledger often, and let listings wait only briefly for what streams will bring."""
    for module in (daemon, source):
        monkeypatch.setattr(module, "STREAM_FIRST_SECONDS", 0.3)
    monkeypatch.setattr(backfill, "PLAN_SECONDS", 0.2)


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(
        seed=7, history=300, listing_delay_seconds=0.0, keepalive_seconds=1
    ) as it:
        yield it


@pytest.fixture
def archive(database_url: str, flowdock: Simulator) -> Iterator[Archive]:
    with Archive(database_url, flowdock) as it:
        yield it


async def test_history_is_archived_and_proven(flowdock, archive):
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()

    assert archive.query("SELECT count(*) FROM archive.gaps") == [(0,)]
    witnesses = dict(archive.query("SELECT witness, count(*) FROM archive.events GROUP BY 1"))
    assert witnesses["list"] > 250


@pytest.mark.parametrize("stream_format", ["event-stream", "json"])
async def test_edits_and_tag_changes_reach_the_rows_as_they_happen(
    flowdock, archive, stream_format
):
    stream = StreamSettings(format=stream_format, silence_seconds=5)
    async with archiving(settings_for(flowdock, archive.url, stream=stream)):
        await flowdock.connected()
        await flowdock.play(seed=3, events=400)
        await archive.completed()

    kinds = dict(archive.query("SELECT event, count(*) FROM archive.events GROUP BY 1"))
    assert kinds["message-edit"] > 0
    assert kinds["tag-change"] > 0
    revised = dict(archive.query("SELECT kind, count(*) FROM archive.revisions GROUP BY 1"))
    assert {"created", "edited", "deleted", "tagged"} <= revised.keys()


async def test_what_is_said_while_disconnected_is_found(flowdock, archive):
    async with archiving(settings_for(flowdock, archive.url)):
        await flowdock.connected()
        await flowdock.play(seed=3, events=100)
        await archive.completed()
        flowdock.faults.add(Fault(kind="refuse", seconds=0.5))
        await until(lambda: flowdock.faults.fired["refuse"] == 1)
        flowdock.world.post(first_flow(flowdock), flowdock.me, "while nobody listened")
        await archive.completed()

    said = archive.query(
        "SELECT flow, content FROM archive.messages WHERE content = 'while nobody listened'"
    )
    assert len(said) == 1


async def test_what_was_said_between_leaving_and_joining_again_is_found(flowdock, archive):
    """The stream stays open all the while, but does not bring these messages."""
    flow, world, me = first_flow(flowdock), flowdock.world, flowdock.me
    async with archiving(settings_for(flowdock, archive.url)):
        await flowdock.connected()
        message = world.post(flow, me, "before")
        await archive.completed()
        leave(world, flow, me)
        world.post(flow, me, "while away")
        world.edit(flow, message.id, "changed while away")
        join(world, flow, me)
        world.post(flow, me, "back again")
        await archive.mended()

    assert {"changed while away", "while away", "back again"} < said(archive)


async def test_so_is_what_was_said_then_though_no_stream_of_private_messages_tells_of_it(
    flowdock, archive
):
    flow, world, me = first_flow(flowdock), flowdock.world, flowdock.me
    settings = settings_for(flowdock, archive.url, private=False)
    rarely = DirectorySettings(refresh_seconds=300)
    streamed = "SELECT FROM archive.coverage WHERE witness = 'stream' AND flow = %s"

    def is_claimed() -> bool:
        world.post(flow, me, "before")
        return bool(archive.query(streamed, flow.path))

    async with archiving(replace(settings, directory=rarely)):
        await flowdock.connected()
        message = world.post(flow, me, "as it was")
        await until(is_claimed)
        await archive.certain()
        leave(world, flow, me)
        world.post(flow, me, "while away")
        world.edit(flow, message.id, "changed while away")
        join(world, flow, me)
        world.post(flow, me, "back again")
        await until(lambda: {"changed while away", "while away", "back again"} < said(archive))


async def test_a_flow_that_was_given_the_name_of_another_is_followed_though_nothing_is_said_in_it(
    flowdock, archive
):
    """Each flow has a stream of its own; that of the name stays open, for the flow that had it."""
    world = flowdock.world
    before, after, _ = world.flows
    edited = world.post(after, flowdock.me, "as it was")
    stream = StreamSettings(silence_seconds=5, request_line_bytes=1)
    async with archiving(settings_for(flowdock, archive.url, stream=stream)):
        await flowdock.connected()
        await archive.completed()
        streams = [one for one in flowdock.streams.connections if one.flows & {before.id, after.id}]
        slug = before.slug
        world.directory.move_flow(before, "moved")
        world.directory.move_flow(after, slug)
        await until(lambda: not any(one in flowdock.streams.connections for one in streams))
        world.edit(after, edited.id, "changed")
        await until(lambda: archive.differences() == [])


async def test_a_stream_that_was_opened_while_another_flow_had_the_path_is_opened_again(
    flowdock, archive, caplog
):
    """It stays with that flow, and nothing is said in the one that has the path again."""
    world, me = flowdock.world, flowdock.me
    flow = first_flow(flowdock)
    slug, edited = flow.slug, world.post(flow, me, "as it was")
    each_its_own = StreamSettings(silence_seconds=5, request_line_bytes=1)
    async with archiving(settings_for(flowdock, archive.url, stream=each_its_own)):
        await flowdock.connected()
        await archive.completed()
        flowdock.faults.add(Fault(kind="status", on="rest", path="/flows", times=0))
        flowdock.faults.add(Fault(kind="refuse", seconds=0.4))
        await until(lambda: flowdock.faults.fired["refuse"] == 1)
        world.directory.move_flow(flow, "moved")
        other = world.directory.add_flow(flow.organization, slug=slug, name="Other")
        join(world, other, me)
        world.post(other, me, "said elsewhere")
        await until(lambda: any(other.id in one.flows for one in flowdock.streams.connections))
        caplog.clear()
        await until(lambda: "cannot fetch the newest message of a flow" in caplog.messages)
        world.directory.move_flow(other, "other")
        world.directory.move_flow(flow, slug)
        flowdock.faults.clear()
        await archive.completed()
        await archive.certain()
        world.edit(flow, edited.id, "changed")
        await until(lambda: archive.differences() == [])


@asynccontextmanager
async def unconnected(flowdock: Simulator) -> AsyncIterator[Any]:
    """Disconnect the daemon's streams, so that what the block does is unheard; yields a flow."""
    flowdock.faults.add(Fault(kind="refuse", seconds=0.4))
    await until(lambda: flowdock.faults.fired["refuse"] == 1)
    yield first_flow(flowdock)
    await flowdock.connected()


async def test_edits_and_tags_that_nobody_heard_are_found(flowdock, archive):
    flow, world = first_flow(flowdock), flowdock.world
    edited, tagged, deleted = (world.post(flow, flowdock.me, f"message {n}") for n in range(3))
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()
        async with unconnected(flowdock):
            world.edit(flow, edited.id, "changed meanwhile")
            world.change_tags(flow, tagged.id, add=["unheard"])
            world.delete(flow, deleted.id)
        await until(lambda: archive.differences() == [])
        await archive.certain()

    assert archive.differences() == []
    kinds = archive.query(
        "SELECT kind, content FROM archive.revisions WHERE flow = %s AND message_id = ANY(%s)"
        " AND kind NOT IN ('created') ORDER BY message_id",
        flow.path,
        [edited.id, tagged.id, deleted.id],
    )
    assert kinds == [("listed", "changed meanwhile"), ("listed", "message 1"), ("deleted", "")]


async def test_so_are_changes_that_are_told_in_a_form_that_is_not_known(flowdock, archive):
    flow, world, me = first_flow(flowdock), flowdock.world, flowdock.me
    file = {"file_name": "notes.txt", "content_type": "text/plain", "data": b"x"}
    edited, deleted = world.post(flow, me, "as it was"), world.upload(flow, me, **file)
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()
        await archive.certain()
        with world.unheard():
            world.edit(flow, edited.id, "changed")
        world.signal(flow, me, "message-edit", {"message": edited.id, "updated": "changed"})
        await until(lambda: archive.differences() == [])
        await archive.certain()
        with world.unheard():
            world.delete(flow, deleted.id)
        world.signal(flow, me, "message-delete", {"messages": [deleted.id]})
        await until(lambda: archive.differences() == [])
        await archive.certain()


async def test_so_are_changes_of_a_thread_that_are_told_in_such_a_form(flowdock, archive):
    flow, world, me = first_flow(flowdock), flowdock.world, flowdock.me
    thread = world.post(flow, me, "how a thread begins").thread
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()
        await archive.certain()
        with world.unheard():
            world.change_thread(flow, thread, title="changed")
        world.signal(flow, me, "thread-change", {"thread": {"title": "changed"}})
        title = "SELECT title FROM archive.threads WHERE thread_id = %s"
        await until(lambda: archive.query(title, thread.id) == [("changed",)], seconds=20)
        await archive.certain()


async def test_so_are_those_of_a_flow_that_was_lost_for_a_moment_when_nobody_heard(
    flowdock, archive, admin
):
    flow, world = first_flow(flowdock), flowdock.world
    edited = world.post(flow, flowdock.me, "as it was")
    settings = replace(
        settings_for(flowdock, archive.url),
        directory=DirectorySettings(refresh_seconds=300),
        backfill=BackfillSettings(requests_per_second=1000),
    )
    joined = f"SELECT joined FROM archive.flows WHERE flow = '{flow.path}'"
    messages = f"/flows/{flow.path}/messages"
    async with archiving(settings):
        await archive.completed()
        await archive.certain()
        flowdock.faults.add(Fault(kind="status", on="rest", status=404, path=messages))
        admin.execute("UPDATE store.ledger SET doubted = '{[1,2)}' WHERE due > 0")
        await until(lambda: archive.query(joined) == [(False,)])
        async with unconnected(flowdock):
            world.edit(flow, edited.id, "changed meanwhile")
        await until(lambda: archive.query(joined) == [(True,)])
        await until(lambda: archive.differences() == [], seconds=10)

    assert flowdock.faults.fired["status"] == 1


async def test_a_file_that_was_deleted_unheard_is_asked_for_and_marked(flowdock, archive):
    flow, world = first_flow(flowdock), flowdock.world
    file = world.upload(
        flow, flowdock.me, file_name="plan.txt", content_type="text/plain", data=b"plan"
    )
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()
        async with unconnected(flowdock):
            world.delete(flow, file.id)
        await until(lambda: archive.differences() == [])
        await archive.certain()

    assert archive.differences() == []
    (row,) = archive.query(
        "SELECT content, deleted_at IS NOT NULL FROM archive.messages WHERE flow = %s AND id = %s",
        flow.path,
        file.id,
    )
    assert row == ("plan.txt", True)


async def test_a_history_that_the_service_puts_away_is_kept(flowdock, archive):
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()
        before = archive.query("SELECT count(*) FROM archive.messages WHERE deleted_at IS NULL")
        async with unconnected(flowdock) as flow:
            for message in list(flow.timeline)[:60]:
                flow.timeline.remove(message.id)
        epochs = "SELECT count(*) FROM store.ledger WHERE epoch > 1 AND due > 0"
        await until(lambda: archive.query(epochs) > [(0,)])
        await archive.certain()

    after = archive.query("SELECT count(*) FROM archive.messages WHERE deleted_at IS NULL")
    assert after == before


async def test_what_a_stream_keeps_back_is_found_and_the_stream_opened_anew(flowdock, archive):
    flow, world = first_flow(flowdock), flowdock.world
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()
        connections = set(flowdock.streams.connections)
        with world.unheard():
            world.post(flow, flowdock.me, "kept back")
        await until(lambda: connections.isdisjoint(flowdock.streams.connections))
        await until(lambda: archive.differences() == [])


async def test_what_changes_behind_our_back_is_found_when_all_is_listed_again(flowdock, archive):
    flow, world = first_flow(flowdock), flowdock.world
    message = world.post(flow, flowdock.me, "as it was")
    settings = settings_for(flowdock, archive.url)
    often = replace(settings, audit=AuditSettings(requests_per_second=1000, cycle_days=0))
    async with archiving(often):
        await archive.completed()
        await archive.certain()
        with world.unheard():
            world.edit(flow, message.id, "as it is")
        await until(lambda: archive.differences() == [])


async def test_a_flow_that_is_left_during_its_backfill_does_not_take_the_others_down(
    flowdock, archive
):
    lost, kept = list(flowdock.world.directory.flows.values())[:2]
    for number in range(400):
        flowdock.world.post(lost, flowdock.me, f"message {number}")
    settings = settings_for(flowdock, archive.url)
    slowly = replace(settings, backfill=BackfillSettings(requests_per_second=40, head_seconds=1))
    async with archiving(slowly):
        await until(lambda: archive.query("SELECT 1 FROM store.pages") != [])
        leave(flowdock.world, lost, flowdock.me)
        flowdock.world.post(kept, flowdock.me, "we go on")
        await until(lambda: archive.differences() == [])
        joined = "SELECT joined FROM archive.flows WHERE flow = %s"
        await until(lambda: archive.query(joined, lost.path) == [(False,)])


async def test_a_stream_that_is_sent_elsewhere_is_asked_for_again(flowdock, archive):
    flowdock.faults.add(Fault(kind="status", name="moved", status=302, times=3))
    async with archiving(settings_for(flowdock, archive.url)):
        await until(lambda: flowdock.faults.fired["moved"] > 0)
        await archive.completed()


async def test_an_id_out_of_all_proportion_is_not_believed(flowdock, archive):
    flow = first_flow(flowdock)
    wild = b'{"event":"message","id":4611686018427387904,"flow":"%s","content":"x","user":"1"}'
    unvouched = b'{"event":"activity.user","id":900000000,"flow":"%s","content":{},"user":"1"}'
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()
        flowdock.world.inject(flow, wild % flow.id.encode())
        flowdock.world.inject(flow, unvouched % flow.id.encode())
        flowdock.world.post(flow, flowdock.me, "and on")
        await archive.completed()

    assert archive.query(
        "SELECT max(to_id) < 1000000 FROM archive.coverage WHERE flow = %s", flow.path
    ) == [(True,)]
    assert len(archive.query("SELECT reason FROM archive.rejects")) == 1
    signals = "SELECT payload->>'event' FROM store.signals WHERE payload->>'id' = '900000000'"
    assert archive.query(signals) == [("activity.user",)]


async def test_what_an_edit_did_that_cannot_be_read_is_found(flowdock, archive):
    flow, world = first_flow(flowdock), flowdock.world
    message = world.post(flow, flowdock.me, "as it was")
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()
        await archive.certain()
        with world.unheard():
            world.edit(flow, message.id, "as it is")
        world.inject(flow, b'{"event":"message-edit","content":')
        await until(lambda: archive.differences() == [], seconds=10)

    assert len(archive.query("SELECT reason FROM archive.rejects")) == 1


async def test_newlines_in_messages_are_taken_as_they_come(flowdock, archive):
    """They "may occur in messages", says the streaming documentation."""
    flow, world = first_flow(flowdock), flowdock.world
    message = world.post(flow, flowdock.me, "one line")
    edit = (
        f'{{\n"event":"message-edit","id":{flow.timeline.head + 1},"flow":"{flow.id}",\n"sent":'
        f'{world.clock()},"content":{{"message":{message.id},"updated_content":"two\nlines"}}}}'
    )
    stream = StreamSettings(format="json")
    async with archiving(settings_for(flowdock, archive.url, stream=stream)):
        await archive.completed()
        await flowdock.connected()
        flow.timeline.head += 1
        with world.unheard():
            world.edit(flow, message.id, "two\nlines")
        world.inject(flow, edit.encode())
        revisions = "SELECT content FROM archive.revisions WHERE message_id = %s ORDER BY revision"
        await until(lambda: len(archive.query(revisions, message.id)) > 1)

    assert archive.query(revisions, message.id) == [("one line",), ("two\nlines",)]
    assert archive.query("SELECT reason FROM archive.rejects") == []


async def test_a_connection_that_is_cut_anywhere_loses_nothing(flowdock, archive):
    kinds: list[Kind] = ["cut", "cut_inside_character", "cut", "repeat"]
    for at, kind in enumerate(kinds):
        flowdock.faults.add(
            Fault(kind=kind, name=f"{kind} {at}", after_bytes=7000 * (at + 1), frames=5)
        )
    async with archiving(settings_for(flowdock, archive.url)):
        await flowdock.connected()
        await flowdock.play(seed=5, events=600, rate=300)
        await archive.mended()

    assert all(flowdock.faults.fired.values()), flowdock.faults.fired


async def test_a_silent_stream_is_taken_as_cut(flowdock, archive):
    flowdock.faults.add(Fault(kind="silence", after_events=5))
    stream = StreamSettings(silence_seconds=0.5)
    async with archiving(settings_for(flowdock, archive.url, stream=stream)):
        await flowdock.connected()
        await flowdock.play(seed=5, events=60, rate=60)
        await archive.mended()

    assert flowdock.faults.fired == {"silence": 1}


async def test_errors_of_the_service_delay_and_lose_nothing(flowdock, archive):
    flowdock.faults.add(Fault(kind="status", name="429", on="rest", status=429, retry_after="1"))
    flowdock.faults.add(
        Fault(kind="status", name="502", on="rest", after_requests=5, body="<html>")
    )
    flowdock.faults.add(Fault(kind="status", name="stream", status=503))
    flowdock.faults.add(Fault(kind="cut", name="page", on="rest", after_requests=8))
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()

    assert all(flowdock.faults.fired.values()), flowdock.faults.fired


async def test_a_service_that_serves_nobody_yet_is_waited_for(flowdock, archive, monkeypatch):
    monkeypatch.setattr(daemon, "REFUSED_SECONDS", 0.1)
    flowdock.faults.add(Fault(kind="status", on="rest", status=503, retry_after="1", times=4))
    async with archiving(settings_for(flowdock, archive.url)):
        await archive.completed()

    assert list(flowdock.faults.fired.values()) == [4]


async def test_flows_that_are_joined_later_are_archived(flowdock, archive):
    async with archiving(settings_for(flowdock, archive.url)):
        await flowdock.connected()
        world = flowdock.world
        flow = found(world, first_flow(flowdock).organization, "Late arrival", flowdock.me)
        flowdock.world.post(flow, flowdock.me, "are you there?")
        await until(lambda: not archive.differences())
        await archive.completed()


async def test_only_the_flows_that_are_wanted_are_archived(flowdock, archive):
    wanted = first_flow(flowdock).path
    async with archiving(settings_for(flowdock, archive.url, flows=(wanted,), private=False)):
        await until(lambda: archive.query("SELECT count(*) > 0 FROM archive.messages") == [(True,)])

    assert archive.query("SELECT DISTINCT flow FROM archive.messages") == [(wanted,)]


async def test_a_choice_that_leads_to_nothing_is_told_once_and_holds_for_flows_to_come(
    flowdock, archive, caplog
):
    settings = settings_for(flowdock, archive.url, flows=("acme/late*",), private=False)
    settings = replace(settings, directory=DirectorySettings(refresh_seconds=0.1))
    async with archiving(settings):
        await until(lambda: roster.IDLE_PATTERN in caplog.messages)
        archive.query("UPDATE store.users SET nick = '' RETURNING user_id")
        await until(lambda: not archive.query("SELECT FROM archive.users WHERE nick = ''"))
        flow = found(flowdock.world, first_flow(flowdock).organization, "Late", flowdock.me)
        assert flow.path == "acme/late"
        flowdock.world.post(flow, flowdock.me, "are you there?")
        await until(lambda: archive.query("SELECT flow FROM archive.messages") == [(flow.path,)])

    (told,) = [one.__dict__ for one in caplog.records if one.msg == roster.IDLE_PATTERN]
    assert (told["account"], told["pattern"]) == ("default", "acme/late*")
    assert "ARCHIVER_FLOWS" in roster.IDLE_PATTERN


@pytest.mark.parametrize(
    ("flows", "private", "warning"),
    [
        (("*", "!acme/*"), False, roster.NONE_WANTED),
        (("!*",), True, None),
        (("acme/*", "nomatch/*"), False, roster.IDLE_PATTERN),
    ],
)
async def test_only_a_choice_that_may_be_mistaken_is_told(
    flowdock, archive, caplog, flows, private, warning
):
    caplog.set_level("INFO")
    async with archiving(settings_for(flowdock, archive.url, flows=flows, private=private)):
        await until(lambda: "following" in caplog.messages)

    told = {roster.IDLE_PATTERN, roster.NONE_WANTED, roster.NONE_JOINED} & set(caplog.messages)
    assert told == ({warning} if warning else set())


async def test_who_has_joined_no_flow_is_told(flowdock, archive, caplog):
    for flow in flowdock.world.flows:
        leave(flowdock.world, flow, flowdock.me)
    async with archiving(settings_for(flowdock, archive.url, private=False)):
        await until(lambda: roster.NONE_JOINED in caplog.messages)

    assert roster.IDLE_PATTERN not in caplog.messages


async def test_other_flows_can_be_chosen_while_it_runs_and_nothing_is_lost(flowdock, archive):
    flows = list(flowdock.world.directory.flows.values())
    settings = settings_for(flowdock, archive.url, flows=(flows[0].path,), private=False)
    stop = asyncio.Event()
    async with connect(archive.url) as engine, daemon.works(settings, engine) as works:
        running = asyncio.create_task(daemon.archive(works, stop=stop))
        tally = works.tally.accounts["default"]
        await until(lambda: list(tally.paths.values()) == [flows[0].path])
        works.replan(settings_for(flowdock, archive.url))
        await flowdock.play(seed=5, events=200, rate=400)
        await archive.mended()
        await until(lambda: set(tally.matched_at) >= set(tally.paths))
        assert len(tally.paths) > 1
        assert all(link.is_open for link in tally.links)
        works.replan(settings)
        await until(lambda: list(tally.paths.values()) == [flows[0].path])
        kinds = "SELECT event, witness, count(*) FROM store.journal GROUP BY 1, 2"
        await until(lambda: works.tally.events == {row[:2]: row[2] for row in archive.query(kinds)})
        stop.set()
        await running

    assert works.tally.database_errors == {}


async def test_a_refused_token_stops_the_daemon_and_names_the_setting(flowdock, archive):
    settings = settings_for(flowdock, archive.url, token="wrong-token")
    async with connect(archive.url) as engine:
        with pytest.raises(BaseExceptionGroup) as caught:
            await run(settings, engine, stop=asyncio.Event())

    (error,) = caught.value.exceptions
    assert isinstance(error, LockedOut)
    assert "ARCHIVER_TOKEN" in str(error)
    assert "wrong-token" not in str(error)


async def test_a_token_that_would_travel_in_clear_is_told(flowdock, archive, caplog):
    elsewhere = settings_for(flowdock, archive.url, stream_url="http://chat.example")
    async with archiving(elsewhere):
        await until(lambda: "the token is sent unencrypted: use https://" in caplog.messages)

    told = next(
        one
        for one in caplog.records
        if one.message == "the token is sent unencrypted: use https://"
    )
    assert told.__dict__["url"] == "http://chat.example"


async def test_the_end_of_an_outage_of_the_database_is_told(flowdock, archive, admin, caplog):
    caplog.set_level(logging.INFO, logger="archiver")
    read_only = f"ALTER DATABASE {admin.info.dbname} SET default_transaction_read_only"
    stop = asyncio.Event()
    async with (
        connect(archive.url) as engine,
        daemon.works(settings_for(flowdock, archive.url), engine) as works,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(daemon.archive(works, stop=stop))
        await flowdock.connected()
        admin.execute(f"{read_only} = on")
        admin.execute(CUT_OFF)
        await flowdock.play(seed=3, events=20)
        await until(lambda: works.tally.writer_away_since is not None)
        assert "database back" not in caplog.messages
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"{read_only} = off")
        await until(lambda: "database back" in caplog.messages)
        stop.set()

    told = next(one for one in caplog.records if one.message == "database back")
    assert told.__dict__["away_seconds"] >= 0


async def test_a_second_daemon_on_the_same_archive_does_no_harm(flowdock, archive):
    settings = settings_for(flowdock, archive.url)
    other = replace(settings, sharing=SharingSettings(enabled=False))
    async with archiving(settings), archiving(other):
        await flowdock.connected(2)
        await flowdock.play(seed=11, events=300)
        await archive.completed()


def said(archive: Archive) -> set[str]:
    return {text for (text,) in archive.query("SELECT content FROM archive.messages")}


def first_flow(flowdock: Simulator) -> Any:
    return next(iter(flowdock.world.directory.flows.values()))
