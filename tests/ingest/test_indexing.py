"""What was written is soon found, in whatever order transactions commit, and nothing else is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
import pytest
from hypothesis import given

from archiver.domain.query_text import VERSION
from archiver.ingest import indexing
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.index_rows import Maker
from archiver.ingest.indexing import (
    Writers,
    adopt_lexicon,
    catch_up,
    index_forever,
    index_side_by_side,
    index_some,
    part_of_time,
)
from archiver.store import search_queue, search_texts
from archiver.store.connection import Engine
from archiver.store.engine import connect, transaction
from archiver.store.search_queue import Lexicon
from tests.ingest.arriving import (
    FEW,
    NOW,
    SENT,
    Heard,
    cut,
    edit,
    frame,
    hearsay,
    listed,
    new_flow,
    query,
    running,
    streamed,
    tag_change,
    together,
    waits_for_lock,
)
from tests.store.searching import LANGUAGE, find, ids

REFUSE_77 = """
    CREATE TABLE sessions (pid integer, message_id bigint);
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.sessions VALUES (pg_backend_pid(), NEW.message_id); RETURN NEW;
    END $$;
    CREATE TRIGGER tell BEFORE INSERT ON store.texts FOR EACH ROW EXECUTE FUNCTION tell();
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'not now' USING ERRCODE = '53100';
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON store.texts
    FOR EACH ROW WHEN (NEW.message_id = 77) EXECUTE FUNCTION refuse();
"""


async def written(engine: Engine, flow_key: int, *frames: bytes) -> None:
    await apply(engine, Batch(now=NOW, arrivals=[streamed(one, flow_key) for one in frames]))


async def ready(engine: Engine) -> int:
    async with transaction(engine) as tx:
        await adopt_lexicon(tx, language=LANGUAGE)
    return await new_flow(engine)


@asynccontextmanager
async def adopting(database_url: str, *, language: str) -> AsyncIterator[asyncio.Task[None]]:
    """A session that adopts *language*; the block begins when it waits for a lock or is done."""

    async def adopt(other: Engine) -> None:
        async with transaction(other) as tx:
            await adopt_lexicon(tx, language=language)

    async with connect(database_url) as other, asyncio.timeout(20):
        it = asyncio.create_task(adopt(other))
        while not it.done() and not waits_for_lock(database_url):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield it
        await it


async def test_what_commits_late_is_not_passed_over(database_url):
    async with connect(database_url) as engine, connect(database_url) as slow:
        flow_key = await ready(engine)
        other = await new_flow(engine)
        async with slow.connect() as late:
            await late.begin()
            await search_queue.note(late, [(flow_key, 1)])
            await written(engine, other, frame(2, content="early bird"))
            await catch_up(engine)
            assert ids(await find(engine, "bird")) == {2}
            await late.commit()
        backlog = "SELECT count(*) FROM store.changes"
        assert query(database_url, backlog) == [(1,)]
        await catch_up(engine)
        assert query(database_url, backlog) == [(0,)]


async def test_edits_and_deletions_are_followed(database_url):
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        await written(engine, flow_key, frame(1, content="teh cat"), frame(2, content="a dog"))
        await catch_up(engine)
        await written(engine, flow_key, edit(3, 1, "the horse"), edit(4, 2, ""))
        await catch_up(engine)
        found = [ids(await find(engine, one)) for one in ("cat", "horse", "dog", "is:deleted")]
        assert found == [set(), {1}, set(), {2}]


async def test_what_is_listed_again_as_it_was_is_not_indexed_again(database_url):
    plain, edited = frame(1, content="a plain one"), frame(2, content="teh cat", edited=None)
    later = SENT + 3
    shown = [frame(1, content="a plain one", edited=None)]
    shown += [frame(2, content="the cat", edited=later)]
    stored = "SELECT ctid, revision FROM store.revisions ORDER BY ordinal"
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        await written(engine, flow_key, plain, edited, edit(3, 2, "the cat"))
        await catch_up(engine)
        before = query(database_url, stored)
        for as_of in (10, 20):
            again = [listed(one, flow_key, as_of=as_of) for one in shown]
            await apply(engine, Batch(now=NOW, arrivals=again))
            assert query(database_url, "SELECT id, as_of FROM store.messages ORDER BY id") == [
                (1, as_of),
                (2, as_of),
            ]
        assert query(database_url, "SELECT count(*) FROM store.changes") == [(0,)]
        assert len(before) == 2
        assert query(database_url, stored) == before
        receipt = tag_change(21, 1, add=[":unread:7"])
        await written(engine, flow_key, receipt)
        assert query(database_url, "SELECT count(*) FROM store.changes") == [(0,)]


def test_what_is_found_depends_on_the_rows_alone(database_url, admin):
    """Indexing after each batch gives the same texts as indexing the final rows."""
    with running(database_url) as (run, engine):
        run(ready(engine))

        async def indexed(batches: Sequence[Sequence[Heard]]) -> int:
            flow_key = await new_flow(engine)
            for batch in batches:
                await apply(engine, together(batch, flow_key))
                await catch_up(engine)
            return flow_key

        @FEW
        @given(hearsay().flatmap(cut))
        def law(batches):
            flow_key = run(indexed(batches))
            by_and_by = admin.execute(TEXTS, [flow_key]).fetchall()
            admin.execute("DELETE FROM store.texts WHERE flow_key = %s", [flow_key])
            admin.execute("DELETE FROM store.walks WHERE flow_key = %s", [flow_key])
            run(catch_up(engine))
            assert admin.execute(TEXTS, [flow_key]).fetchall() == by_and_by

        law()


TEXTS = """
    SELECT message_id, ordinal, said_at, spaced, lexemes::text FROM store.texts
    WHERE flow_key = %s ORDER BY message_id, ordinal
"""


async def test_messages_from_before_are_walked_to(database_url):
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        await written(engine, flow_key, *(frame(i, content=f"number {i}") for i in range(1, 30)))
        for noted in ("changes", "walks"):
            query(database_url, f"DELETE FROM store.{noted} RETURNING 1")
        assert ids(await find(engine, "number")) == set()
        await catch_up(engine)
        assert ids(await find(engine, "number")) == set(range(1, 30))


async def test_what_was_noted_is_not_walked_to_as_well(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        await written(engine, flow_key, *(frame(i, content=f"number {i}") for i in range(1, 30)))
        async with transaction(engine) as tx:
            await adopt_lexicon(tx, language=LANGUAGE)
            assert (await index_some(tx, Maker())).messages == 29
            assert (await index_some(tx, Maker())).is_done


async def test_another_language_makes_all_texts_anew(database_url):
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        await written(engine, flow_key, frame(1, content="Die Häuser brennen"))
        await catch_up(engine)
        assert ids(await find(engine, "haus")) == set()
        async with transaction(engine) as tx:
            await adopt_lexicon(tx, language="german")
        await catch_up(engine)
        assert ids(await find(engine, "häusern")) == {1}


@pytest.mark.parametrize("language", [LANGUAGE, "german"])
async def test_two_that_begin_at_once_agree_on_how_texts_are_made(database_url, language):
    async with connect(database_url) as engine, engine.connect() as first:
        await adopt_lexicon(first, language=LANGUAGE)
        async with adopting(database_url, language=language):
            await first.commit()
    assert query(database_url, "SELECT language FROM store.lexicon") == [(language,)]


async def test_two_releases_that_begin_at_once_do_not_both_have_their_way(database_url):
    async with connect(database_url) as engine, engine.connect() as first:
        await search_queue.adopt(first, Lexicon(VERSION - 1, LANGUAGE))
        async with adopting(database_url, language=LANGUAGE):
            await first.commit()
    assert query(database_url, "SELECT version FROM store.lexicon") == [(VERSION,)]


async def test_what_is_walked_to_while_the_language_changes_is_made_anew_as_well(database_url):
    async with connect(database_url) as engine, engine.connect() as walking:
        flow_key = await ready(engine)
        await written(engine, flow_key, frame(1, content="Die Häuser brennen"))
        for noted in ("changes", "walks"):
            query(database_url, f"DELETE FROM store.{noted} RETURNING 1")
        assert (await index_some(walking, Maker())).messages == 1
        async with adopting(database_url, language="german"):
            await walking.commit()
        await catch_up(engine)
        assert ids(await find(engine, "häusern")) == {1}


async def test_a_text_that_postgres_refuses_takes_no_other_down(database_url):
    crowd = " ".join(f"w{number:06}" for number in range(14_000))
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        huge = "".join(chr(0x4E00 + number % 20_000) for number in range(100_000))
        frames = [frame(1, content=huge), frame(2, content="small"), frame(3, content=crowd)]
        await written(engine, flow_key, *frames)
        await catch_up(engine)
        assert ids(await find(engine, "small")) == {2}
        assert query(database_url, "SELECT count(*) FROM store.changes") == [(0,)]


async def test_a_picture_pasted_as_text_can_be_searched_beside(database_url):
    picture = "data:image/png;base64,iVBORw0KGgo" + "A" * 4000 + "SUVORK5CYII="
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        await written(engine, flow_key, frame(1, content=f"what is this? {picture}"))
        await catch_up(engine)
        assert ids(await find(engine, "what base64")) == {1}


async def test_the_files_of_a_long_message_are_found_by_their_names(database_url):
    file = {"file_name": "plan.pdf", "path": "/x"}
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        long = frame(1, content="so long " * 20_000, attachments=[file])
        await written(engine, flow_key, long)
        await catch_up(engine)
        assert ids(await find(engine, "plan.pdf so")) == {1}


async def test_two_that_index_do_not_wait_for_each_other(database_url):
    async with connect(database_url) as engine, connect(database_url) as other:
        flow_key = await ready(engine)
        await written(engine, flow_key, frame(1, content="one"))
        async with other.connect() as busy:
            assert await search_queue.begin(busy)
            async with transaction(engine) as tx:
                step = await index_some(tx, Maker())
                assert await index_some(tx, Maker()) == step
            assert step.is_done
        await catch_up(engine)
        assert ids(await find(engine, "one")) == {1}


async def test_nobody_else_indexes_while_one_of_two_sessions_is_left(database_url):
    async with connect(database_url) as engine, connect(database_url) as other:
        flow_key = await ready(engine)
        await written(engine, flow_key, frame(1, content="one"))
        async with engine.connect() as first, other.connect() as left:
            assert await search_queue.begin(first, left)
            await first.rollback()
            await catch_up(engine)
            assert ids(await find(engine, "one")) == set()
        await catch_up(engine)
        assert ids(await find(engine, "one")) == {1}


async def test_two_sessions_share_the_work_and_its_failure(database_url, monkeypatch):
    monkeypatch.setattr(indexing, "BATCH_MESSAGES", 5)
    makers = (Maker(), Maker())
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        frames = [frame(id_, content=f"number {id_}") for id_ in range(1, 200)]
        await written(engine, flow_key, *frames)
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute(REFUSE_77)
            with pytest.raises(psycopg.Error, match="not now"):
                async with transaction(engine) as tx:
                    await index_side_by_side(tx, engine, makers)
            assert ids(await find(engine, "number")) == set()
            admin.execute("DROP TRIGGER refuse ON store.texts")
        async with transaction(engine) as tx:
            step = await index_side_by_side(tx, engine, makers)
        assert step.messages == 199
        told = "SELECT count(DISTINCT pid), count(DISTINCT message_id) FROM sessions"
        assert query(database_url, told) == [(2, 199)]


async def test_two_sessions_never_wait_for_each_other(database_url, monkeypatch):
    monkeypatch.setattr(indexing, "BATCH_MESSAGES", 10)
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        await written(engine, flow_key, *(frame(id_, content="before") for id_ in range(1, 61)))
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute("TRUNCATE store.changes")
            admin.execute("DELETE FROM store.walks")
        await written(engine, flow_key, *(edit(100 + id_, id_, "after") for id_ in range(1, 9)))
        async with asyncio.timeout(20), transaction(engine) as tx:
            step = await index_side_by_side(tx, engine, (Maker(), Maker()))
        assert step.messages == 60
        assert ids(await find(engine, "after")) == set(range(1, 9))


async def test_a_mistake_of_ours_ends_it_as_what_it_is(database_url, monkeypatch):
    async def mistake(*_: object, **__: object) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        await written(engine, flow_key, frame(1, content="one"))
        monkeypatch.setattr(indexing, "_index", mistake)
        with pytest.raises(ZeroDivisionError):
            async with transaction(engine) as tx:
                await index_side_by_side(tx, engine, (Maker(), Maker()))


async def test_long_texts_are_read_few_at_a_time(database_url, monkeypatch):
    monkeypatch.setattr(indexing, "MOST_BYTES", 1000)
    sizes: list[int] = []
    read = search_texts.said

    async def said(tx, keys):
        found = await read(tx, keys)
        sizes.append(sum(len("".join([one.content, *one.earlier]).encode()) for one in found))
        return found

    monkeypatch.setattr(search_texts, "said", said)
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        texts = [f"number{id_} " + "lóng " * (500 if id_ == 7 else 20) for id_ in range(1, 31)]
        frames = [frame(id_, content=text) for id_, text in enumerate(texts, 1)]
        edits = [edit(id_, 9, f"again {id_} " + "long " * 40) for id_ in range(31, 41)]
        await written(engine, flow_key, *frames, *edits)
        await catch_up(engine)
        assert ids(await find(engine, "long")) == set(range(1, 31))
    assert len(sizes) < 30
    assert sorted(sizes)[-2] > 2000  # the long text, and the message with many earlier texts
    assert sorted(sizes)[-3] <= 1000


async def test_of_a_message_edited_ever_again_the_first_texts_and_the_last_are_found(
    database_url, monkeypatch
):
    monkeypatch.setattr(search_texts, "MOST_EARLIER_LETTERS", 12)
    texts = "SELECT ordinal, spaced FROM store.texts ORDER BY ordinal"
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        edits = [edit(id_, 1, text) for id_, text in enumerate(("second", "third", "fourth"), 2)]
        tags = [tag_change(id_, 1, add=[f"tag{id_}"]) for id_ in range(5, 15)]
        await written(engine, flow_key, frame(1, content="first"), *edits, *tags)
        await catch_up(engine)
        assert query(database_url, texts) == [(0, " fourth "), (1, " first "), (2, " second ")]

        await written(engine, flow_key, edit(20, 1, ""))
        await catch_up(engine)
        assert query(database_url, texts) == [(0, " fourth "), (1, " first "), (2, " second ")]


async def test_what_a_message_once_said_is_found_though_that_is_heard_late(database_url):
    """Only the message's history changes then, not what it shows."""
    texts = "SELECT spaced FROM store.texts ORDER BY ordinal"
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        await written(engine, flow_key, frame(1, content="first"), edit(5, 1, "last"))
        await catch_up(engine)
        await written(engine, flow_key, edit(3, 1, "between"))
        await catch_up(engine)
        assert query(database_url, texts) == [(" last ",), (" first ",), (" between ",)]


async def test_a_daemon_keeps_it_up_to_date(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        nobody = Writers(written=lambda: 0, are_behind=lambda: False)
        keeping = asyncio.create_task(index_forever(engine, nobody, language=LANGUAGE))
        await written(engine, flow_key, frame(1, content="soon"))
        async with asyncio.timeout(20):
            while ids(await find(engine, "soon")) != {1}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping


def test_writers_come_first():
    assert part_of_time(is_quiet=True, is_behind=False) == 1
    assert part_of_time(is_quiet=False, is_behind=False) < 1
    assert 0 < part_of_time(is_quiet=True, is_behind=True) < 0.2


async def test_without_trigrams_parts_of_words_are_found_as_well(database_url):
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("DROP INDEX store.texts_parts")
        admin.execute("DROP EXTENSION IF EXISTS pg_trgm")
    async with connect(database_url) as engine:
        flow_key = await ready(engine)
        await written(engine, flow_key, frame(1, content="redeployment"))
        await catch_up(engine)
        assert ids(await find(engine, "*ploy*")) == {1}
