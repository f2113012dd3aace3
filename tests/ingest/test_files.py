"""Files are fetched once and kept whole, and those that are not kept are reported."""

import asyncio
import hashlib
from asyncio import Event
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from errno import ENOSPC
from functools import partial
from io import BytesIO
from os import strerror
from typing import IO, Any

import psycopg
import pytest
from sqlalchemy import text
from typing_extensions import override

from archiver import daemon
from archiver.domain.model import Attachment, Flow, FlowId
from archiver.errors import Corruption
from archiver.flowdock.downloads import Downloads
from archiver.flowdock.refusals import TokenRefused
from archiver.ingest import files as keeping
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.files import fetch_all, keep_files
from archiver.ingest.source import Source
from archiver.settings.sections import FilesSettings
from archiver.simulator.entities import Message
from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator
from archiver.store import directory, files
from archiver.store.engine import connect, transaction
from archiver.store.rows import copy
from tests.ingest.arriving import (
    NOW,
    frame,
    listed,
    new_flow,
    query,
    streamed,
    waits_for_lock,
)
from tests.test_daemon import archiving, settings_for, until

LARGEST = 3 * files.PART_BYTES
NAMED = "SELECT path, sha256, attempts, last_error FROM archive.attachments ORDER BY message_id"
KEPT = """
    SELECT f.sha256, f.file_size, string_agg(p.bytes, '' ORDER BY p.part)
    FROM archive.files f LEFT JOIN archive.file_parts p USING (sha256) GROUP BY 1, 2 ORDER BY 2
"""
Opened = Callable[[], Downloads]


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(flows=1, history=0, listing_delay_seconds=0) as it:
        yield it


@pytest.fixture
async def asked(flowdock: Simulator, database_url: str) -> AsyncIterator[tuple[Source, Opened]]:
    """An account's source, and a function that opens downloads."""
    settings = replace(
        settings_for(flowdock, database_url, private=False),
        files=FilesSettings(largest_bytes=LARGEST),
    )
    async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
        account = shared.account(settings.require_accounts()[0])
        await account.look_up()
        yield account.source, partial(shared.downloads, settings.accounts[0])


class Full(BytesIO):
    """A temporary file on a full disk."""

    def __init__(self, **_: object) -> None:
        super().__init__()

    @override
    def write(self, _data: object) -> int:
        raise OSError(ENOSPC, strerror(ENOSPC))


def upload(flowdock: Simulator, data: bytes, name: str = "notes.txt") -> Message:
    [flow] = flowdock.world.flows
    return flowdock.world.upload(
        flow, flowdock.me, file_name=name, content_type="text/plain", data=data
    )


def rest_of(url: str) -> timedelta:
    """How long it is until the only file is requested again."""
    [(rest,)] = query(url, "SELECT due_at - now() FROM store.attached")
    assert isinstance(rest, timedelta)
    return rest


async def archive(source: Source) -> None:
    """Archive all that the flow holds now."""
    [flow_key] = source.paths
    await source.ask(flow_key, 1, 1000, newest=True, purpose="backfill")


async def test_a_file_is_kept_in_parts_and_once(flowdock, asked, database_url):
    source, opened = asked
    small, large = b"hello", bytes(range(256)) * (LARGEST // 256)
    for data in (small, large, small, b""):
        upload(flowdock, data)
    await archive(source)
    assert {row[1:] for row in query(database_url, NAMED)} == {(None, 0, None)}
    async with connect(database_url) as engine, transaction(engine) as tx:
        assert await files.missing_count(tx) == 4

    await fetch_all(source, opened)
    digests = {data: hashlib.sha256(data).hexdigest() for data in (b"", small, large)}
    assert query(database_url, KEPT) == [
        (digests[b""], 0, None), (digests[small], 5, small), (digests[large], LARGEST, large),
    ]  # fmt: skip
    assert [row[1] for row in query(database_url, NAMED)] == [
        digests[small], digests[large], digests[small], digests[b""],
    ]  # fmt: skip
    assert query(database_url, "SELECT count(*) FROM archive.file_parts") == [(4,)]
    async with connect(database_url) as engine, transaction(engine) as tx:
        parts = [piece async for piece in files.content(tx, digests[large])]
        assert b"".join(parts) == large
        assert await files.counts(tx) == files.Counts(kept=4, missing=0)
        assert await files.counts(tx, []) == files.Counts(kept=0, missing=0)
        assert await files.missing_count(tx) == 0


async def test_bytes_that_were_altered_are_not_taken_for_the_file(flowdock, asked, database_url):
    source, opened = asked
    upload(flowdock, bytes(2 * files.PART_BYTES))
    await archive(source)
    await fetch_all(source, opened)
    query(database_url, "DELETE FROM store.file_parts WHERE part = 1 RETURNING 1")
    [(digest, *_)] = query(database_url, KEPT)
    async with connect(database_url) as engine, transaction(engine) as tx:
        with pytest.raises(Corruption, match="altered"):
            [piece async for piece in files.content(tx, digest)]


async def test_what_is_not_as_long_as_the_message_says_is_not_the_file(
    flowdock, asked, database_url
):
    source, opened = asked
    said = upload(flowdock, b"the whole of it").attachments[0]["path"]
    await archive(source)
    flowdock.world.files[said] = "text/plain", b"a proxy's page"
    await fetch_all(source, opened)
    told = "14 bytes arrived, but Flowdock says 15"
    assert query(database_url, NAMED) == [(said, None, 1, told)]
    assert query(database_url, KEPT) == []


async def test_a_file_that_is_too_long_is_told(flowdock, asked, database_url):
    source, opened = asked
    upload(flowdock, bytes(LARGEST + 1))
    await archive(source)
    await fetch_all(source, opened)
    [(_, sha256, attempts, told)] = query(database_url, NAMED)
    assert (sha256, attempts) == (None, 1)
    assert told == f"it has {LARGEST + 1:,} bytes, more than files.largest_bytes allows"


async def test_a_file_that_was_too_long_does_not_rest_once_more_is_allowed(
    flowdock, asked, database_url
):
    source, opened = asked
    path = upload(flowdock, b"gone").attachments[0]["path"]
    del flowdock.world.files[path]
    for more in (1, 2):
        upload(flowdock, bytes(LARGEST + more))
    await archive(source)
    await fetch_all(source, opened)
    assert query(database_url, "SELECT count(*) FROM store.attached WHERE due_at > now()") == [(3,)]

    settings = replace(
        settings_for(flowdock, database_url, private=False),
        files=FilesSettings(largest_bytes=LARGEST + 1),
    )
    async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
        wider = partial(shared.downloads, settings.require_accounts()[0])
        task = asyncio.create_task(keep_files(source, wider))
        await until(lambda: len(query(database_url, KEPT)) == 1)
        task.cancel()
    assert [(row[2], row[3]) for row in query(database_url, NAMED)] == [
        (1, "the file was answered with status 404"),
        (None, None),
        (1, f"it has {LARGEST + 2:,} bytes, more than files.largest_bytes allows"),
    ]


async def test_a_disk_without_room_does_not_stop_the_daemon(
    flowdock, asked, database_url, monkeypatch
):
    source, opened = asked
    upload(flowdock, b"x")
    await archive(source)
    monkeypatch.setattr(keeping, "SpooledTemporaryFile", Full)
    await fetch_all(source, opened)
    [(_, sha256, attempts, told)] = query(database_url, NAMED)
    assert (sha256, attempts, told) == (None, 1, "[Errno 28] No space left on device")


class FullInTheEnd(BytesIO):
    """A temporary file on a full disk, which shows only when the buffered data are flushed."""

    def __init__(self, **_: object) -> None:
        super().__init__()

    @override
    def seek(self, *to: int) -> int:
        if self.tell():
            raise OSError(ENOSPC, strerror(ENOSPC))
        return super().seek(*to)

    @override
    def close(self) -> None:
        if not self.closed:
            super().close()
            raise OSError(ENOSPC, strerror(ENOSPC))


async def test_a_disk_whose_room_ends_with_the_file_does_not_stop_the_daemon(
    flowdock, asked, database_url, monkeypatch
):
    source, opened = asked
    upload(flowdock, b"x")
    await archive(source)
    monkeypatch.setattr(keeping, "SpooledTemporaryFile", FullInTheEnd)
    await fetch_all(source, opened)
    [(_, sha256, attempts, told)] = query(database_url, NAMED)
    assert (sha256, attempts, told) == (None, 1, "[Errno 28] No space left on device")


async def test_a_file_that_the_disk_of_the_database_cannot_hold_is_left(
    flowdock, asked, database_url, monkeypatch
):
    source, opened = asked
    for data in (b"too much", b"little"):
        upload(flowdock, data)
    await archive(source)

    async def copy_if_small(tx: Any, table: Any, columns: Any, rows: Any) -> None:
        if (given := list(rows))[0][2] == b"too much":
            raise psycopg.errors.DiskFull("could not extend file")
        await copy(tx, table, columns, given)

    monkeypatch.setattr(files, "copy", copy_if_small)
    async with asyncio.timeout(10):
        await fetch_all(source, opened)
    assert [row[3] for row in query(database_url, NAMED)] == [
        "the disk of the database has no room for its 8 bytes", None,
    ]  # fmt: skip
    assert [row[2] for row in query(database_url, KEPT)] == [b"little"]


async def test_what_is_not_given_rests_ever_longer_and_a_person_need_not_wait(
    flowdock, asked, database_url
):
    source, opened = asked
    path = upload(flowdock, b"gone").attachments[0]["path"]
    data = flowdock.world.files.pop(path)
    await archive(source)
    rests = []
    for attempts in (1, 2, 3):
        await fetch_all(source, opened)
        [(_, _, tried, told)] = query(database_url, NAMED)
        assert (tried, told) == (attempts, "the file was answered with status 404")
        rests += query(
            database_url,
            "SELECT round(extract(epoch FROM due_at - now()) / 60) FROM store.attached",
        )
    assert rests == [(1,), (2,), (4,)]

    flowdock.world.files[path] = data
    await fetch_all(source, opened)
    assert [row[1:] for row in query(database_url, NAMED)] == [
        (hashlib.sha256(b"gone").hexdigest(), None, None)
    ]


async def test_what_is_said_now_does_not_wait_behind_what_was_said_before(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        for id_ in (5, 6, 7):
            named = [{"path": f"/files/1/k/{id_}", "file_name": "x"}]
            message = streamed(frame(id_, attachments=named), flow_key)
            await apply(engine, Batch(now=NOW, arrivals=[message]))
        async with transaction(engine) as tx:
            [last] = await files.due(tx, [flow_key], most=1)
            await files.fail(tx, last, error="gone", rest=timedelta())
        async with transaction(engine) as tx:
            turns = [one.path for one in await files.due(tx, [flow_key], most=3)]
    assert turns == [f"/files/1/k/{id_}" for id_ in (6, 5, 7)]


@pytest.fixture
def on_their_way(flowdock: Simulator, monkeypatch: pytest.MonkeyPatch) -> dict[bytes, Event]:
    """The files that were requested, by content; each is served once its event is set."""
    found: dict[bytes, Event] = {}

    async def fetch(_downloads: Downloads, path: str, sink: IO[bytes], *, size_bytes: int) -> None:
        data = flowdock.world.files[path][1]
        assert data not in found, "it is on its way"
        found[data] = Event()
        await found[data].wait()
        assert sink.write(data) == size_bytes

    monkeypatch.setattr(Downloads, "fetch", fetch)
    return found


async def test_slow_files_keep_neither_others_nor_what_is_said_now_waiting(
    flowdock, asked, on_their_way, database_url, monkeypatch
):
    source, opened = asked
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.01)
    for number in range(6):
        upload(flowdock, b"%d" % number)
    await archive(source)
    task = asyncio.create_task(keep_files(source, opened))
    await until(lambda: len(on_their_way) == 4)
    upload(flowdock, b"now")
    await archive(source)
    slow, quick = list(on_their_way)[:2]
    on_their_way[quick].set()
    await until(lambda: len(on_their_way) == 5)
    assert list(on_their_way)[4] == b"now"
    for data in (b"now", *list(on_their_way)[2:4]):
        on_their_way[data].set()
    await until(lambda: len(on_their_way) == 7)
    for data in list(on_their_way)[5:]:
        on_their_way[data].set()
    await until(lambda: len(query(database_url, KEPT)) == 6)
    assert slow not in {row[2] for row in query(database_url, KEPT)}
    on_their_way[slow].set()
    await until(lambda: len(query(database_url, KEPT)) == 7)
    task.cancel()


async def test_files_of_many_accounts_leave_events_a_connection(
    flowdock, on_their_way, database_url
):
    world = flowdock.world
    [flow] = world.flows
    other = world.directory.add_flow(flow.organization, slug="other", name="Other")
    other.members[flowdock.me.id] = True
    settings = settings_for(flowdock, database_url, private=False)
    [one] = settings.require_accounts()
    accounts = tuple(replace(one, name=slug, flows=(f"*/{slug}",)) for slug in (flow.slug, "other"))
    settings = replace(settings, accounts=accounts)
    for place in (flow, other):
        world.upload(place, flowdock.me, file_name="x", content_type="", data=place.slug.encode())
    async with (
        connect(database_url, pool_size=2) as engine,
        daemon.works(settings, engine) as shared,
        asyncio.TaskGroup() as group,
    ):
        sources = []
        for one in accounts:
            account = shared.account(one)
            await account.look_up()
            await archive(account.source)
            sources.append(account.source)
            group.create_task(fetch_all(account.source, partial(shared.downloads, one)))
        await until(lambda: len(on_their_way) == 2)
        with psycopg.connect(database_url) as slow:
            slow.execute("LOCK TABLE store.file_parts")
            for event in on_their_way.values():
                event.set()
            await until(lambda: waits_for_lock(database_url))
            await asyncio.sleep(0.2)  # so that the other one waits as well
            async with asyncio.timeout(10):
                await archive(sources[0])
    assert len(query(database_url, KEPT)) == 2


async def test_files_that_are_all_answered_with_one_page_are_told_alike(
    flowdock, asked, database_url, caplog
):
    source, opened = asked
    for data in (b"1", b"22", bytes(LARGEST + 1), bytes(LARGEST + 2)):
        path = upload(flowdock, data).attachments[0]["path"]
        flowdock.world.files[path] = "text/html", b"a page"
    await archive(source)
    await fetch_all(source, opened)
    told = [one.reason for one in caplog.records if one.msg.startswith("cannot fetch a file")]
    assert (len(told), len(set(told))) == (4, 2)
    assert len({row[3] for row in query(database_url, NAMED)}) == 4


async def test_rests_end_at_a_month(flowdock, asked, database_url):
    source, opened = asked
    flowdock.world.files.pop(upload(flowdock, b"gone").attachments[0]["path"])
    await archive(source)
    query(database_url, "UPDATE store.attached SET attempts = 10000 RETURNING 1")
    await fetch_all(source, opened)
    assert round(rest_of(database_url) / timedelta(days=1)) == 30


async def test_a_clock_that_was_a_year_ahead_keeps_no_file_waiting(flowdock, asked, database_url):
    """As at a boot before the time is known: no certificate is valid then, so all requests fail."""
    source, _ = asked
    [flow_key] = source.paths
    gone = [upload(flowdock, data).attachments[0]["path"] for data in (b"1", b"2", b"3")]
    await archive(source)
    ahead = "UPDATE store.attached SET due_at = now() + %s WHERE path = %s RETURNING 1"
    for path, rest in zip(gone, ("1 year", "30 days", "infinity"), strict=True):
        written = ahead if rest != "infinity" else ahead.replace("now() + %s", "%s::timestamptz")
        assert query(database_url, written, rest, path)
    async with transaction(source.engine) as tx:
        assert [one.path for one in await files.due(tx, [flow_key], most=9)] == gone[:1]


async def test_what_is_not_given_is_asked_for_once_however_long_all_take(
    flowdock, asked, database_url, monkeypatch
):
    source, opened = asked
    flowdock.world.files.pop(upload(flowdock, b"gone").attachments[0]["path"])
    await archive(source)
    monkeypatch.setattr(keeping, "FIRST_REST", timedelta(0))  # over once all have been asked for
    async with asyncio.timeout(10):
        await fetch_all(source, opened)
    assert [row[2] for row in query(database_url, NAMED)] == [1]


async def test_all_files_are_fetched_of_the_flows_that_are_asked_for(asked, database_url):
    source, _ = asked
    [flow_key] = source.paths
    async with transaction(source.engine) as tx:
        other = (await directory.see_flows(tx, [Flow(id=FlowId("o"), path="o/o")], now=NOW))[
            FlowId("o")
        ]
    named = [{"path": f"/files/1/k/{number}", "file_name": "x"} for number in range(3)]
    arrivals = [streamed(frame(5, attachments=named), key) for key in (flow_key, other)]
    await apply(source.engine, Batch(now=NOW, arrivals=arrivals))
    rested = "UPDATE store.attached SET due_at = now() + interval '1 day' RETURNING 1"
    assert len(query(database_url, rested)) == 6
    async with transaction(source.engine) as tx:
        assert await files.due(tx, [flow_key], most=9) == []
        await files.hasten(tx, [flow_key])
    async with transaction(source.engine) as tx:
        wanted = await files.due(tx, [flow_key, other], most=9)
        assert {(one.flow_key, one.path) for one in wanted} == {
            (flow_key, one["path"]) for one in named
        }
        assert len(await files.due(tx, [flow_key], most=2)) == 2
        assert {one.size_bytes for one in wanted} == {None}
        assert await files.due(tx, [other], most=9) == []
        # The same path in another flow is another file.
        await files.keep(tx, wanted[0], BytesIO(b"x"), sha256=hashlib.sha256(b"x").hexdigest())
        await files.fail(tx, wanted[0], error="too late", rest=timedelta())
        await files.fail(tx, wanted[1], error="gone", rest=timedelta())
        assert await files.counts(tx, [flow_key]) == files.Counts(kept=1, missing=2)
        assert await files.counts(tx, [other]) == files.Counts(kept=0, missing=3)
    told = "SELECT path, attempts, error FROM store.attached WHERE error IS NOT NULL"
    assert query(database_url, told) == [(wanted[1].path, 1, "gone")]


async def test_what_is_told_of_its_length_is_what_a_file_is_held_against(
    flowdock, asked, database_url, caplog
):
    source, opened = asked
    for data in (b"all", b"much", b"more"):
        upload(flowdock, data)
    await archive(source)
    told = {"size_bytes = NULL": b"all", "size_bytes = 0": b"much", "size_bytes = 3": b"more"}
    for (path, *_), size in zip(query(database_url, NAMED), told, strict=True):
        change = f"UPDATE store.attached SET {size} WHERE path = '{path}' RETURNING 1"
        assert query(database_url, change) == [(1,)]
    await fetch_all(source, opened)
    assert [row[3] for row in query(database_url, NAMED)] == [
        None, "4 bytes arrived, but Flowdock says 0", "4 bytes arrived, but Flowdock says 3",
    ]  # fmt: skip
    assert [row[2] for row in query(database_url, KEPT)] == [b"all"]
    flows = [one.flow for one in caplog.records if one.msg.startswith("cannot fetch a file")]
    assert flows == [*source.paths.values()] * 2


async def test_more_files_than_are_on_their_way_at_once_are_fetched_one_after_the_other(
    flowdock, asked, database_url, monkeypatch
):
    source, opened = asked
    monkeypatch.setattr(keeping, "AT_ONCE", 1)
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 1000)
    for data in (b"1", b"22"):
        upload(flowdock, data)
    await archive(source)
    await fetch_all(source, opened)
    assert len(query(database_url, KEPT)) == 2

    for data in (b"333", b"4444"):
        upload(flowdock, data)
    await archive(source)
    task = asyncio.create_task(keep_files(source, opened))
    await until(lambda: len(query(database_url, KEPT)) == 4)
    task.cancel()


async def test_not_all_that_are_due_are_looked_through_for_each_of_them(
    flowdock, asked, database_url, monkeypatch
):
    source, opened = asked
    due, looks = files.due, []

    async def look(*told: Any, **also: Any) -> list[files.DueFile]:
        looks.append(await due(*told, **also))
        return looks[-1]

    monkeypatch.setattr(files, "due", look)
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 1000)
    monkeypatch.setattr(keeping, "LOOKED_UP", 6)
    for number in range(20):
        upload(flowdock, b"%d" % number)
    await archive(source)
    await fetch_all(source, opened)
    assert len(query(database_url, KEPT)) == 20
    assert len(looks) < 10


async def test_a_file_that_is_named_again_stays_kept(flowdock, asked, database_url):
    source, opened = asked
    path = upload(flowdock, b"x").attachments[0]["path"]
    await archive(source)
    await fetch_all(source, opened)
    [flow_key] = source.paths
    again = frame(900, attachments=[{"path": path, "file_name": "again", "file_size": 2}])
    await apply(source.engine, Batch(now=NOW, arrivals=[streamed(again, flow_key)]))
    assert [row[1] for row in query(database_url, NAMED)] == [hashlib.sha256(b"x").hexdigest()] * 2


async def test_a_file_that_was_erased_while_it_was_fetched_is_not_kept(
    flowdock, asked, database_url
):
    source, _ = asked
    upload(flowdock, b"x")
    await archive(source)
    async with transaction(source.engine) as tx:
        [one] = await files.due(tx, source.paths, most=9)
    async with transaction(source.engine) as tx:
        await tx.execute(text("DELETE FROM store.attached"))
    async with transaction(source.engine) as tx:
        await files.keep(tx, one, BytesIO(b"x"), sha256=hashlib.sha256(b"x").hexdigest())
    assert query(database_url, KEPT) == []


@pytest.mark.parametrize(("size", "is_given"), [(LARGEST, True), (LARGEST + 1, False)])
async def test_a_file_may_be_as_long_as_the_settings_say(
    flowdock, asked, database_url, size, is_given
):
    source, opened = asked
    upload(flowdock, bytes(size))
    await archive(source)
    await fetch_all(source, opened)
    assert (query(database_url, KEPT) != []) is is_given


async def test_a_token_that_is_refused_is_no_fault_of_the_file(flowdock, asked, database_url):
    source, opened = asked
    upload(flowdock, b"x")
    await archive(source)
    flowdock.faults.add(Fault(kind="status", on="rest", status=401, times=0))
    with pytest.raises(ExceptionGroup) as ended:
        await fetch_all(source, opened)
    assert ended.group_contains(TokenRefused)
    assert [row[2] for row in query(database_url, NAMED)] == [0]


async def test_a_token_that_is_refused_for_a_file_alone_locks_nobody_out(
    flowdock, asked, database_url
):
    source, opened = asked
    upload(flowdock, b"x")
    await archive(source)
    flowdock.faults.add(Fault(kind="status", on="rest", path="/files/*", status=401, times=0))
    for attempts in (1, 2):
        await fetch_all(source, opened)
        assert [row[1:] for row in query(database_url, NAMED)] == [
            (None, attempts, "Flowdock refused the token (401)")
        ]
        flowdock.faults.add(Fault(kind="status", on="rest", path="/user", status=400))


async def test_what_no_index_takes_does_not_hinder_the_message(database_url):
    path = "/files/1/" + "x" * 5000
    attachments = [{"path": path, "file_name": "x", "file_size": 1}, {"file_name": "pathless"}]
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        message = frame(5, attachments=attachments)
        applied = await apply(engine, Batch(now=NOW, arrivals=[streamed(message, flow_key)]))
        assert not applied.refused
    assert [row[1:] for row in query(database_url, NAMED)] == [(None, None, None)] * 2
    assert query(database_url, "SELECT count(*) FROM store.attached") == [(0,)]


@pytest.mark.parametrize(
    ("path", "is_wanted"),
    [
        ("x" * 1000, True),
        ("x" * 1001, False),
        ("ä" * 500, True),
        ("ä" * 501, False),
        ("", False),
        (None, False),
    ],
)
def test_a_path_is_as_long_as_an_index_takes(path, is_wanted):
    assert (files.noting([(1, [Attachment(path=path)])]) is not None) is is_wanted


async def test_a_file_that_an_edit_names_is_wanted_too(database_url):
    named = [{"path": "/files/1/k/x", "file_name": "x", "file_size": 7}]
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        await apply(engine, Batch(now=NOW, arrivals=[streamed(frame(5), flow_key)]))
        again = listed(frame(5, attachments=named), flow_key, as_of=9)
        await apply(engine, Batch(now=NOW, arrivals=[again]))
    wanted = "SELECT path, size_bytes FROM store.attached"
    assert query(database_url, wanted) == [("/files/1/k/x", 7)]


async def test_the_size_that_is_told_last_is_that_of_the_file(database_url):
    wanted = "SELECT size_bytes, due_at < now() FROM store.attached"
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)

        async def name(id_: int, size: int | None) -> None:
            named = [{"path": "/files/1/k/x", "file_name": "x", "file_size": size}]
            message = streamed(frame(id_, attachments=named), flow_key)
            await apply(engine, Batch(now=NOW, arrivals=[message]))

        await name(5, 1)
        async with transaction(engine) as tx:
            [one] = await files.due(tx, [flow_key], most=1)
            await files.fail(tx, one, error="7 bytes came of 1", rest=timedelta(days=30))
        for id_, size in ((6, 1), (7, None)):
            await name(id_, size)
            assert query(database_url, wanted) == [(1, False)]
        await name(8, 7)
        assert query(database_url, wanted) == [(7, True)]


async def test_the_daemon_fetches_what_comes(flowdock, database_url, monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.05)
    flowdock.faults.add(Fault(kind="status", on="rest", path="/files/*"))
    async with archiving(settings_for(flowdock, database_url)):
        upload(flowdock, b"while it runs")
        await until(lambda: bool(query(database_url, KEPT)))
    assert query(database_url, KEPT)[0][2] == b"while it runs"


async def test_files_are_left_where_they_are_if_that_is_wanted(flowdock, database_url):
    settings = settings_for(flowdock, database_url)
    upload(flowdock, b"x")
    off = replace(settings, files=FilesSettings(enabled=False))
    async with connect(database_url) as engine:
        await daemon.backfill_once(off, engine, on_found=lambda _flows: None)
        assert [row[1:] for row in query(database_url, NAMED)] == [(None, 0, None)]
        await daemon.backfill_once(settings, engine, on_found=lambda _flows: None)
    assert len(query(database_url, KEPT)) == 1


async def test_another_account_that_asks_for_a_flow_asks_for_its_files(asked, monkeypatch):
    source, opened = asked
    seen = []

    async def due(*_args: object, flow_keys: list[int], **_rest: object) -> list[files.DueFile]:
        seen.append(flow_keys)
        return []

    monkeypatch.setattr(files, "due", due)
    monkeypatch.setattr(source, "ours", list)
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.01)
    task = asyncio.create_task(keep_files(source, opened))
    await until(lambda: bool(seen))
    task.cancel()
    assert seen[0] == []
