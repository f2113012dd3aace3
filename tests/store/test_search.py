"""Pages neither skip nor repeat, searches end in time, and unknown names are reported."""

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from archiver.domain.model import Flow, FlowId, User, UserId
from archiver.domain.query import BadQuery
from archiver.domain.query_parsing import parse
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.indexing import adopt_lexicon, catch_up
from archiver.store import directory, search_meaning, search_past
from archiver.store.connection import Engine, driver
from archiver.store.engine import connect, transaction
from archiver.store.search import Page, TookTooLong, limited, search
from archiver.store.search_meaning import understand
from archiver.store.search_past import search_as_of
from archiver.store.search_walk import Extent, cells, cut, first_window, next_window, whole
from tests.ingest.arriving import NOW, edit, frame, new_flow, streamed
from tests.store.searching import LANGUAGE, find, ids, on_utc

DAY_MS = 86_400_000
BEFORE_EDITS = datetime(2019, 1, 1, tzinfo=UTC)


async def write(
    engine: Engine, flow_key: int, numbers: Iterable[int], *, content: str = "a needle"
) -> None:
    arrivals = [
        streamed(frame(id_, content=content, sent=1_500_000_000_000 + id_ * DAY_MS), flow_key)
        for id_ in numbers
    ]
    await apply(engine, Batch(now=NOW, arrivals=arrivals))
    await catch_up(engine)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    async with connect(database_url) as engine:
        async with transaction(engine) as tx:
            await adopt_lexicon(tx, language=LANGUAGE)
        yield engine


async def test_pages_neither_skip_nor_repeat_while_messages_arrive(engine):
    flow_key = await new_flow(engine)
    await write(engine, flow_key, range(1, 46))
    found, last = [], None
    while True:
        page = await find(engine, "needle", most=10, older_than=last)
        found += [hit.message_id for hit in page.hits]
        if page.is_last:
            break
        last = page.hits[-1]
        await write(engine, flow_key, range(100 + len(found), 103 + len(found)))
    assert found == list(range(45, 0, -1))


async def test_pages_of_the_past_neither_skip_nor_repeat(engine):
    flow_key = await new_flow(engine)
    await write(engine, flow_key, range(1, 131))
    # These messages, more than are looked at in one go, get the searched word only later.
    await write(engine, flow_key, range(131, 261), content="hay")
    edits = [streamed(edit(1000 + id_, id_, "a needle"), flow_key) for id_ in range(131, 261)]
    await apply(engine, Batch(now=NOW, arrivals=edits))
    await catch_up(engine)
    async with engine.connect() as tx:
        meaning = await understand(tx, parse("needle"), now=NOW, localize=on_utc)
    pages, last = [], None
    while last is None or not pages[-1].is_last:
        page, shown = await search_as_of(
            engine, meaning, moment=BEFORE_EDITS, most=43, older_than=last, seconds=30
        )
        assert [one.id for one in shown] == [hit.message_id for hit in page.hits]
        pages.append(page)
        last = page.hits[-1]
    assert [len(page.hits) for page in pages] == [43, 43, 43, 1]
    assert [hit.message_id for page in pages for hit in page.hits] == list(range(130, 0, -1))


@pytest.mark.parametrize(("others", "shown"), [(30, 70), (130, 0)])
async def test_a_search_of_the_past_whose_time_is_up_tells_how_far_it_came(
    engine, monkeypatch, others, shown
):
    """Of the first hundred hits, so many said it at that time; after them, no time is left."""
    flow_key = await new_flow(engine)
    await write(engine, flow_key, range(1, 131))
    later = range(131, 131 + others)
    await write(engine, flow_key, later, content="hay")
    edits = [streamed(edit(1000 + id_, id_, "a needle"), flow_key) for id_ in later]
    await apply(engine, Batch(now=NOW, arrivals=edits))
    await catch_up(engine)
    async with engine.connect() as tx:
        meaning = await understand(tx, parse("needle"), now=NOW, localize=on_utc)
    ask = partial(search_as_of, engine, meaning, moment=BEFORE_EDITS, most=90, seconds=30)
    looks = 0

    async def look(*args: Any, seconds: float, **kwargs: Any) -> Page:
        nonlocal looks
        looks += 1
        return await search(*args, **kwargs, seconds=seconds if looks == 1 else -1)

    monkeypatch.setattr(search_past, "search", look)
    if not shown:
        with pytest.raises(TookTooLong, match=r"found since 2017-\d\d-\d\d in 30 seconds"):
            await ask(older_than=None)
        return
    page, _ = await ask(older_than=None)
    monkeypatch.undo()
    assert (len(page.hits), page.is_last, page.searched_from) == (shown, False, page.hits[-1])
    rest, _ = await ask(older_than=page.searched_from)
    assert rest.is_last
    assert [one.message_id for one in (*page.hits, *rest.hits)] == list(range(130, 0, -1))


async def test_messages_of_one_id_said_each_its_own_in_the_past(engine):
    said = {await new_flow(engine): text_ for text_ in ("one needle", "two needles")}
    for flow_key, content in said.items():
        await write(engine, flow_key, [1], content=content)
    async with engine.connect() as tx:
        meaning = await understand(tx, parse("needle*"), now=NOW, localize=on_utc)
    _, shown = await search_as_of(
        engine, meaning, moment=BEFORE_EDITS, most=9, older_than=None, seconds=30
    )
    assert {one.flow_key: one.said for one in shown} == said


async def test_messages_of_one_moment_are_told_apart(engine):
    flow_key = await new_flow(engine)
    arrivals = [
        streamed(frame(i, content="twin", sent=1_500_000_000_000), flow_key) for i in range(1, 8)
    ]
    await apply(engine, Batch(now=NOW, arrivals=arrivals))
    await catch_up(engine)
    first = await find(engine, "twin", most=3)
    rest = await find(engine, "twin", older_than=first.hits[-1])
    assert [hit.message_id for hit in (*first.hits, *rest.hits)] == [7, 6, 5, 4, 3, 2, 1]


async def test_a_search_is_stopped_in_time(engine, database_url):
    flow_key = await new_flow(engine)
    await write(engine, flow_key, range(1, 200), content="x" * 200)
    async with engine.connect() as tx:
        meaning = await understand(tx, parse("-xx"), now=NOW, localize=on_utc)
    # A slow machine may need all of that time just to begin.
    with pytest.raises(TookTooLong, match=r"was stopped|did not answer"):
        await search(engine, meaning, most=10, seconds=0.001)


async def test_what_psycopg_is_asked_by_itself_is_stopped_in_time(engine):
    with pytest.raises(TookTooLong, match=r"did not answer in 0\.05 seconds"):
        async with limited(engine, 0.05) as tx, driver(tx) as connection:
            await connection.execute("SELECT pg_sleep(5)")


@pytest.mark.parametrize(
    "pattern", ["*" * 500, "a*" * 100, "(" * 5000, "\\" * 400 + "*a", "%_" * 300]
)
async def test_hostile_patterns_end(engine, pattern):
    flow_key = await new_flow(engine)
    await write(engine, flow_key, [1], content="a" * 90_000)
    with suppress(BadQuery, TookTooLong):
        await find(engine, pattern, seconds=5.0)


async def test_hostile_names_end(engine):
    async with transaction(engine) as tx:
        await directory.see_users(tx, [User(id=UserId("9"), nick="a" * 60)], now=NOW)
    for name in ("*a" * 8 + "*b", "*a" * 100):
        with pytest.raises(BadQuery, match="there is no person named"):
            await find(engine, f"from:{name}")


@pytest.mark.parametrize("group", ["everyone", "Everybody", "team"])
async def test_what_was_said_to_all_is_found_by_the_group(engine, group):
    flow_key = await new_flow(engine)
    tags = {1: [":user:everyone"], 2: [":user:team"], 3: [":user:7"], 4: [f"user:{group}"]}
    frames = [streamed(frame(id_, tags=its), flow_key) for id_, its in tags.items()]
    await apply(engine, Batch(now=NOW, arrivals=frames))
    await catch_up(engine)
    assert ids(await find(engine, f"mentions:{group}")) == {2 if group == "team" else 1}
    with pytest.raises(BadQuery, match="there is no person named managers"):
        await find(engine, "mentions:managers")


async def test_whom_the_service_never_listed_is_found_by_the_whole_name_or_by_a_star(engine):
    flow_key = await new_flow(engine)
    said = streamed(frame(1, external_user_name="Builders", user="0"), flow_key)
    await apply(engine, Batch(now=NOW, arrivals=[said]))
    await catch_up(engine)
    for name in ("builders", "Build*"):
        assert ids(await find(engine, f"from:{name}")) == {1}
    with pytest.raises(BadQuery, match="there is no person named builder"):
        await find(engine, "from:builder")


async def test_in_a_name_a_star_alone_stands_for_other_signs(engine):
    flow = Flow(id=FlowId("f"), path="acme/[old] why?")
    people = [User(id=UserId("8"), nick="[b]?")]
    async with transaction(engine) as tx:
        await directory.see_flows(tx, [flow], now=NOW)
        await directory.see_users(tx, people, now=NOW)
        flow_key = (await directory.name_flows(tx, [flow.id], now=NOW))[flow.id]
    said = streamed(frame(1, user="8"), flow_key)
    await apply(engine, Batch(now=NOW, arrivals=[said]))
    await catch_up(engine)
    for name in ("acme/[old] why?", "[OLD] why?", "acme/*", "*[old]*"):
        assert ids(await find(engine, f"in:'{name}'")) == {1}
    for name in ("acme/[old] why!", "acme/?old? why?", "acme/[[]old] why?", "acm[e]/*"):
        with pytest.raises(BadQuery, match="there is no flow"):
            await find(engine, f"in:'{name}'")
    assert ids(await find(engine, "from:'[b]?'")) == {1}


@pytest.mark.parametrize(
    ("query_", "why"),
    [
        ("in:acme/mian needle", "did you mean acme/main"),
        ("from:nobody", "there is no person named nobody"),
        ('"\u200b"', "no visible letters"),
    ],
)
async def test_what_is_not_there_is_told_with_its_place(engine, query_, why):
    async with transaction(engine) as tx:
        flow = Flow(id=FlowId("f"), path="acme/main")
        await directory.see_flows(tx, [flow], now=NOW)
    with pytest.raises(BadQuery, match=why):
        await find(engine, query_)


WORDS = """
    INSERT INTO store.texts (flow_key, message_id, ordinal, hour, said_at, spaced, lexemes)
    SELECT 1, n, 0, n, to_timestamp(0), '', array_to_tsvector(
        ARRAY(SELECT 'word-' || (n * 7 + k * 13) % 1000 FROM generate_series(1, 20) AS k))
    FROM generate_series(1, 20000) AS n
"""
"""Each word is in one of 50 texts; for a word that it does not know, Postgres assumes half that."""


async def test_whether_anybody_of_a_name_wrote_is_asked_of_the_index(engine):
    async with transaction(engine) as tx:
        await tx.execute(text(WORDS))
        await tx.execute(text("ANALYZE store.texts"))
        explain = text(f"EXPLAIN {search_meaning._HELD.text}")
        plan = (await tx.execute(explain, {"query": "'=xnobody'"})).scalars().all()
    assert "texts_lexemes" in "".join(plan)


async def test_a_message_is_left_out_by_its_id(engine):
    flow_key = await new_flow(engine)
    await write(engine, flow_key, range(1, 4))
    assert ids(await find(engine, "needle -id:2")) == {1, 3}


@pytest.mark.parametrize("is_rare", [False, True])
@pytest.mark.parametrize("rows", [0.0, 10.0, 1e5, 1e7])
def test_the_windows_cover_all_time_once(rows, is_rare):
    extent = Extent(rows, 1000, 90_000)
    window = first_window(extent)
    edge = extent.last_hour + 1
    while window is not None:
        assert window.end == edge
        assert window.hours > 0
        shorter = cut(window)
        assert shorter.end == window.end
        assert 0 < shorter.hours <= window.hours
        assert len(cells(window)) <= 10
        edge = window.begin
        window = next_window(extent, window, is_rare=is_rare)
    assert edge == extent.first_hour
    assert whole(Extent(0.0, 5, 4)) is None


async def test_a_page_of_the_past_may_be_as_long_as_any(engine, admin):
    """Postgres refuses a condition with as many terms as such a page has messages."""
    flow_key = await new_flow(engine)
    admin.execute(_MANY, {"flow_key": flow_key, "most": 8_000})
    await catch_up(engine)
    async with engine.connect() as tx:
        meaning = await understand(tx, parse("needle"), now=NOW, localize=on_utc)
    page, shown = await search_as_of(
        engine, meaning, moment=BEFORE_EDITS, most=8_000, older_than=None, seconds=60
    )
    assert (page.is_last, [one.id for one in shown]) == (True, list(range(8_000, 0, -1)))


async def test_a_name_may_be_that_of_very_many_people(engine, admin):
    flow_key = await new_flow(engine)
    await write(engine, flow_key, [1])
    admin.execute(
        "INSERT INTO store.users (user_id, nick, first_seen_at, last_seen_at)"
        " SELECT id, 'nick' || id, now(), now() FROM generate_series(1, 40000) AS id"
    )
    assert ids(await find(engine, "from:nick*")) == {1}
    assert ids(await find(engine, "mentions:nick*")) == set()


_MANY = """
    WITH written AS (
        INSERT INTO store.messages (flow_key, id, event, sent_at, content, tags, edits, removed,
                                    as_of, revisions)
        SELECT %(flow_key)s, id, 'message', timestamptz '2018-01-01Z' + id * interval '1 minute',
               'a needle', '{}', 0, false, id, 0
        FROM generate_series(1, %(most)s) AS id RETURNING flow_key, id
    )
    INSERT INTO store.changes (flow_keys, ids) SELECT array_agg(flow_key), array_agg(id)
    FROM written
"""
