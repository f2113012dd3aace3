"""``archiver rejects``: listed, shown, and placed when they can be read."""

import json
from base64 import b64decode
from typing import Any

import psycopg
import pytest

from tests.cli.conftest import Run
from tests.cli.forks import Starter
from tests.ingest.arriving import frame

NOT_JSON = b"{\x1b[31m\xff not JSON"
MESSAGE = frame(7, flow=None, content="from a listing")
TOLD = frame(8, content="from a stream")
PRIVATE = frame(3, flow=None, to="2", content="psst")
FOREIGN = frame(9, flow="g")
UNKNOWN = frame(10, flow="h")
OLD = frame(11, flow="acme:main", content="of old")


@pytest.fixture
def archive(database_url: str) -> str:
    """Rejects, of which a newer release can read all but the first and the last two."""
    with psycopg.connect(database_url, autocommit=True) as db:
        for flow_id, path in (("f", "acme/main"), ("g", "acme/ops"), *[("private/1/2",) * 2]):
            db.execute(
                "WITH flow AS (INSERT INTO store.flows (flow_id, path, first_seen_at)"
                " VALUES (%s, %s, '2024-05-01 09:00Z') RETURNING flow_key)"
                " INSERT INTO store.ledger (flow_key) SELECT flow_key FROM flow",
                [flow_id, path],
            )
        for origin, raw in (
            ("default 1", NOT_JSON),
            ("list acme/main", MESSAGE),
            ("default 1", TOLD),
            ("default 2", PRIVATE),
            ("default 1", frame(12, "activity.user", flow=None)),
            ("default 1", OLD),
            ("list acme/main", FOREIGN),
            ("import acme/main", UNKNOWN),
        ):
            db.execute(
                "INSERT INTO store.rejects (received_at, origin, reason, raw, digest)"
                " VALUES ('2024-05-01 10:00Z', %s, E'no\\x1b flow', %s, gen_random_uuid())",
                [origin, raw],
            )
        db.execute(
            "INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of,"
            " requested_at) SELECT flow_key, gen_random_uuid(), 'backfill', '[1,20)', 1, 19,"
            " '2024-05-01 09:59Z' FROM store.flows WHERE flow_id = 'f'"
        )
    return database_url


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as db:
        return db.execute(statement.encode()).fetchall()


def test_rejects_are_listed_the_newest_first(archiver: Run, archive: str) -> None:
    told = archiver("rejects", "--limit", "2", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stderr) == (0, "")
    head, _, newest, before, count = told.stdout.rstrip("\n").split("\n")
    assert head.split() == ["id", "received", "origin", "bytes", "reason"]
    assert newest.split()[:5] == ["8", "2024-05-01", "10:00:00Z", "import", "acme/main"]
    assert newest.endswith("no␛ flow")
    assert before.split()[0] == "7"
    assert count == "8 rejects, of which the newest 2 are shown"
    told = archiver("rejects", "--limit", "1", ARCHIVER_DATABASE_URL=archive)
    assert told.stdout.endswith("\n8 rejects, of which the newest is shown\n")


def test_who_looks_for_a_command_that_lists_is_told_that_none_is_needed(archiver: Run) -> None:
    told = archiver("rejects", "list")
    assert told.returncode == 2
    assert "No such command 'list'. archiver rejects alone lists them (see " in told.stderr


def test_who_mistypes_a_command_is_told_the_nearest(archiver: Run) -> None:
    told = archiver("rejects", "retyr")
    assert told.returncode == 2
    assert "No such command 'retyr'. Did you mean 'retry'? archiver rejects alone" in told.stderr


def test_bytes_are_shown_safely_or_as_they_are(
    starter: Starter, archiver: Run, archive: str, environ: dict[str, str]
) -> None:
    told = archiver("rejects", "show", "1", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0
    assert told.stdout.endswith("\n\n{␛[31m\\xff not JSON\n")
    raw = starter.run(
        ["rejects", "show", "1", "--raw"], environ | {"ARCHIVER_DATABASE_URL": archive}
    )
    assert (raw.returncode, raw.stdout) == (0, NOT_JSON)
    told = archiver("rejects", "show", "99", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stdout) == (2, "")


def test_one_reject_is_one_json_object_that_holds_all_its_bytes(
    archiver: Run, archive: str
) -> None:
    told = archiver("rejects", "show", "1", "--json", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stderr, told.stdout.count("\n")) == (0, "", 1)
    found = json.loads(told.stdout)
    assert b64decode(found.pop("raw"), validate=True) == NOT_JSON
    assert found == {
        "id": 1,
        "received_at": "2024-05-01T10:00:00Z",
        "origin": "default 1",
        "reason": "no\x1b flow",
    }
    told = archiver("rejects", "show", "99", "--json", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stdout) == (2, "")
    told = archiver("rejects", "show", "1", "--json", "--raw", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stdout) == (2, "")
    assert "--raw and --json exclude each other" in told.stderr


def test_what_can_be_read_now_finds_its_place(archiver: Run, archive: str) -> None:
    told = archiver("rejects", "retry", "2", "3", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == (
        "2: message 7 of acme/main\n3: message 8 of acme/main\n2 placed, 0 left\n"
    )
    told = archiver("rejects", "retry", "--all", "--json", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 1
    result = json.loads(told.stdout)
    assert (result["placed"], result["left"]) == (3, 3)
    reasons = {one["id"]: one["reason"] for one in result["rejects"] if one["reason"]}
    assert reasons.keys() == {1, 7, 8}
    assert {reasons[7], reasons[8]} == {"it belongs to another flow than the one requested"}

    assert query(archive, "SELECT id FROM archive.rejects ORDER BY id") == [(1,), (7,), (8,)]
    assert query(archive, "SELECT flow, id, content FROM archive.messages ORDER BY flow, id") == [
        ("acme/main", 7, "from a listing"),
        ("acme/main", 8, "from a stream"),
        ("acme/main", 11, "of old"),
        ("private/1/2", 3, "psst"),
    ]
    assert query(archive, "SELECT event FROM archive.signals") == [("activity.user",)]
    assert query(archive, "SELECT as_of FROM archive.forms WHERE id = 7") == [(19,)]
    assert query(archive, "SELECT count(*) FROM archive.flows") == [(3,)]


def test_what_is_not_there_is_not_left(archiver: Run, archive: str) -> None:
    told = archiver("rejects", "retry", "99", "1", "2", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 1
    assert told.stdout.startswith("99: there is no such reject\n1: ")
    assert told.stdout.endswith("\n1 placed, 1 left, 1 not found\n")
    told = archiver("rejects", "retry", "99", "--json", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 1
    found = json.loads(told.stdout)
    assert (found["placed"], found["left"], found["missing"]) == (0, 0, 1)


def test_what_to_retry_must_be_said(archiver: Run, archive: str) -> None:
    told = archiver("rejects", "retry", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 2
    assert "--all" in told.stderr
