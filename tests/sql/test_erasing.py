"""What is erased is nowhere any more and does not come back; what others said stays."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from io import BytesIO

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.errors import Diagnostic
from sqlalchemy import text
from sqlalchemy.event import listen

from archiver.domain.coverage import Ranges
from archiver.domain.model import EventId, FlowId
from archiver.errors import ArchiverError
from archiver.ingest import erasing
from archiver.ingest.apply import apply
from archiver.ingest.batch import Applied, Arrival, Batch
from archiver.ingest.cleaning import clean
from archiver.ingest.erasing import erase, survey
from archiver.ingest.erasing_plan import Wanted
from archiver.ingest.indexing import adopt_lexicon, catch_up
from archiver.ingest.rebuild import check
from archiver.store import coverage, directory, files
from archiver.store.cleaning import Left, what_is_left
from archiver.store.connection import Engine
from archiver.store.coverage import Standing
from archiver.store.engine import connect, transaction
from tests.ingest.arriving import NOW, query, waits_for_lock
from tests.sql.world import Frame, arrival, changed, edited, file, flow, listing, said, tagged

MAIN, OTHER = FlowId("acme/main"), FlowId("acme/dev")
WORDS = 'Money: my salary, "Zugzwang" \\ 5 €\nis too low: my salary'
BEGUN = f"T1 {WORDS[:38]}"
"""The thread that the message began: its title is a part of the text."""
FILE = "my salary.pdf"
CONTENT = b"what my salary is"
AT = "2023-01-09 09:00"

OF_OTHERS = {
    4700: "Let us talk about money",
    4713: "What others replied",
    4714: "What others commented",
    4715: "They said, [erased] is too low",
    4716: "Money:",  # in a thread of that title, with which the erased message begins, too
    4717: "Corrected: [erased]",
    4719: "[erased]、[erased]",
    4731: "What others replied to the file",
    4750: "What others said meanwhile",
}
ERASED = [4711, 4712, 4720, 4721, 4724, 4740, 4741, 4742]
FRAMES = [
    said(4700, AT, "ben", OF_OTHERS[4700], thread="T3 Money:"),
    said(4711, AT, "anna", WORDS, "zugzwang", thread=BEGUN),
    file(4712, AT, "anna", FILE, "application/pdf", len(CONTENT)) | {"thread_id": "T2"},
    said(4713, AT, "ben", OF_OTHERS[4713], thread=BEGUN),
    said(4714, AT, "ben", {"title": WORDS[:27], "text": "What others"}, "influx:4711",
         event="comment", thread=BEGUN),
    said(4715, AT, "ben", "They said, my salary is too low", thread=BEGUN),
    said(4716, AT, "ben", OF_OTHERS[4716], thread="T3 Money:"),
    edited(4720, AT, "anna", 4711, "Zugzwang: my salary"),
    tagged(4721, AT, "anna", 4711, "zugzwang-2"),
    changed(4722, AT, "ben", "message-edit", 4714,
            updated_content={"title": "Zugzwang: my salary", "text": OF_OTHERS[4714]}),
    said(4717, AT, "ben", "Corect", thread="T3 Money:"),
    edited(4718, AT, "ben", 4717, "Corrected: zugzwang"),
    said(4719, AT, "ben", "給料、給料"),
    said(4723, AT, "ben", {"id": "T1", "title": "Zugzwang: my salary"}, event="thread-change"),
    changed(4724, AT, "chloe", "emoji-reaction", 4711, emoji="zugzwang", type="add"),
    said(4731, AT, "ben", OF_OTHERS[4731], thread=f"T2 {FILE}"),
    edited(4740, AT, "anna", 4711, ""),
    changed(4741, AT, "anna", "message-delete", 4712),
]  # fmt: skip
LISTED = said(4711, AT, "anna", "zugzwang unheard, my salary", "zugzwang", thread=BEGUN, edited=9)
STILL_LISTED = said(4711, AT, "anna", WORDS, "zugzwang", thread=BEGUN, edited=None)
REPLY = said(4713, AT, "ben", OF_OTHERS[4713], thread=BEGUN, edited=None)
ELSEWHERE = said(4711, AT, "ben", "The same id in another flow")
LAST = said(4750, AT, "ben", OF_OTHERS[4750])
REJECT = b'{"event": "message", "content": "my salary"}'
HARD_REJECT = "<p>給料</p>".encode()
SIGNAL = {"event": "activity.user", "user": "1", "content": {"status": "my salary"}}

ASKED = (4711, 4712)
PHRASES = ("My salary", "zugzwang", "給料")
AGAIN = [
    said(4715, AT, "ben", "They said, my salary is too low", thread=BEGUN, edited=None, app="x"),
    said(4717, AT, "ben", "Corrected: zugzwang", edited=9, thread="T3 Money:"),
]
LEFT = ("my salary", "zugzwang", "給料")
COLUMNS = """
    SELECT c.oid::regclass, quote_ident(attname), atttypid = 'bytea'::regtype
    FROM pg_class c JOIN pg_attribute ON attrelid = c.oid
    WHERE relkind IN ('r', 'm') AND relpersistence = 'p' AND attnum > 0 AND NOT attisdropped
"""


async def archive(engine: Engine) -> None:
    """Archive what is to be erased, and what others said about it; all but the last is indexed."""
    async with transaction(engine) as tx:
        keys = await directory.see_flows(tx, [flow(MAIN), flow(OTHER)], now=NOW)
    main = keys[MAIN]
    arrivals = [came(one, main) for one in FRAMES]
    arrivals += [shown(one, main) for one in (LISTED, REPLY)]
    arrivals += [came(ELSEWHERE, keys[OTHER]), came(SIGNAL, main)]
    arrivals += [arrival(one, None) for one in (REJECT, HARD_REJECT)]
    claims = {main: Standing(streamed=Ranges(((4700, 4750),)), due=4750)}
    await apply(engine, Batch(now=NOW, arrivals=arrivals, gains=claims))
    again = replace(shown(REPLY, main), received_at=NOW, listed_as_of=EventId(4750))
    await apply(engine, Batch(now=NOW + timedelta(hours=1), arrivals=[again]))
    async with transaction(engine) as tx:
        for one in await files.due(tx, [main], most=9):
            await files.keep(tx, one, BytesIO(CONTENT), sha256=sha256(CONTENT).hexdigest())
        await adopt_lexicon(tx, language="english")
    await catch_up(engine)
    late = tagged(4742, AT, "anna", 4711, "zugzwang-3")
    await apply(engine, Batch(now=NOW, arrivals=[came(late, main)]))


async def flow_with(engine: Engine, frames: Sequence[Mapping[str, object]]) -> int:
    """The key of a flow in which this was said."""
    async with transaction(engine) as tx:
        main = (await directory.see_flows(tx, [flow(MAIN)], now=NOW))[MAIN]
    await apply(engine, Batch(now=NOW, arrivals=[came(one, main) for one in frames]))
    return main


def came(frame: Mapping[str, object], flow_key: int) -> Arrival:
    return arrival(json.dumps(frame).encode(), flow_key)


def shown(frame: Mapping[str, object], flow_key: int) -> Arrival:
    return replace(listing(json.dumps(frame).encode(), flow_key), listed_as_of=EventId(4745))


def places(db: psycopg.Connection) -> set[str]:
    """The columns of all tables, also of the system's, in which something is left."""
    found = set()
    for table, column, is_bytes in db.execute(COLUMNS).fetchall():
        text = f"encode({column}, 'escape')" if is_bytes else f"{column}::text"
        for words in LEFT:
            sought = f"SELECT FROM {table} WHERE strpos(lower({text}), '{words}') > 0 LIMIT 1"
            if db.execute(sought).fetchone() is not None:
                found.add(f"{table}.{column}")
    return found


@pytest.fixture
def filled(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection of the owner to an archive with all this in it."""

    async def run() -> None:
        async with connect(database_url) as engine:
            await archive(engine)

    asyncio.run(run())
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("ANALYZE")
        yield db


async def differences(url: str) -> int:
    """How many rows are not the replay of the journal."""
    async with connect(url) as engine:
        found = 0
        for (key,) in query(url, "SELECT flow_key FROM store.flows"):
            found += sum([len(step.differences) async for step in check(engine, key)])
    return found


def main_key(url: str) -> int:
    [(flow_key,)] = query(url, "SELECT flow_key FROM store.flows WHERE path = %s", MAIN)
    return int(flow_key)


def wanted(url: str, *, phrases: tuple[str, ...] = PHRASES) -> Wanted:
    return Wanted(flow_key=main_key(url), ids=frozenset(ASKED), phrases=phrases)


async def erase_all(url: str) -> Sequence[Left]:
    async with connect(url) as engine:
        await erase(engine, wanted(url), now=NOW, reason="asked by Anna")
        return (await clean(engine, PHRASES)).left


def test_what_is_erased_is_nowhere_and_what_others_said_stays(
    filled: psycopg.Connection, database_url: str
) -> None:
    assert {place.rpartition(".")[0] for place in places(filled)} == {
        "store.journal", "store.messages", "store.revisions", "store.threads", "store.texts",
        "store.rejects", "store.signals", "store.attached", "store.file_parts", "pg_statistic",
    }  # fmt: skip
    asyncio.run(erase_beside_a_writer(database_url))
    assert places(filled) == set()
    assert asyncio.run(differences(database_url)) == 0
    messages = "SELECT id, content FROM archive.messages WHERE flow = %s ORDER BY id"
    assert query(database_url, messages, MAIN) == list(OF_OTHERS.items())
    assert query(database_url, messages, OTHER) == [(4711, ELSEWHERE["content"])]
    assert query(database_url, "SELECT DISTINCT raw FROM archive.rejects") == [(b"",)]
    titles = "SELECT title FROM archive.threads ORDER BY thread_id"
    assert query(database_url, titles) == [("[erased]",), ("[erased]",), ("Money:",)]
    kinds = "SELECT DISTINCT id FROM archive.events WHERE event = 'erased' ORDER BY id"
    assert [id_ for (id_,) in query(database_url, kinds)] == ERASED


async def erase_beside_a_writer(url: str) -> None:
    """Erase while somebody else says something in the flow, and waits for it."""
    async with connect(url) as engine, connect(url) as other:
        flow_key = main_key(url)
        async with transaction(other) as tx:
            await coverage.lock(tx, [flow_key])
            erasing = asyncio.create_task(erase(engine, wanted(url), now=NOW))
            while not waits_for_lock(url):
                assert not erasing.done()
                await asyncio.sleep(0.01)
        await apply(other, Batch(now=NOW, arrivals=[came(LAST, flow_key)]))
        await erasing
        assert (await clean(engine, PHRASES)).is_clean


def test_nothing_of_it_comes_back(filled: psycopg.Connection, database_url: str) -> None:
    async def list_again() -> Applied:
        flow_key = main_key(database_url)
        async with connect(database_url) as engine:
            again = [shown(one, flow_key) for one in (STILL_LISTED, LISTED, REPLY, *AGAIN)]
            streamed = [came(one, flow_key) for one in FRAMES]
            streamed += [arrival(one, None) for one in (REJECT, HARD_REJECT)]
            return await apply(engine, Batch(now=NOW, arrivals=[*again, *streamed]))

    assert asyncio.run(erase_all(database_url)) == []
    applied = asyncio.run(list_again())
    assert applied.unheard == 0
    filled.execute("VACUUM ANALYZE")
    assert places(filled) == set()
    assert asyncio.run(differences(database_url)) == 0
    assert (
        query(database_url, "SELECT id FROM archive.messages WHERE id = 4711 AND flow = %s", MAIN)
        == []
    )


def test_the_server_logs_nothing_of_what_a_superuser_erases(
    filled: psycopg.Connection, database_url: str
) -> None:
    logged: list[str] = []

    def hear(notice: Diagnostic) -> None:
        logged.append(f"{notice.message_primary} {notice.message_detail}")

    async def run() -> None:
        async with connect(database_url) as engine:
            listen(engine.sync_engine, "connect", lambda ours, _: ours.add_notice_handler(hear))
            await engine.dispose()
            await survey(engine, wanted(database_url))
            await erase(engine, wanted(database_url), now=NOW)
            assert (await clean(engine, PHRASES)).is_clean

    for setting in ("log_statement = 'all'", "log_min_duration_statement = 0",
                    "client_min_messages = 'log'"):  # fmt: skip
        filled.execute(f'ALTER DATABASE "{filled.info.dbname}" SET {setting}')
    asyncio.run(run())
    assert any("strpos" in one for one in logged)
    assert [one for one in logged if any(words in one.lower() for words in LEFT)] == []


def test_contents_that_another_file_has_stay(database_url: str) -> None:
    async def run() -> None:
        async with connect(database_url) as engine:
            async with transaction(engine) as tx:
                keys = await directory.see_flows(tx, [flow(MAIN), flow(OTHER)], now=NOW)
            told = [
                came(file(1, AT, "anna", "a.txt", "text/plain", 2), keys[MAIN]),
                came(file(2, AT, "anna", "b.txt", "text/plain", 2), keys[MAIN]),
                came(file(3, AT, "ben", "b.txt", "text/plain", 2), keys[MAIN]),
                came(file(1, AT, "ben", "c.txt", "text/plain", 2), keys[OTHER]),
            ]
            await apply(engine, Batch(now=NOW, arrivals=told))
            async with transaction(engine) as tx:
                for one in await files.due(tx, [*keys.values()], most=9):
                    content = b"bb" if one.path.endswith("b.txt") else b"ac"
                    await files.keep(tx, one, BytesIO(content), sha256=sha256(content).hexdigest())
            ids = frozenset({1, 2})
            found = await erase(engine, Wanted(flow_key=keys[MAIN], ids=ids), now=NOW)
            assert found.paths == ["/files/a.txt"]

    asyncio.run(run())
    kept = "SELECT path FROM store.attached JOIN store.file_parts USING (sha256) ORDER BY 1"
    assert query(database_url, kept) == [("/files/b.txt",), ("/files/c.txt",)]


def test_a_crash_leaves_all_of_it(
    filled: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(erasing, "threads_in", fail)
    before = query(database_url, "SELECT * FROM store.journal ORDER BY 1, 2, 3")
    with pytest.raises(RuntimeError):
        asyncio.run(erase_all(database_url))
    assert query(database_url, "SELECT * FROM store.journal ORDER BY 1, 2, 3") == before
    assert asyncio.run(differences(database_url)) == 0


def test_what_is_said_afterwards_is_erased_by_the_next_erasure(
    filled: psycopg.Connection, database_url: str
) -> None:
    async def say_again() -> None:
        flow_key = main_key(database_url)
        edit = edited(4760, AT, "anna", 4711, "Again: zugzwang")
        quote = said(4761, AT, "ben", "He said zugzwang", thread=BEGUN)
        async with connect(database_url) as engine:
            await apply(
                engine, Batch(now=NOW, arrivals=[came(one, flow_key) for one in (edit, quote)])
            )

    assert asyncio.run(erase_all(database_url)) == []
    asyncio.run(say_again())
    assert "store.journal.payload" in places(filled)
    assert asyncio.run(erase_all(database_url)) == []
    assert places(filled) == set()
    assert asyncio.run(differences(database_url)) == 0
    content = "SELECT content FROM archive.messages WHERE id = 4761"
    assert query(database_url, content) == [("He said [erased]",)]


def test_titles_that_come_afterwards_are_erased_by_the_next_erasure(
    filled: psycopg.Connection, database_url: str
) -> None:
    told = said(4761, AT, "ben", "Hush", thread=BEGUN)
    comment = said(4762, AT, "ben", {"title": WORDS, "text": "!"}, "influx:4711", event="comment")
    of_another = said(4763, AT, "ben", "Hm", thread="T3 Money:")

    async def erase_and_reply() -> None:
        async with connect(database_url) as engine:
            flow_key = main_key(database_url)
            asked = wanted(database_url, phrases=())
            await erase(engine, asked, now=NOW)
            assert (await survey(engine, asked)).is_nothing
            later = [came(one, flow_key) for one in (told, comment, of_another)]
            await apply(engine, Batch(now=NOW, arrivals=later))
            assert (await erase(engine, asked, now=NOW)).titled == 2
            assert (await survey(engine, asked)).is_nothing

    asyncio.run(erase_and_reply())
    titles = "SELECT title FROM archive.threads ORDER BY thread_id"
    assert query(database_url, titles) == [("[erased]",), ("[erased]",), ("Money:",)]
    left = "SELECT payload::text FROM store.journal WHERE id > 4750 ORDER BY id"
    assert ["Money" in row[0] for row in query(database_url, left)] == [False, False, True]
    assert asyncio.run(differences(database_url)) == 0


def test_a_title_of_which_words_were_erased_before_is_erased_whole(
    filled: psycopg.Connection, database_url: str
) -> None:
    async def erase_twice() -> None:
        first = Wanted(flow_key=main_key(database_url), ids=frozenset({4712}), phrases=PHRASES[:1])
        async with connect(database_url) as engine:
            await erase(engine, first, now=NOW)
            await erase(engine, wanted(database_url, phrases=()), now=NOW)
            again = [shown(REPLY, main_key(database_url))]
            await apply(engine, Batch(now=NOW, arrivals=again))

    asyncio.run(erase_twice())
    left = "SELECT payload::text FROM store.journal WHERE id = 4713 AND payload::text ~ %s"
    assert query(database_url, left, "Money|Zugzwang") == []
    assert asyncio.run(differences(database_url)) == 0


@pytest.mark.usefixtures("filled")
def test_an_event_that_came_in_two_forms_is_one_place(database_url: str) -> None:
    async def look() -> Mapping[str, int]:
        async with connect(database_url) as engine:
            again = [shown(one, main_key(database_url)) for one in AGAIN]
            await apply(engine, Batch(now=NOW, arrivals=again))
            asked = Wanted(flow_key=main_key(database_url), ids=frozenset({4700}), phrases=PHRASES)
            return (await survey(engine, asked)).places

    told = asyncio.run(look())["zugzwang"]
    quoting = "SELECT count(DISTINCT id), count(*) FROM store.journal WHERE payload::text ~* %s"
    [(events, forms)] = query(database_url, quoting, "zugzwang")
    assert told == events < forms


def test_changes_of_a_message_that_is_not_archived_are_erased_by_their_own_ids(
    database_url: str,
) -> None:
    async def run() -> None:
        async with connect(database_url) as engine:
            async with transaction(engine) as tx:
                main = (await directory.see_flows(tx, [flow(MAIN)], now=NOW))[MAIN]
            told = [came(edited(6, AT, "anna", 5, "my salary"), main)]
            await apply(engine, Batch(now=NOW, arrivals=told))
            with pytest.raises(ArchiverError, match="5, but changes of it are: erase 6;"):
                await survey(engine, Wanted(flow_key=main, ids=frozenset({5})))
            asked = Wanted(flow_key=main, ids=frozenset({6}))
            assert (await erase(engine, asked, now=NOW)).events == 1
            assert (await survey(engine, asked)).is_nothing

    asyncio.run(run())
    with psycopg.connect(database_url, autocommit=True) as db:
        assert places(db) == set()
    assert asyncio.run(differences(database_url)) == 0


def test_a_file_that_was_not_fetched_is_not_asked_for_where_it_never_was(
    filled: psycopg.Connection, database_url: str
) -> None:
    late = file(4751, AT, "ben", "salary 2.pdf", "application/pdf", len(CONTENT))

    async def run() -> Sequence[files.DueFile]:
        async with connect(database_url) as engine:
            flow_key = main_key(database_url)
            await apply(engine, Batch(now=NOW, arrivals=[came(late, flow_key)]))
            await erase(engine, wanted(database_url, phrases=("salary",)), now=NOW)
            async with transaction(engine) as tx:
                await files.hasten(tx, [flow_key])
                return await files.due(tx, [flow_key], most=9)

    assert asyncio.run(run()) == []
    why = "SELECT path, last_error FROM archive.attachments WHERE message_id = 4751"
    assert query(database_url, why) == [("/files/[erased] 2.pdf", files.RENAMED)]
    assert asyncio.run(differences(database_url)) == 0


def test_what_an_integration_showed_with_a_thread_is_erased_from_its_other_events(
    database_url: str,
) -> None:
    shown_in = {
        "id": "T1",
        "title": "A ticket",
        "body": "<p>Zugzwang</p>",
        "fields": [{"label": "Said", "value": "my salary"}, {"label": "Of", "value": None}],
        "status": {"value": "open", "color": "green"},
    }

    def activity(id_: int, title: str) -> Mapping[str, object]:
        frame = said(id_, AT, "ben", None, event="activity")
        return frame | {"title": title, "body": title, "thread_id": "T1", "thread": shown_in}

    async def run() -> None:
        async with connect(database_url) as engine:
            async with transaction(engine) as tx:
                main = (await directory.see_flows(tx, [flow(MAIN)], now=NOW))[MAIN]
            told = [came(activity(5, "opened"), main), came(activity(6, "next"), main)]
            await apply(engine, Batch(now=NOW, arrivals=told))
            asked = Wanted(flow_key=main, ids=frozenset({5}))
            await erase(engine, asked, now=NOW)
            again = [shown(activity(6, "next"), main), came(activity(7, "last"), main)]
            await apply(engine, Batch(now=NOW, arrivals=again))
            assert (await erase(engine, asked, now=NOW)).titled == 1

    asyncio.run(run())
    with psycopg.connect(database_url, autocommit=True) as db:
        assert places(db) == set()
    kept = "SELECT title, status FROM archive.threads"
    assert query(database_url, kept) == [("A ticket", "open")]
    assert asyncio.run(differences(database_url)) == 0


def test_what_only_a_listing_showed_with_a_thread_is_erased_from_its_other_events(
    database_url: str,
) -> None:
    def activity(id_: int, body: str | None) -> Mapping[str, object]:
        thread = {"id": "T1", "title": "A ticket", "body": body}
        frame = said(id_, AT, "ben", None, event="activity")
        return frame | {"title": "opened", "thread_id": "T1", "thread": thread}

    async def run() -> None:
        async with connect(database_url) as engine:
            async with transaction(engine) as tx:
                main = (await directory.see_flows(tx, [flow(MAIN)], now=NOW))[MAIN]
            told = [came(activity(5, None), main), came(activity(6, "Zugzwang"), main)]
            listed = shown(activity(5, "Zugzwang"), main)
            await apply(engine, Batch(now=NOW, arrivals=[*told, listed]))
            await erase(engine, Wanted(flow_key=main, ids=frozenset({5})), now=NOW)

    asyncio.run(run())
    with psycopg.connect(database_url, autocommit=True) as db:
        assert places(db) == set()
    assert asyncio.run(differences(database_url)) == 0


async def test_looking_for_a_long_phrase_takes_no_longer_for_each_row(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("""
            INSERT INTO store.rejects (raw, reason, received_at, origin, digest)
            SELECT 'x', 'x', now(), 'x', gen_random_uuid() FROM generate_series(1, 10000)
        """)
    async with connect(database_url) as engine, transaction(engine) as tx:
        await tx.execute(text("SET LOCAL statement_timeout = '3s'"))  # it is done in 0.1 s
        assert await what_is_left(tx, ["Ж" * 20_000]) == []


def test_what_was_altered_is_not_made_to_look_erased(
    filled: psycopg.Connection, database_url: str
) -> None:
    filled.execute("UPDATE store.journal SET payload = replace(payload::text, 'They', 'I')::json")
    with pytest.raises(ArchiverError, match="event 4715 was altered in "):
        asyncio.run(erase_all(database_url))


def test_a_message_that_was_altered_is_not_made_to_look_erased_by_its_edits(
    filled: psycopg.Connection, database_url: str
) -> None:
    filled.execute("""
        UPDATE store.journal SET payload = replace(payload::text, 'Corect', 'Corrupt')::json
        WHERE id = 4717
    """)
    with pytest.raises(ArchiverError, match="event 4717 was altered in "):
        asyncio.run(erase_all(database_url))
    assert asyncio.run(differences(database_url)) > 0


def test_what_a_reply_says_itself_stays_when_it_is_listed_again(database_url: str) -> None:
    told = said(7, AT, "ben", "Hello", "Hello", thread="T1 Hello")
    later = said(8, AT, "ben", "my salary", thread="T1 my salary")

    async def run() -> None:
        async with connect(database_url) as engine:
            main = await flow_with(engine, [said(5, AT, "anna", "Hello", thread="T1 Hello"), told])
            await apply(engine, Batch(now=NOW, arrivals=[came(later, main)]))
            asked = Wanted(flow_key=main, ids=frozenset({5}), phrases=("my salary",))
            await erase(engine, asked, now=NOW)
            again = [shown({**one, "edited": None}, main) for one in (told, later)]
            await apply(engine, Batch(now=NOW, arrivals=again))
            assert (await survey(engine, asked)).is_nothing

    asyncio.run(run())
    content = "SELECT id, content, tags FROM archive.messages ORDER BY id"
    assert query(database_url, content) == [(7, "Hello", ["Hello"]), (8, "[erased]", [])]
    titles = "SELECT DISTINCT payload -> 'thread' ->> 'title' FROM store.journal WHERE id > 5"
    assert query(database_url, titles) == [("[erased]",)]
    assert asyncio.run(differences(database_url)) == 0


def test_an_older_reply_does_not_bring_back_what_its_thread_showed_later(
    database_url: str,
) -> None:
    moved = {"message_id": 6, "content": {"thread_id": "T1"}}
    told = [
        said(4, AT, "anna", "Hush", thread="T1 Hush"),
        said(6, AT, "ben", "moved"),
        said(7, AT, "ben", "asked", thread="T2 Hm"),
        said(8, AT, "ben", {"id": "T2", "title": "Hm, my salary"}, event="thread-change"),
        said(9, AT, "anna", None, event="message-change") | moved,
    ]
    later = [
        said(6, AT, "ben", "moved", thread="T1 Hush"),
        said(7, AT, "ben", "asked", thread="T2 Hm, my salary"),
    ]

    async def run() -> None:
        async with connect(database_url) as engine:
            main = await flow_with(engine, told)
            asked = Wanted(flow_key=main, ids=frozenset({4}), phrases=("my salary",))
            found = await erase(engine, asked, now=NOW)
            assert (found.titled, len(found.phrases)) == (0, 1)
            erased = [step.erased async for step in check(engine, main)]
            assert sum(erased) == 2  # not of the messages 6 and 7, of which nothing is missing
            await apply(engine, Batch(now=NOW, arrivals=[shown(one, main) for one in later]))
            assert (await survey(engine, asked)).is_nothing
            assert (await clean(engine, ["my salary", "Hush"])).is_clean

    asyncio.run(run())
    said_ = "SELECT id, content FROM archive.messages ORDER BY id"
    assert query(database_url, said_) == [(6, "moved"), (7, "asked")]
    titles = "SELECT title FROM archive.threads ORDER BY thread_id"
    assert query(database_url, titles) == [("[erased]",), ("Hm, [erased]",)]
    assert asyncio.run(differences(database_url)) == 0


def test_letters_of_other_alphabets_are_found_by_those_of_which_they_are_cases(
    database_url: str,
) -> None:
    phrases = ("issuing", "skies", "\u0131nner")
    told = ["I\u017fSU\u0130NG", "\u017f\u212aies", "issu\u0131ng SK\u0130ES", "INNER"]
    rejected = arrival("<p>\u017f\u212a\u0130E\u017f</p>".encode(), None)

    async def run() -> Sequence[Left]:
        async with connect(database_url) as engine:
            frames = [said(id_, AT, "ben", words) for id_, words in enumerate(["", *told], start=1)]
            main = await flow_with(engine, frames)
            await apply(engine, Batch(now=NOW, arrivals=[rejected]))
            asked = Wanted(flow_key=main, ids=frozenset({1}))
            await erase(engine, asked, now=NOW)
            left = (await clean(engine, phrases)).left
            await erase(engine, replace(asked, phrases=phrases), now=NOW)
            assert (await clean(engine, phrases)).is_clean
            return left

    assert {"messages.content", "journal.payload"} <= {one.place for one in asyncio.run(run())}
    content = "SELECT content FROM archive.messages ORDER BY id"
    assert [words for (words,) in query(database_url, content)] == [
        "[erased]", "[erased]", "[erased] [erased]", "[erased]",
    ]  # fmt: skip
    assert query(database_url, "SELECT raw FROM archive.rejects") == [(b"",)]


def test_messages_that_were_moved_do_not_hide_who_began_a_thread(database_url: str) -> None:
    def moved(id_: int, message: int, thread: str) -> Frame:
        change = {"message_id": message, "content": {"thread_id": thread}}
        return said(id_, AT, "ben", None, event="message-change") | change

    told = [
        said(4, AT, "ben", "Older", thread="T0 Older"),
        said(5, AT, "anna", "Hush", thread="T1 Hush"),
        said(6, AT, "ben", "!", thread="T1 Hush"),
        said(7, AT, "anna", "Psst", thread="T2 Psst"),
        said(8, AT, "ben", "?", thread="T2 Psst"),
        moved(9, 4, "T1"),
        moved(10, 7, "T3"),
    ]

    async def run() -> None:
        async with connect(database_url) as engine:
            main = await flow_with(engine, told)
            asked = Wanted(flow_key=main, ids=frozenset({5, 7}))
            assert (await erase(engine, asked, now=NOW)).titled == 2

    asyncio.run(run())
    titles = "SELECT thread_id, title FROM archive.threads ORDER BY thread_id"
    assert query(database_url, titles) == [
        ("T0", "Older"), ("T1", "[erased]"), ("T2", "[erased]"),
    ]  # fmt: skip
    assert asyncio.run(differences(database_url)) == 0


def test_what_people_reacted_with_does_not_come_back(database_url: str) -> None:
    message = said(8, AT, "anna", "Hello", edited=None)
    reacted = changed(9, AT, "ben", "emoji-reaction", 8, emoji="my salary", type="add")
    unheard = said(10, AT, "anna", "Hi", edited=None, emojiReactions={"+1": ["3"], "zugzwang": "2"})
    listed = [message | {"emojiReactions": {"my salary": ["2"]}}, unheard]

    async def run() -> None:
        async with connect(database_url) as engine:
            main = await flow_with(engine, [message, reacted, said(11, AT, "anna", "to erase")])
            await apply(engine, Batch(now=NOW, arrivals=[shown(unheard, main)]))
            asked = Wanted(flow_key=main, ids=frozenset({11}), phrases=PHRASES)
            await erase(engine, asked, now=NOW)
            await apply(engine, Batch(now=NOW, arrivals=[shown(one, main) for one in listed]))

    asyncio.run(run())
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("VACUUM ANALYZE")
        assert places(db) == set()
    reactions = "SELECT id, reactions FROM archive.messages ORDER BY id"
    assert query(database_url, reactions) == [(8, {"[erased]": ["2"]}), (10, {"+1": ["3"]})]
    assert asyncio.run(differences(database_url)) == 0
