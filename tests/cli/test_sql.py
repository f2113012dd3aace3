"""``archiver sql``: one query, read-only, in three forms."""

import csv
import json
from pathlib import Path

import psycopg
import pytest

from tests.cli.conftest import Run


@pytest.fixture
def archive(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(
            "INSERT INTO store.flows (flow_id, path, name, first_seen_at)"
            " VALUES ('1', 'acme/main', %s, '2023-07-01T12:00:00Z')",
            ["Ma\x1b[31min: 100%"],
        )
    return database_url


def test_views_need_no_schema_and_what_they_hold_is_harmless(archiver: Run, archive: str) -> None:
    told = archiver("sql", "SELECT flow, name FROM flows", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0, told.stderr
    assert "acme/main" in told.stdout
    assert "Ma␛[31min: 100%" in told.stdout
    assert told.stdout.endswith("1 row\n")


def test_json_has_an_object_for_each_row(archiver: Run, archive: str) -> None:
    query = "SELECT flow, first_seen_at, 1.5 AS share, ARRAY['a:b', '%s'] AS tags FROM flows"
    told = archiver("sql", "--json", query, ARCHIVER_DATABASE_URL=archive)
    assert json.loads(told.stdout) == {
        "flow": "acme/main",
        "first_seen_at": "2023-07-01T12:00:00+00:00",
        "share": 1.5,
        "tags": ["a:b", "%s"],
    }


def test_csv_has_a_header(archiver: Run, archive: str) -> None:
    query = "SELECT flow, NULL AS nothing, 'a,\"b' AS text FROM flows"
    told = archiver("sql", "--csv", query, ARCHIVER_DATABASE_URL=archive)
    assert list(csv.reader(told.stdout.splitlines())) == [
        ["flow", "nothing", "text"],
        ["acme/main", "", 'a,"b'],
    ]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT lo_create(0)", "can be read here, not changed"),
        ("DELETE FROM store.flows", "SELECT something"),
        ("COPY (SELECT 1) TO PROGRAM 'true'", "SELECT something"),
        ("SELECT 1; COMMIT; DELETE FROM store.flows", "multiple commands"),
        ("SELECT E'\\x1b[31m'::int", "␛[31m"),
        ("COMMIT", "SELECT something"),
        ("SELECT nonsense", "does not exist"),
        ("SELECT pg_sleep(30)", "longer than 0.2 seconds"),
    ],
)
def test_what_is_no_quick_question_is_refused(
    archiver: Run, archive: str, query: str, reason: str
) -> None:
    told = archiver("sql", "--timeout", "0.2", query, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 2
    assert reason in told.stderr
    with psycopg.connect(archive) as db:
        assert db.execute("SELECT FROM store.flows").rowcount == 1


def test_where_there_is_no_demonstration_none_is_made(archiver: Run, tmp_path: Path) -> None:
    told = archiver("sql", "--demo", "SELECT 1", ARCHIVER_DATA_DIR=str(tmp_path))
    assert told.returncode == 2
    assert "there is no archive in" in told.stderr
    assert list(tmp_path.iterdir()) == []
