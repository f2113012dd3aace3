"""Derived rows are the replay of the journal, and are restored whatever was done to them."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from archiver.errors import Corruption
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.indexing import adopt_lexicon, catch_up
from archiver.ingest.rebuild import Step, check, rebuild
from archiver.store import coverage, rebuilding
from archiver.store.connection import Engine
from archiver.store.engine import connect, transaction
from tests.ingest.applying import CHAPTERS, chapter, tell
from tests.ingest.arriving import NOW, derived, edit, frame, listed, new_flow, streamed


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    async with connect(database_url) as connected:
        yield connected


@pytest.fixture
async def flow_key(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> int:
    """A flow with a long history, which is rebuilt in many short batches of ids."""
    monkeypatch.setattr(rebuilding, "BATCH_IDS", 7)
    flow_key = await new_flow(engine)
    for number in range(3):
        await apply(engine, chapter(number, flow_key))
    return flow_key


async def found(steps: AsyncIterator[Step]) -> set[tuple[str, str, str | None]]:
    """The table, id and field of each difference."""
    return {(one.table, one.id, one.field) async for step in steps for one in step.differences}


async def test_what_the_writer_made_is_the_replay_of_the_journal(engine, flow_key):
    assert await found(check(engine, flow_key)) == set()
    assert await found(rebuild(engine, flow_key)) == set()


async def test_everything_that_was_lost_is_made_again(engine, admin, flow_key):
    before = derived(admin, flow_key)
    for table in ("messages", "revisions", "threads"):
        admin.execute(f"DELETE FROM store.{table}")
    lost = await found(rebuild(engine, flow_key))
    assert ("messages", "1", None) in lost
    assert ("threads", "t", None) in lost
    assert derived(admin, flow_key) == before


async def test_files_that_an_older_release_did_not_ask_for_are_asked_for(engine, admin, flow_key):
    """A daemon of before there were files goes on beside the migration, and knows nothing of it."""
    named = {"file_name": "a.png", "file_size": 7, "path": "/files/a.png"}
    posted = streamed(frame(9000, "file", content=named), flow_key)
    await apply(engine, Batch(now=NOW, arrivals=[posted]))
    asked = "SELECT path, size_bytes FROM store.attached ORDER BY path"
    before = admin.execute(asked).fetchall()
    admin.execute("DELETE FROM store.attached WHERE path = '/files/a.png'")
    assert await found(check(engine, flow_key)) == {("attached", "9000", None)}
    assert await found(rebuild(engine, flow_key)) == {("attached", "9000", None)}
    assert admin.execute(asked).fetchall() == before
    assert await found(check(engine, flow_key)) == set()


async def test_a_journal_that_was_altered_is_told_and_nothing_is_made_of_it(
    engine, admin, flow_key
):
    admin.execute(
        "UPDATE store.journal SET payload = replace(payload::text, 'sentence', 'another')::json"
        " WHERE id = 14"
    )
    assert await found(check(engine, flow_key)) >= {("journal", "14", "payload")}
    damaged = derived(admin, flow_key)
    with pytest.raises(Corruption, match="event 14 of the flow"):
        await found(rebuild(engine, flow_key))
    late = listed(frame(14, content="sentence 14", tags=["late"]), flow_key, as_of=1)
    with pytest.raises(Corruption, match="event 14 of the flow"):
        await apply(engine, Batch(now=NOW, arrivals=[late]))
    assert derived(admin, flow_key) == damaged


async def test_no_thread_is_made_of_what_was_altered(engine, admin, flow_key):
    shown = "SELECT max(as_of) FROM store.threads"
    ((last,),) = admin.execute(shown).fetchall()
    admin.execute(
        "UPDATE store.journal SET payload = replace(payload::text, 'chapter', 'forged')::json"
        " WHERE id = %s", [last]
    )  # fmt: skip
    damaged = derived(admin, flow_key)
    told = [one async for step in check(engine, flow_key) for one in step.differences]
    assert [one.id for one in told if one.table == "journal"] == [str(last)]
    with pytest.raises(Corruption, match=f"event {last} of the flow"):
        await found(rebuild(engine, flow_key))
    assert derived(admin, flow_key) == damaged


def holding(admin: psycopg.Connection, word: str) -> set[str]:
    """The tables of the archive that hold *word* in any column."""
    tables = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'store'").fetchall()
    asked = "SELECT FROM store.{} AS one WHERE strpos(one::text, %s) > 0"
    return {table for (table,) in tables if admin.execute(asked.format(table), [word]).rowcount}


async def test_what_the_owner_takes_out_of_the_journal_is_nowhere_after_a_rebuild(engine, admin):
    async with transaction(engine) as tx:
        await adopt_lexicon(tx, language="english")
    flow_key = await new_flow(engine)
    thread = {"id": "t", "title": "zebra"}
    first = frame(1, content="a zebra", thread_id="t", thread=thread)
    told = [first, edit(2, 1, "my zebra"), frame(3)]
    await apply(engine, Batch(now=NOW, arrivals=[streamed(one, flow_key) for one in told]))
    await catch_up(engine)
    assert holding(admin, "zebra") == {"journal", "messages", "revisions", "texts", "threads"}

    admin.execute("DELETE FROM store.journal WHERE id = 1 OR target_id = 1")
    assert await found(rebuild(engine, flow_key)) >= {("messages", "1", None)}
    await catch_up(engine)
    assert holding(admin, "zebra") == set()
    assert await found(check(engine, flow_key)) == set()
    assert admin.execute("SELECT id FROM store.messages").fetchall() == [(3,)]


PLANTED = {
    "messages SET content = 'forged' WHERE id = 1": ("messages", "1", "content"),
    "messages SET tags = '{}' WHERE id = 13": ("messages", "13", "tags"),
    "messages SET detail = '{\"more\": 1}' WHERE id = 2": ("messages", "2", "detail"),
    "messages SET deleted_at = now() WHERE id = 3": ("messages", "3", "deleted_at"),
    "messages SET as_of = 99 WHERE id = 14": ("messages", "14", "as_of"),
    "messages SET id = 8 WHERE id = 4": ("messages", "8", None),
    "revisions SET content = 'forged' WHERE message_id = 1": ("revisions", "1", "content"),
    "revisions SET message_id = 5 WHERE message_id = 1": ("revisions", "5", None),
    "revisions SET message_id = 9999 WHERE message_id = 1": ("revisions", "9999", None),
    "threads SET title = 'forged'": ("threads", "t", "title"),
    "threads SET as_of = 12": ("threads", "t", "title"),
    "threads SET as_of = 13": ("threads", "t", None),
    "threads SET as_of = 9999": ("threads", "t", None),
    "threads SET thread_id = 'z'": ("threads", "z", None),
}


@pytest.mark.parametrize("planted", PLANTED)
async def test_what_was_altered_is_named_and_mended(engine, admin, flow_key, planted):
    before = derived(admin, flow_key)
    admin.execute(f"UPDATE store.{planted}")
    damaged = derived(admin, flow_key)

    told = await found(check(engine, flow_key))
    assert PLANTED[planted] in told
    assert derived(admin, flow_key) == damaged
    assert PLANTED[planted] in await found(rebuild(engine, flow_key))
    assert derived(admin, flow_key) == before
    assert await found(check(engine, flow_key)) == set()


async def test_a_thread_that_is_older_than_what_showed_it_is_found(engine, admin, flow_key):
    before = derived(admin, flow_key)
    admin.execute("UPDATE store.threads SET as_of = 12, title = 'chapter 0', detail = detail || "
                  "'{\"title\": \"chapter 0\"}', told_at = "
                  "(SELECT sent_at FROM store.journal WHERE id = 12)")  # fmt: skip
    assert await found(check(engine, flow_key)) == {("threads", "t", "as_of")}
    await found(rebuild(engine, flow_key))
    assert derived(admin, flow_key) == before


async def test_a_thread_that_no_message_showed_is_made_again(engine, admin, flow_key):
    change = frame(9000, "thread-change", content={"id": "alone", "title": "by its own event"})
    await apply(engine, Batch(now=NOW, arrivals=[streamed(change, flow_key)]))
    before = derived(admin, flow_key)
    admin.execute("DELETE FROM store.threads WHERE thread_id = 'alone'")
    assert await found(rebuild(engine, flow_key)) == {("threads", "alone", None)}
    assert derived(admin, flow_key) == before


async def test_a_thread_is_made_again_in_the_state_that_is_dated_last(engine, admin):
    """A listing shows the newest state with an older message than the event that showed a state."""
    flow_key = await new_flow(engine)
    before, by_now = ({"id": "t", "title": "t", "updated_at": f"2020-01-0{n}"} for n in (1, 2))
    told = [streamed(frame(7, "thread-change", content=before), flow_key)]
    told.append(listed(frame(5, thread_id="t", thread=by_now), flow_key, as_of=7))
    await apply(engine, Batch(now=NOW, arrivals=told))
    assert await found(check(engine, flow_key)) == set()

    as_it_was = derived(admin, flow_key)
    admin.execute("DELETE FROM store.threads")
    await found(rebuild(engine, flow_key))
    assert derived(admin, flow_key) == as_it_was
    assert admin.execute("SELECT as_of FROM store.threads").fetchall() == [(5,)]


async def test_the_time_that_an_export_has_of_all_threads_outweighs_no_event(engine, admin):
    """On the streams, a thread of chat may have no date at all."""
    flow_key = await new_flow(engine)
    exported = {"id": "t", "title": "plans", "updated_at": "1970-01-01T00:00:02.020Z"}
    old = frame(5, thread_id="t", thread=exported)
    new = frame(7, thread_id="t", thread={"id": "t", "title": "new plans"})
    for arrival in (streamed(new, flow_key), listed(old, flow_key, as_of=7)):
        await apply(engine, Batch(now=NOW, arrivals=[arrival]))
    ((title,),) = admin.execute("SELECT title FROM store.threads").fetchall()
    assert title == "new plans"
    assert await found(check(engine, flow_key)) == set()


@pytest.mark.parametrize("undated", [{}, {"updated_at": "1970-01-01T00:00:02.020Z"}])
@pytest.mark.parametrize("turn", [1, -1])
async def test_a_thread_that_is_not_dated_is_as_new_as_the_event_that_showed_it(
    engine, admin, undated, turn
):
    """An export made long after a stream had shown a dated state brings such threads."""
    flow_key = await new_flow(engine)
    dated = {"updated_at": "2020-02-01T00:00:00Z"}
    told = []
    for id_, sent, title, when in (
        (5, "2020-01-01T00:00:00Z", "before", undated),
        (6, "2020-02-01T00:00:00Z", "dated", dated),
        (7, "2020-03-01T00:00:00Z", "after", undated),
        (8, "2020-01-02T00:00:00Z", "before, too", undated),
    ):
        thread = {"id": "t", "title": title, **when}
        told.append(streamed(frame(id_, sent=sent, thread_id="t", thread=thread), flow_key))
    for until, title in ((2, "dated"), (4, "after")):
        for arrival in told[:until][::turn]:
            await apply(engine, Batch(now=NOW, arrivals=[arrival]))
        assert admin.execute("SELECT title FROM archive.threads").fetchall() == [(title,)]
        assert await found(check(engine, flow_key)) == set()
    before = derived(admin, flow_key)
    admin.execute("DELETE FROM store.threads")
    await found(rebuild(engine, flow_key))
    assert derived(admin, flow_key) == before


@pytest.mark.parametrize("turn", [1, -1])
async def test_what_a_thread_was_changed_to_is_shown_with_its_date_if_any_event_has_it(
    engine, admin, turn
):
    """The service dates a thread some milliseconds before its message, an export to 1970."""
    flow_key = await new_flow(engine)
    dates = ("2020-02-01T00:00:00.170Z", "1970-01-01T00:00:02.020Z")
    for at in dates[::turn]:
        thread = {"id": "t", "updated_at": at}
        shown = frame(5, sent="2020-02-01T00:00:00.178Z", thread_id="t", thread=thread)
        await apply(engine, Batch(now=NOW, arrivals=[listed(shown, flow_key, as_of=5)]))
    dated = "SELECT count(*) FROM archive.threads WHERE updated_at = %s"
    assert admin.execute(dated, dates[:1]).fetchall() == [(1,)]
    assert await found(check(engine, flow_key)) == set()


async def test_threads_without_any_date_do_not_depend_on_what_came_first(engine, admin):
    thread = {"id": "t", "title": "plans"}
    stored = []
    for turn in (1, -1):
        flow_key = await new_flow(engine)
        for sent in (0, None)[::turn]:
            shown = frame(5, sent=sent, thread_id="t", thread=thread)
            await apply(engine, Batch(now=NOW, arrivals=[streamed(shown, flow_key)]))
        stored.append(derived(admin, flow_key)["threads"])
    assert stored[0] == stored[1]


async def test_a_message_that_nothing_shows_any_more_is_removed_and_told(engine, admin, flow_key):
    admin.execute("DELETE FROM store.journal WHERE id = 2")
    assert await found(rebuild(engine, flow_key)) == {("messages", "2", None)}
    assert admin.execute("SELECT FROM store.messages WHERE id = 2").rowcount == 0


async def test_rows_that_are_right_are_not_written(engine, admin, flow_key):
    admin.execute("UPDATE store.messages SET content = 'forged' WHERE id = 1")
    places = "SELECT id, ctid::text FROM store.messages WHERE id <> 1 ORDER BY id"
    before = admin.execute(places).fetchall()
    await found(rebuild(engine, flow_key))
    assert admin.execute(places).fetchall() == before


async def test_others_write_meanwhile_and_nothing_differs(engine, admin, monkeypatch):
    monkeypatch.setattr(rebuilding, "BATCH_IDS", 20)
    flow_key = await new_flow(engine)
    writing = asyncio.create_task(tell(engine, flow_key))
    meanwhile = 0
    while not writing.done():
        for walk in (check, rebuild):
            async for step in walk(engine, flow_key):
                assert step.differences == ()
                meanwhile += not writing.done()
    await writing
    assert meanwhile > 10
    assert len(derived(admin, flow_key)["messages"]) == CHAPTERS * 7


async def test_who_writes_to_the_flow_is_waited_for(engine, admin, flow_key):
    waiting = (
        "SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with transaction(engine) as tx:
        await coverage.lock(tx, [flow_key])
        walking = asyncio.create_task(found(rebuild(engine, flow_key)))
        while not admin.execute(waiting).rowcount:
            assert not walking.done()
            await asyncio.sleep(0.01)
    assert await walking == set()


async def test_messages_too_large_to_be_held_together_are_taken_one_by_one(
    engine, admin, flow_key, monkeypatch
):
    monkeypatch.setattr(rebuilding, "BATCH_BYTES", 1)
    before = derived(admin, flow_key)
    admin.execute("DELETE FROM store.messages")
    sizes = [step.messages async for step in rebuild(engine, flow_key)]
    assert max(sizes) == 1
    assert derived(admin, flow_key) == before


async def test_values_are_compared_as_postgres_has_them(engine):
    """It is no difference if JSON or Python spells a value in another way than Postgres."""
    flow_key = await new_flow(engine)
    odd = {"n": 10**25, "x": 1e22, "y": 1.50, "text": "\x00\ud800", "k\x00": [None, 0.1, -0.0]}
    frames = [
        frame(1, "vcs", content=odd, tags=["ä", "Ä,{}", 'qu"ote', "NULL"]),
        frame(2, content="nul \x00 and \ud800", sent=-62135596800000, thread_id="a\x00"),
        frame(3, thread_id="odd", thread={"id": "odd", "title": "x", "updated_at": 1e12, **odd}),
        edit(4, 2, "then \x00"),
    ]
    arrivals = [streamed(one, flow_key) for one in frames]
    arrivals.append(listed(frame(1, "vcs", content=odd, edited=5), flow_key, as_of=9))
    applied = await apply(engine, Batch(now=NOW, arrivals=arrivals))
    assert applied.refused == frozenset()
    assert await found(check(engine, flow_key)) == set()
