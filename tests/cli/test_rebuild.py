"""``archiver rebuild``: what differs from the journal is reported, counted and mended."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import psycopg
import pytest

from archiver.ingest.apply import apply
from archiver.store.engine import connect
from tests.cli.conftest import Run
from tests.cli.forks import Started, Starter
from tests.ingest.applying import chapter
from tests.ingest.arriving import new_flow, waits_for_lock

Begin = Callable[..., AbstractContextManager[tuple[Started, IO[str]]]]


@pytest.fixture
def archive(database_url: str) -> str:
    """An archive with a flow of 14 messages, edited, tagged, listed and in a thread."""

    async def fill() -> None:
        async with connect(database_url) as engine:
            flow_key = await new_flow(engine)
            for number in range(2):
                await apply(engine, chapter(number, flow_key))

    asyncio.run(fill())
    execute(database_url, "UPDATE store.flows SET path = 'acme/main'")
    return database_url


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(statement.encode())


def test_a_sound_archive_has_no_difference(archiver: Run, archive: str) -> None:
    told = archiver("rebuild", "--check", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == "1 flow, 14 messages: every row matches the journal\n"


def test_a_difference_is_named_and_mended(archiver: Run, archive: str) -> None:
    execute(archive, "UPDATE store.messages SET content = E'for\\x1bged' WHERE id = 1")
    told = archiver("rebuild", "--check", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 1
    assert told.stdout == (
        "acme/main message 1 content: for␛ged, the journal says rewritten 1\n"
        "1 flow, 14 messages: 1 wrong row found: 1 of messages\n"
    )
    told = archiver("rebuild", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0
    assert told.stdout.endswith("1 wrong row mended: 1 of messages\n")
    assert archiver("rebuild", "--check", ARCHIVER_DATABASE_URL=archive).returncode == 0


def test_programs_are_told_all_of_it_and_the_first_differences(archiver: Run, archive: str) -> None:
    execute(archive, "UPDATE store.messages SET app = 'x', uuid = 'y'")
    execute(archive, "DELETE FROM store.threads")
    told = archiver(
        "rebuild", "--flow", "ACME/*", "--check", "--json", ARCHIVER_DATABASE_URL=archive
    )
    assert (told.returncode, told.stderr) == (1, "")
    found = json.loads(told.stdout)
    assert found["differing_rows"] == 15
    assert found["by_table"] == {"messages": 14, "threads": 1}
    assert len(found["first_differences"]) == 20
    assert found["first_differences"][0] == {
        "flow": "acme/main", "table": "messages", "id": "1", "revision": None,
        "field": "app", "stored": "x", "expected": None,
    }  # fmt: skip


def test_differences_that_are_not_listed_are_told_of(archiver: Run, archive: str) -> None:
    def listed() -> tuple[int, list[str]]:
        told = archiver("rebuild", "--check", ARCHIVER_DATABASE_URL=archive).stdout.split("\n")
        lines = [line for line in told if line.startswith("acme/main message ")]
        return len(lines), [line for line in told if line.startswith("(")]

    execute(archive, "UPDATE store.messages SET app = 'x'")
    execute(
        archive,
        "UPDATE store.messages SET uuid = 'y' WHERE id IN (SELECT id FROM store.messages LIMIT 6)",
    )
    assert listed() == (20, [])
    execute(archive, "UPDATE store.messages SET uuid = 'y'")
    assert listed() == (20, ["(the first 20 of 28 differences)"])


def test_flows_that_do_not_exist_are_told(archiver: Run, archive: str) -> None:
    told = archiver("rebuild", "--flow", "other/*", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 2
    assert "no flow in the archive matches other/*" in told.stderr


@pytest.fixture
def begin(starter: Starter, environ: dict[str, str], archive: str) -> Begin:
    """A function that starts the command, and gives a pipe with what it tells people."""

    @contextmanager
    def run(*arguments: str) -> Iterator[tuple[Started, IO[str]]]:
        reader, writer = os.pipe()
        command, settings = ["rebuild", *arguments], environ | {"ARCHIVER_DATABASE_URL": archive}
        with os.fdopen(reader) as told, Path(os.devnull).open("r+b") as nothing:
            files = (nothing.fileno(), nothing.fileno(), writer)
            with starter.start(command, settings, *files) as started:
                os.close(writer)
                yield started, told

    return run


def wait_for_lock(url: str) -> None:
    while not waits_for_lock(url):
        time.sleep(0.01)


def test_a_database_that_goes_away_is_told_and_is_no_difference(begin: Begin, archive: str) -> None:
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND starts_with(application_name, 'archiver ')"
    )
    with psycopg.connect(archive) as other:
        other.execute("LOCK TABLE store.messages")
        with begin("--check") as (checking, told):
            wait_for_lock(archive)
            assert other.execute(ending).rowcount
            assert checking.wait() == 2
            assert told.read().startswith("archiver: error: the database went away: terminating")


def test_who_stops_it_is_told_what_was_mended_by_then(
    begin: Begin, archiver: Run, starter: Starter, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill() -> None:
        async with connect(archive) as engine:
            await apply(engine, chapter(0, await new_flow(engine)))

    asyncio.run(fill())
    execute(archive, "UPDATE store.flows SET path = 'acme/next' WHERE path <> 'acme/main'")
    execute(archive, "UPDATE store.messages SET content = 'forged' WHERE id = 2")
    monkeypatch.setattr(starter, "constants", {"archiver.cli.rebuild.SIDE_BY_SIDE": 1})
    with psycopg.connect(archive) as other:
        other.execute(
            "SELECT FROM store.ledger JOIN store.flows USING (flow_key)"
            " WHERE path = 'acme/next' FOR UPDATE OF ledger"
        )
        with begin() as (rebuilding, told):
            wait_for_lock(archive)
            rebuilding.send_signal(signal.SIGINT)
            assert rebuilding.wait() == 130
            found = "14 messages compared; 1 wrong row mended: 1 of messages"
            assert told.read().rstrip().split("\n") == [
                "acme/main message 2 content: forged, the journal says sentence 2",
                f"stopped: {found}; run the same command again to start over",
            ]
    again = archiver("rebuild", ARCHIVER_DATABASE_URL=archive)
    assert again.stdout.startswith("acme/next message 2 content: forged, the journal says")
    assert again.stdout.endswith("1 wrong row mended: 1 of messages\n")


def test_who_stops_a_comparison_is_told_how_far_it_came(begin: Begin, archive: str) -> None:
    with psycopg.connect(archive) as other:
        other.execute("LOCK TABLE store.messages")
        with begin("--check") as (checking, told):
            wait_for_lock(archive)
            checking.send_signal(signal.SIGTERM)
            assert checking.wait() == 143
            assert told.read() == (
                "stopped: 0 messages compared, and no wrong row found; "
                "run the same command again to start over\n"
            )


def test_one_that_is_stopped_does_not_keep_a_flow_from_the_daemon(
    begin: Begin, starter: Starter, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = {"archiver.cli.database.STANDSTILL_SECONDS": 1.0}
    monkeypatch.setattr(starter, "constants", shorter)
    with psycopg.connect(archive) as other:
        other.execute("LOCK TABLE store.messages")
        with begin() as (rebuilding, told):
            wait_for_lock(archive)
            rebuilding.send_signal(signal.SIGSTOP)
            other.rollback()
            other.execute("SET lock_timeout = '20s'")
            other.execute("UPDATE store.ledger SET due = due")
            other.rollback()
            rebuilding.send_signal(signal.SIGCONT)
            assert rebuilding.wait() == 2
            assert "the database failed: terminating connection" in told.read()
