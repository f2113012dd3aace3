"""``docs/security.md``: its recipe erases messages everywhere, and nothing of what others said."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.errors import InsufficientPrivilege

from archiver.domain.coverage import Ranges
from archiver.domain.model import EventId, FlowId
from archiver.ingest.apply import apply
from archiver.ingest.batch import Arrival, Batch
from archiver.ingest.indexing import adopt_lexicon, catch_up
from archiver.ingest.rebuild import check, rebuild
from archiver.store import directory, files
from archiver.store.connection import Engine
from archiver.store.coverage import Standing
from archiver.store.engine import connect, transaction
from archiver.store.granting import grant
from tests.ingest.arriving import NOW, query, waits_for_lock
from tests.sql.conftest import Roles
from tests.sql.world import arrival, changed, edited, file, flow, listing, said, tagged

ROOT = Path(__file__).parent.parent.parent
_, _, RECIPE = (ROOT / "docs/security.md").read_text().partition("### Erasing by hand\n")
STEPS = [
    re.sub("^   ", "", step, flags=re.MULTILINE)
    for step in re.findall(r"^   ```sql\n(.*?)^   ```$", RECIPE, re.MULTILINE | re.DOTALL)
]
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
SIGNAL = {"event": "activity.user", "user": "1", "content": {"status": "my salary"}}

LEFT = ("my salary", "zugzwang")
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
    arrivals += [came(ELSEWHERE, keys[OTHER]), came(SIGNAL, main), arrival(REJECT, None)]
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


async def differences(url: str, *, mend: bool) -> int:
    """How many rows are not the replay of the journal; with *mend*, also index what was written."""
    async with connect(url) as engine:
        keys = [key for (key,) in query(url, "SELECT flow_key FROM store.flows")]
        walk = rebuild if mend else check
        found = 0
        for key in keys:
            found += sum([len(step.differences) async for step in walk(engine, key)])
        if mend:
            await catch_up(engine)
    return found


def test_what_is_erased_is_nowhere_and_what_others_said_stays(
    filled: psycopg.Connection, database_url: str
) -> None:
    assert {place.rpartition(".")[0] for place in places(filled)} == {
        "store.journal", "store.messages", "store.revisions", "store.threads", "store.texts",
        "store.rejects", "store.signals", "store.attached", "store.file_parts", "pg_statistic",
    }  # fmt: skip
    told: list[str] = []
    filled.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    *choosing, erasing, cleaning, checking = STEPS
    for step in choosing:
        filled.execute(step)
    asyncio.run(erase_beside_a_writer(filled, database_url, erasing))
    filled.execute(checking)
    assert {line.partition(":")[0] for line in told} > {"store.messages", "store.texts"}
    told.clear()

    assert asyncio.run(differences(database_url, mend=True)) > 0
    filled.execute(cleaning)
    filled.execute(checking)
    assert told == []
    assert places(filled) == set()
    assert asyncio.run(differences(database_url, mend=False)) == 0
    messages = "SELECT id, content FROM archive.messages WHERE flow = %s ORDER BY id"
    assert query(database_url, messages, MAIN) == list(OF_OTHERS.items())
    assert query(database_url, messages, OTHER) == [(4711, ELSEWHERE["content"])]
    titles = "SELECT title FROM archive.threads ORDER BY thread_id"
    assert query(database_url, titles) == [("[erased]",), ("[erased]",), ("Money:",)]
    kinds = "SELECT id FROM archive.events WHERE event = 'erased' ORDER BY id"
    assert [id_ for (id_,) in query(database_url, kinds)] == ERASED


async def erase_beside_a_writer(db: psycopg.Connection, url: str, erasing: str) -> None:
    """Run the transaction *erasing* while somebody else says something in the flow."""
    step, _, end = erasing.rpartition("COMMIT;")
    async with connect(url) as engine:
        [(flow_key,)] = query(url, "SELECT flow_key FROM store.flows WHERE path = %s", MAIN)
        db.execute(step)
        writing = asyncio.create_task(
            apply(engine, Batch(now=NOW, arrivals=[came(LAST, flow_key)]))
        )
        while not waits_for_lock(url):
            assert not writing.done()
            await asyncio.sleep(0.01)
        db.execute("COMMIT;" + end)
        await writing


def test_what_is_listed_after_an_erasure_comes_back_and_can_be_erased_again(
    filled: psycopg.Connection, database_url: str
) -> None:
    async def list_again() -> None:
        async with connect(database_url) as engine:
            again = [shown(one, flow_key) for one in (STILL_LISTED, REPLY)]
            await apply(engine, Batch(now=NOW, arrivals=again))

    [(flow_key,)] = query(database_url, "SELECT flow_key FROM store.flows WHERE path = %s", MAIN)
    *steps, cleaning, _ = STEPS
    for step in steps:
        filled.execute(step)
    asyncio.run(differences(database_url, mend=True))
    asyncio.run(list_again())
    assert asyncio.run(differences(database_url, mend=False)) == 0
    content = "SELECT content FROM archive.messages WHERE flow = %s AND id = 4711"
    assert query(database_url, content, MAIN) == [(WORDS,)]

    with psycopg.connect(database_url, autocommit=True) as later:
        for step in steps:
            later.execute(step)
        asyncio.run(differences(database_url, mend=True))
        later.execute(cleaning)
        assert places(later) == set()
    assert asyncio.run(differences(database_url, mend=False)) == 0


def test_the_daemon_may_not_erase(
    filled: psycopg.Connection, database_url: str, roles: Roles
) -> None:
    async def make_roles() -> None:
        async with connect(database_url) as engine:
            await grant(engine, writer=roles.writer, reader=roles.reader)

    asyncio.run(make_roles())
    choosing, *_ = STEPS
    filled.execute(f'SET ROLE "{roles.writer}"')
    with pytest.raises(InsufficientPrivilege, match="temporary tables"):
        filled.execute(choosing)
