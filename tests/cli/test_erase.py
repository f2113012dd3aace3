"""``archiver erase``: what it shows, asks and refuses, and what other commands say of it then."""

import asyncio
import json
import os
import pty
import signal
from pathlib import Path
from select import select

import psycopg
import pytest

from archiver.domain.coverage import Ranges
from archiver.domain.model import FlowId
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.indexing import adopt_lexicon, catch_up
from archiver.store import directory
from archiver.store.connection import Engine
from archiver.store.coverage import Standing
from archiver.store.engine import connect, transaction
from archiver.store.granting import grant
from tests.cli.conftest import Run
from tests.cli.forks import Starter
from tests.conftest import created, named
from tests.ingest.arriving import NOW, edit, frame, query, streamed, waits_for_lock
from tests.sql.world import arrival, flow

SECRET = "the salary of Anna"
THREAD = {"id": "t", "title": SECRET}


async def flow_named(engine: Engine, path: str) -> int:
    async with transaction(engine) as tx:
        return (await directory.see_flows(tx, [flow(FlowId(path))], now=NOW))[FlowId(path)]


async def say(url: str, flow: str, id_: int, content: str) -> None:
    async with connect(url) as engine:
        arrivals = [streamed(frame(id_, content=content), await flow_named(engine, flow))]
        await apply(engine, Batch(now=NOW, arrivals=arrivals))


async def prove(url: str, flow: str, first: int, last: int) -> None:
    async with connect(url) as engine:
        claims = {await flow_named(engine, flow): Standing(listed=Ranges(((first, last),)))}
        await apply(engine, Batch(now=NOW, arrivals=[], gains=claims))


@pytest.fixture
def archive(database_url: str) -> str:
    """A flow with a message, an edit of it, a reply, and a quote of it."""

    async def fill() -> None:
        async with connect(database_url) as engine:
            flow_key = await flow_named(engine, "acme/main")
            frames = [
                frame(5, content=SECRET, thread_id="t", thread=THREAD),
                edit(6, 5, f"{SECRET}, I said"),
                frame(7, content="hush", thread_id="t", thread=THREAD),
                frame(8, content=f"«{SECRET}»?!"),
                frame(9, content="nothing of it"),
            ]
            claims = {flow_key: Standing(streamed=Ranges(((5, 9),)), due=9)}
            arrivals = [streamed(one, flow_key) for one in frames]
            await apply(engine, Batch(now=NOW, arrivals=arrivals, gains=claims))

    asyncio.run(fill())
    return database_url


def contents(url: str) -> list[tuple[int, str]]:
    return query(url, "SELECT id, content FROM archive.messages ORDER BY id")


def test_it_erases_and_says_so(archiver: Run, archive: str) -> None:
    told = archiver(
        "erase", "ACME/main", "5", "--phrase", SECRET.upper(), "--reason", "asked for", "--yes",
        ARCHIVER_DATABASE_URL=archive,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "  5  2020-01-01 00:00:00Z  user 1  message\n  1 change of these\n" in told.stdout
    assert "the title in 1 other event" in told.stdout
    assert "in 2 other places\n" in told.stdout
    assert "erased: 2 events\nno phrase is left in the database\nnot reached: " in told.stdout
    assert contents(archive) == [(7, "hush"), (8, "«[erased]»?!"), (9, "nothing of it")]
    assert query(archive, "SELECT title FROM archive.threads") == [("[erased]",)]

    checked = archiver("rebuild", "--check", ARCHIVER_DATABASE_URL=archive)
    assert checked.returncode == 0
    assert "4 forms of events of which words or all were erased" in checked.stdout
    explained = archiver("explain", "acme/main", "5", ARCHIVER_DATABASE_URL=archive).stdout
    assert explained.startswith("acme/main 5: erased\n  proven by an unbroken stream\n")
    assert "form 0, erased\n  it was erased by the owner of the database, 20" in explained
    assert ": asked for\n  it had come by the stream\n" in explained
    quote = archiver("explain", "acme/main", "8", ARCHIVER_DATABASE_URL=archive).stdout
    assert "words of it were erased by the owner of the database, 20" in quote
    assert SECRET not in explained + quote

    again = archiver("erase", "acme/main", "5", "--json", ARCHIVER_DATABASE_URL=archive)
    assert again.returncode == 0
    assert json.loads(again.stdout)["events"] == 0


def test_nothing_is_erased_where_nobody_can_be_asked(archiver: Run, archive: str) -> None:
    told = archiver("erase", "acme/main", "5", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 2
    assert told.stderr.endswith("nothing was erased: nobody can be asked here, so add --yes\n")
    assert (5, f"{SECRET}, I said") in contents(archive)


REFUSED = {
    "77": "not archived: 77; nothing was erased. archiver explain says why",
    "6": "6 is a message-edit of 5: erase 5, and its changes are erased with it; "
    "nothing was erased",
    "five": "'five' is not an id (see archiver erase --help)",
}


@pytest.mark.parametrize("id_", REFUSED)
def test_ids_that_cannot_be_erased_are_refused(archiver: Run, archive: str, id_: str) -> None:
    ended = archiver("erase", "acme/main", "8", id_, "--yes", ARCHIVER_DATABASE_URL=archive)
    assert ended.returncode == 2
    assert ended.stderr == f"archiver: error: {REFUSED[id_]}\n"
    assert len(contents(archive)) == 4


@pytest.mark.parametrize(
    ("phrase", "why"),
    [
        (" no ", "' no ' is too short: it would be found in anything"),
        ("給", "'給' is too short: it would be found in anything"),
        ("Erased", "'Erased' would be found in what an erasure leaves"),
    ],
)
def test_a_phrase_that_cannot_be_meant_is_refused(
    archiver: Run, archive: str, phrase: str, why: str
) -> None:
    ended = archiver(
        "erase", "acme/main", "5", "--phrase", phrase, "--yes", ARCHIVER_DATABASE_URL=archive
    )
    assert ended.returncode == 2
    assert f"--phrase {why} (see " in ended.stderr
    assert len(contents(archive)) == 4


def test_the_answer_decides_on_a_terminal(
    starter: Starter, environ: dict[str, str], archive: str
) -> None:
    for answer, status, messages in (("n", 2, 4), ("y", 0, 3)):
        ours, its = pty.openpty()
        settings = {**environ, "ARCHIVER_DATABASE_URL": archive, "TERM": "xterm"}
        with starter.start(["erase", "acme/main", "5"], settings, its, its, its) as started:
            os.close(its)
            os.write(ours, f"{answer}\n".encode())
            shown = b""
            while b"Erase this?" not in shown:
                shown += os.read(ours, 1000)
            assert started.wait() == status
        os.close(ours)
        assert len(contents(archive)) == messages


def test_an_interruption_at_the_question_is_answered_at_once(
    starter: Starter, environ: dict[str, str], archive: str
) -> None:
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        ours, its = pty.openpty()
        settings = {**environ, "ARCHIVER_DATABASE_URL": archive, "TERM": "xterm"}
        with starter.start(["erase", "acme/main", "5"], settings, its, its, its) as started:
            os.close(its)
            shown = b""
            while b"Erase this?" not in shown:
                shown += os.read(ours, 1000)
            while b"stopped: nothing was erased" not in shown:
                # Python may miss a signal between the question and waiting for the answer.
                started.send_signal(number)
                while b"erased" not in shown.split(b"?")[1] and select([ours], [], [], 5)[0]:
                    shown += os.read(ours, 1000)
            assert started.wait() == status
        os.close(ours)
    assert len(contents(archive)) == 4


END_WAITING = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize(
    ("held", "told", "messages"),
    [
        (
            "SELECT FROM store.ledger FOR UPDATE",  # which the erasure locks
            "all of it was erased, or nothing; run the same command again",
            4,
        ),
        (
            "LOCK TABLE store.rejects IN SHARE UPDATE EXCLUSIVE MODE",  # as VACUUM does
            "it was erased; run the same command again to remove what was computed from it",
            3,
        ),
    ],
)
def test_who_interrupts_it_is_told_how_far_it_came(
    starter: Starter,
    environ: dict[str, str],
    archive: str,
    tmp_path: Path,
    *,
    held: str,
    told: str,
    messages: int,
    is_cut: bool,
) -> None:
    settings = {**environ, "ARCHIVER_DATABASE_URL": archive}
    with psycopg.connect(archive) as holder, (tmp_path / "out").open("w") as out:
        holder.execute(held.encode())
        files = (out.fileno(), out.fileno(), out.fileno())
        with starter.start(["erase", "acme/main", "5", "--yes"], settings, *files) as started:
            while not waits_for_lock(archive):
                pass
            if is_cut:
                query(archive, END_WAITING)
            else:
                started.send_signal(signal.SIGINT)
            assert started.wait() == (2 if is_cut else 130)
    assert f"stopped: {told}" in (tmp_path / "out").read_text()
    assert len(contents(archive)) == messages


def test_a_phrase_in_the_reason_of_an_earlier_erasure_is_told(archiver: Run, archive: str) -> None:
    home = {"ARCHIVER_DATABASE_URL": archive}
    assert archiver("erase", "acme/main", "9", "--reason", SECRET, "--yes", **home).returncode == 0
    told = archiver("erase", "acme/main", "5", "--phrase", SECRET, "--yes", **home)
    assert told.returncode == 1
    assert "left: journal.payload, 1 row: " in told.stdout
    assert "in the reason of an earlier erasure" in told.stdout


def test_ids_are_read_from_standard_input(
    starter: Starter, environ: dict[str, str], archive: str, tmp_path: Path
) -> None:
    (tmp_path / "ids").write_text("id\n5\n9\n\n")
    settings = {**environ, "ARCHIVER_DATABASE_URL": archive}
    with (tmp_path / "ids").open() as ids, (tmp_path / "out").open("w") as out:
        files = (ids.fileno(), out.fileno(), out.fileno())
        with starter.start(["erase", "acme/main", "-", "--yes"], settings, *files) as started:
            assert started.wait() == 0
    assert [id_ for id_, _ in contents(archive)] == [7, 8]


def test_what_is_left_in_another_flow_is_told(archiver: Run, archive: str) -> None:
    asyncio.run(say(archive, "acme/dev", 1, SECRET))
    told = archiver(
        "erase", "acme/main", "5", "--phrase", SECRET, "--yes", ARCHIVER_DATABASE_URL=archive
    )
    assert told.returncode == 1
    assert "left: journal.payload, 1 row: in other flows: acme/dev\n" in told.stdout


def test_two_letters_are_a_word_where_each_is_a_syllable(archiver: Run, archive: str) -> None:
    asyncio.run(say(archive, "acme/main", 10, "その給料は安い"))
    told = archiver(
        "erase", "acme/main", "5", "--phrase", "給料", "--yes", ARCHIVER_DATABASE_URL=archive
    )
    assert told.returncode == 0, told.stderr
    assert (10, "その[erased]は安い") in contents(archive)


def test_a_search_index_that_is_behind_is_told(archiver: Run, archive: str) -> None:
    async def index() -> None:
        async with connect(archive) as engine:
            async with transaction(engine) as tx:
                await adopt_lexicon(tx, language="english")
            await catch_up(engine)

    asyncio.run(index())
    with psycopg.connect(archive) as db:  # as while no daemon of this release has started yet
        db.execute("UPDATE store.lexicon SET version = version + 1")
    told = archiver("erase", "acme/main", "5", "--yes", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 1
    assert "\nthe search index still has words of it: another process, or a" in told.stdout
    assert query(archive, "SELECT FROM store.texts WHERE message_id = 5") != []

    asyncio.run(index())
    again = archiver("erase", "acme/main", "5", "--yes", "--json", ARCHIVER_DATABASE_URL=archive)
    assert (again.returncode, json.loads(again.stdout)["is_indexed"]) == (0, True)
    assert query(archive, "SELECT FROM store.texts WHERE message_id = 5") == []


def test_a_phrase_that_a_gap_may_bring_in_is_told(archiver: Run, archive: str) -> None:
    asked = ("erase", "acme/main", "5", "--yes")
    phrased = (*asked, "--phrase", SECRET)
    told = archiver(*phrased, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0
    assert told.stdout.endswith(
        "\nnot archived yet: 1 gap of acme/main; a phrase in there comes in when it is filled: "
        "run the same command again after that\n"
    )
    assert (
        json.loads(archiver(*phrased, "--json", ARCHIVER_DATABASE_URL=archive).stdout)["gaps"] == 1
    )
    assert "not archived yet" not in archiver(*asked, ARCHIVER_DATABASE_URL=archive).stdout

    asyncio.run(prove(archive, "acme/main", 1, 4))
    assert "not archived yet" not in archiver(*phrased, ARCHIVER_DATABASE_URL=archive).stdout


def test_what_is_left_is_told_by_a_database_that_knows_no_letters(
    archiver: Run, postgres_url: str, postgres_admin: psycopg.Connection
) -> None:
    with created(postgres_admin, "template0 LOCALE_PROVIDER libc LOCALE 'C'") as name:
        url = named(postgres_url, name)
        assert archiver("migrate", ARCHIVER_DATABASE_URL=url).returncode == 0
        asyncio.run(say(url, "acme/main", 5, "ЖАЛОВАНЬЕ"))
        asyncio.run(say(url, "acme/dev", 1, "Жалованье"))
        told = archiver(
            "erase", "acme/main", "5", "--phrase", "жалованье", "--yes", ARCHIVER_DATABASE_URL=url
        )
    assert told.returncode == 1
    assert "left: messages.content, 1 row: in other flows: acme/dev\n" in told.stdout


def test_the_daemon_may_not_erase(archiver: Run, archive: str) -> None:
    name = f"writer_of_{archive.rpartition('/')[2].partition('?')[0]}"

    async def make_role() -> None:
        async with connect(archive) as engine:
            await grant(engine, writer=name, reader=f"{name}_reader")

    asyncio.run(make_role())
    try:
        with psycopg.connect(archive, autocommit=True) as db:
            db.execute(f'ALTER ROLE "{name}" LOGIN')
        url = archive.replace("archiver@", f"{name}@", 1)
        told = archiver("erase", "acme/main", "5", "--yes", ARCHIVER_DATABASE_URL=url)
    finally:
        with psycopg.connect(archive, autocommit=True) as db:
            for role in (name, f"{name}_reader"):
                db.execute(f'DROP OWNED BY "{role}"')
                db.execute(f'DROP ROLE "{role}"')
    assert told.returncode == 2
    assert "only the owner of the database may erase: " in told.stderr
    assert len(contents(archive)) == 4


def test_an_export_carries_erasures_and_an_older_one_brings_nothing_back(
    archiver: Run, archive: str, bare_database_url: str, tmp_path: Path
) -> None:
    before, after = str(tmp_path / "before"), str(tmp_path / "after")
    home = {"ARCHIVER_DATABASE_URL": archive}
    assert archiver("export", before, "--events", **home).returncode == 0
    erased = archiver("erase", "acme/main", "5", "--phrase", SECRET, "--yes", **home)
    assert erased.returncode == 0
    assert archiver("export", after, "--events", **home).returncode == 0
    told = contents(archive)

    other = {"ARCHIVER_DATABASE_URL": bare_database_url}
    assert archiver("migrate", **other).returncode == 0
    for exported in (after, before):
        assert archiver("import", exported, **other).returncode == 0
        assert archiver("import", before, **home).returncode == 0
        assert contents(archive) == told
        sql = "SELECT id, content FROM messages ORDER BY id"
        shown = archiver("sql", "--json", sql, **other).stdout.splitlines()
        assert [tuple(json.loads(line).values()) for line in shown] == told
        assert archiver("rebuild", "--check", **other).returncode == 0
    assert "form 0, erased\n" in archiver("explain", "acme/main", "5", **other).stdout
    words = archiver("sql", "--json", "SELECT payload::text FROM forms", **other).stdout
    assert SECRET not in words


def test_an_older_export_brings_back_no_reject_that_was_erased(
    archiver: Run, archive: str, tmp_path: Path
) -> None:
    async def reject() -> None:
        raw = [f"<p>{one}</p>".encode() for one in ("another", SECRET)]
        async with connect(archive) as engine:
            await apply(engine, Batch(now=NOW, arrivals=[arrival(one, None) for one in raw]))

    asyncio.run(reject())
    home = {"ARCHIVER_DATABASE_URL": archive}
    before, after = tmp_path / "before", tmp_path / "after"
    assert archiver("export", str(before), "--events", **home).returncode == 0
    erased = archiver("erase", "acme/main", "5", "--phrase", SECRET, "--yes", **home)
    assert erased.returncode == 0, erased.stdout
    assert archiver("import", str(before), **home).returncode == 0
    rejects = "SELECT raw, reason LIKE 'erased by %%' FROM archive.rejects ORDER BY id"
    assert query(archive, rejects) == [(b"<p>another</p>", False), (b"", True)]
    assert archiver("rejects", "retry", "--all", **home).stdout.endswith("0 placed, 1 left\n")
    assert archiver("export", str(after), "--events", **home).returncode == 0
    assert len((after / "rejects.jsonl").read_text().splitlines()) == 1


def test_a_private_conversation_that_two_accounts_have_is_told(
    archiver: Run, database_url: str
) -> None:
    home = {"ARCHIVER_DATABASE_URL": database_url}
    for path in ("private/1/2", "private/2/1"):
        asyncio.run(say(database_url, path, 5, SECRET))
    told = archiver("erase", "private/1/2", "5", "--yes", **home)
    assert told.returncode == 0, told.stderr
    assert "1 of these ids is also in private/2/1, as the account of the other" in told.stdout
    told = archiver("erase", "private/2/1", "5", "--yes", "--json", **home)
    assert json.loads(told.stdout)["also_in"] == {}
    assert contents(database_url) == []
