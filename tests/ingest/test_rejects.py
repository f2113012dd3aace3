"""A reject that is placed gets the position of the stream or listing that brought it."""

import asyncio
from datetime import timedelta

import psycopg
import pytest

from archiver.domain.coverage import Ranges
from archiver.domain.model import Flow, FlowId
from archiver.domain.proportion import OUT_OF_PROPORTION
from archiver.ingest import rejects
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.live import OLD_NAME
from archiver.ingest.names import Names
from archiver.store import coverage, rejecting
from archiver.store.connection import Engine
from archiver.store.coverage import PageRow, Standing
from archiver.store.engine import connect, transaction
from tests.ingest.arriving import NOW, edit, frame, new_flow, query, streamed, waits_for_lock


def kept(
    database_url: str, raw: bytes, *, origin: str = "default 1", reason: str = "not understood"
) -> int:
    """The id of a new reject."""
    insert = (
        "INSERT INTO store.rejects (received_at, origin, reason, raw, digest)"
        " VALUES (%s, %s, %s, %s, gen_random_uuid()) RETURNING id"
    )
    ((reject,),) = query(database_url, insert, NOW, origin, reason, raw)
    return int(reject)


async def main_flow(engine: Engine) -> int:
    """The key of a flow that the service lists as acme/main."""
    main = Flow(id=FlowId("f"), path="acme/main")
    return (await Names(engine).see([main], now=NOW))[main.id]


@pytest.mark.parametrize(
    ("origin", "minutes", "as_of"),
    [("list acme/main", -1, 8), ("list acme/main", 1, 5), ("default 1", -1, 5)],
    ids=["known", "unknown", "none of a page"],
)
async def test_an_element_of_a_page_has_the_position_of_that_page_or_its_own(
    database_url, origin, minutes, as_of
):
    async with connect(database_url) as engine:
        flow_key = await main_flow(engine)
        async with transaction(engine) as tx:
            page = PageRow(
                flow_key=flow_key,
                run="00000000-0000-0000-0000-000000000000",
                purpose="backfill",
                asked=(1, 9),
                proven=None,
                messages=1,
                as_of=8,
                requested_at=NOW + timedelta(minutes=minutes),
            )
            await coverage.advance(tx, {}, pages=[page], now=NOW)
        edited = streamed(edit(7, 5, "edited"), flow_key)
        await apply(engine, Batch(now=NOW, arrivals=[edited]))
        reject = kept(database_url, frame(5, tags=["as listed"]), origin=origin)
        placed = await rejects.retry(engine, reject, now=NOW)
    assert (placed.reason, placed.event_id) == (None, 5)
    assert query(database_url, "SELECT count(*) FROM archive.rejects") == [(0,)]
    assert query(database_url, "SELECT as_of FROM archive.forms WHERE id = 5") == [(as_of,)]
    assert query(database_url, "SELECT content FROM archive.messages") == [("edited",)]


@pytest.mark.parametrize(
    ("origin", "kind", "doubts"),
    [
        ("default 1", "message", [(1, 9)]),
        ("list acme/main", "message", [(1, 9)]),
        ("import acme/main", "message", [(1, 9)]),
        ("default 1", "activity.user", []),
    ],
)
async def test_what_was_proven_without_it_is_listed_again(database_url, origin, kind, doubts):
    """The message may have been deleted before its reject is placed."""
    async with connect(database_url) as engine:
        flow_key = await main_flow(engine)
        gain = Standing(listed=Ranges(((1, 9),)), due=9)
        await apply(engine, Batch(now=NOW, gains={flow_key: gain}))
        reject = kept(database_url, frame(5, kind), origin=origin)
        placed = await rejects.retry(engine, reject, now=NOW)
    assert (placed.reason, placed.event_id) == (None, 5)
    assert query(database_url, "SELECT from_id, to_id FROM archive.doubts") == doubts


@pytest.mark.parametrize("origin", ["default 1", "list acme/main", "import acme/main"])
@pytest.mark.parametrize("kind", ["message", "activity.user"])
async def test_an_id_out_of_all_proportion_finds_no_place(database_url, origin, kind):
    async with connect(database_url) as engine:
        flow_key = await main_flow(engine)
        await apply(engine, Batch(now=NOW, arrivals=[streamed(frame(7), flow_key)]))
        reject = kept(database_url, frame(8 * 10**15, kind), origin=origin, reason="not believed")
        tried = await rejects.retry(engine, reject, now=NOW)
    assert (tried.reason, tried.event_id) == (OUT_OF_PROPORTION, None)
    assert query(database_url, "SELECT max(id) FROM store.journal") == [(7,)]
    assert query(database_url, "SELECT count(*) FROM archive.rejects") == [(1,)]


@pytest.mark.parametrize("origin", ["default 1", "list acme/main", "import acme/main"])
async def test_a_name_of_old_is_that_of_the_flow_listed_at_the_path(database_url, origin):
    """An old event may have named it before the service listed the flow."""
    async with connect(database_url) as engine:
        before = await Names(engine).key(FlowId("acme:main"), now=NOW)
        await main_flow(engine)
        reject = kept(database_url, frame(5, flow="acme:main"), origin=origin)
        placed = await rejects.retry(engine, reject, now=NOW)
    assert (placed.reason, placed.flow) == (None, "acme/main")
    held = query(database_url, "SELECT flow_key FROM store.messages")
    assert len(held) == 1
    assert held != [(before,)]


@pytest.mark.parametrize(
    ("origin", "named", "name"),
    [
        ("default 1", "acme:main", "acme:main"),
        ("list acme/main", "acme:main", "acme:main"),
        ("import acme/main", "acme:main", "acme:main"),
        ("list acme/main", None, "acme/main"),
        ("show acme/main", None, "acme/main"),
        ("import acme/main", None, "acme/main"),
    ],
)
async def test_a_name_of_old_is_not_that_of_a_flow_that_took_the_path_later(
    database_url, origin, named, name
):
    later = NOW + timedelta(days=1)
    async with connect(database_url) as engine:
        names = Names(engine)
        await names.see([Flow(id=FlowId("former"), path="acme/main")], now=NOW)
        renamed = Flow(id=FlowId("former"), path="acme/before")
        await names.see([renamed, Flow(id=FlowId("latter"), path="acme/main")], now=later)
        reject = kept(database_url, frame(5, flow=named), origin=origin)
        tried = await rejects.retry(engine, reject, now=later)
    told = f"it came before the flow that is {name} now: another may be meant"
    assert tried.reason == told
    assert query(database_url, "SELECT count(*) FROM store.messages") == [(0,)]
    assert query(database_url, "SELECT count(*) FROM archive.rejects") == [(1,)]


async def test_what_a_stream_brought_of_a_path_is_left_to_the_flow_of_that_id(database_url):
    async with connect(database_url) as engine:
        names = Names(engine)
        await names.see([Flow(id=FlowId("main"), path="acme/main")], now=NOW)
        reject = kept(database_url, frame(5, flow="acme:main"), reason=OLD_NAME)
        assert (await rejects.retry(engine, reject, now=NOW)).reason == OLD_NAME
        await names.see([Flow(id=FlowId("acme:main"), path="acme/before")], now=NOW)
        assert (await rejects.retry(engine, reject, now=NOW)).flow == "acme/before"


async def test_what_two_retry_at_once_is_placed_once(database_url):
    async with connect(database_url) as engine:
        reject = kept(database_url, frame(5, "activity.user", flow=None))
        with psycopg.connect(database_url) as other:
            other.execute("LOCK TABLE store.signals IN EXCLUSIVE MODE")
            tries = [asyncio.create_task(rejects.retry(engine, reject, now=NOW)) for _ in range(2)]
            while not waits_for_lock(database_url, sessions=2):  # noqa: ASYNC110 - there is no person named
                await asyncio.sleep(0.01)
        placed = await asyncio.gather(*tries)
    assert sorted((one.is_there, one.reason) for one in placed) == [
        (False, "there is no such reject"),
        (True, None),
    ]
    assert query(database_url, "SELECT count(*) FROM store.signals") == [(1,)]
    assert query(database_url, "SELECT count(*) FROM archive.rejects") == [(0,)]


@pytest.mark.parametrize(
    ("origin", "witness"),
    [
        ("default 1", "stream"),
        ("list acme/main", "list"),
        ("show acme/main", "list"),
        ("import acme/main", "import"),
    ],
)
async def test_what_is_placed_is_told_by_what_brought_it(database_url, origin, witness):
    async with connect(database_url) as engine:
        await main_flow(engine)
        reject = kept(database_url, frame(5), origin=origin)
        placed = await rejects.retry(engine, reject, now=NOW)
    assert (placed.reason, placed.event_id) == (None, 5)
    told = "SELECT id, witness, as_of FROM archive.forms"
    assert query(database_url, told) == [(5, witness, 5)]


async def test_a_position_is_that_of_the_last_page_that_may_have_shown_it(database_url):
    async with connect(database_url) as engine:
        flow_key, other = await new_flow(engine), await new_flow(engine)
        rows = [
            PageRow(
                flow_key=key,
                run="00000000-0000-0000-0000-000000000000",
                purpose="backfill",
                asked=asked,
                proven=None,
                messages=messages,
                as_of=as_of,
                requested_at=NOW - timedelta(minutes=minutes),
            )
            for key, asked, messages, as_of, minutes in (
                (flow_key, (1, 9), 1, 7, 4),
                (flow_key, (1, 9), 1, 8, 3),
                (flow_key, (1, 9), 0, 9, 2),
                (flow_key, (6, 9), 1, 9, 1),
                (other, (1, 9), 1, 9, 0),
            )
        ]
        async with transaction(engine) as tx:
            await coverage.advance(tx, {}, pages=rows, now=NOW)
            assert await rejecting.listed_as_of(tx, flow_key, 5, at=NOW) == 8


async def test_newlines_of_a_stream_that_an_earlier_release_refused_are_placed(database_url):
    async with connect(database_url) as engine:
        await main_flow(engine)
        raw = frame(5, content="two lines").replace(b"two lines", b"two\nlines")
        reject = kept(database_url, raw, reason="not JSON")
        placed = await rejects.retry(engine, reject, now=NOW)
    assert (placed.reason, placed.event_id) == (None, 5)
    assert query(database_url, "SELECT content FROM archive.messages") == [("two\nlines",)]
