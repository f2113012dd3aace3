"""``archiver migrate``, on databases that are empty, current, newer, or not ours to change."""

import json
from pathlib import Path

import psycopg
import pytest

from archiver.store.revision import latest
from tests.cli.conftest import Run
from tests.conftest import named


def test_an_empty_database_is_migrated_and_then_left_alone(
    archiver: Run, bare_database_url: str
) -> None:
    refused = archiver("status", ARCHIVER_DATABASE_URL=bare_database_url)
    assert refused.returncode == 2
    assert "run: archiver migrate" in refused.stderr

    first = archiver("migrate", ARCHIVER_DATABASE_URL=bare_database_url)
    assert (first.returncode, first.stdout) == (0, f"schema none → {latest()}\n")

    second = archiver("migrate", ARCHIVER_DATABASE_URL=bare_database_url)
    assert (second.returncode, second.stdout) == (0, f"schema already at {latest()}\n")

    told = archiver("migrate", "--json", ARCHIVER_DATABASE_URL=bare_database_url)
    assert json.loads(told.stdout) == {"before": latest(), "after": latest()}
    assert archiver("status", ARCHIVER_DATABASE_URL=bare_database_url).returncode == 0


@pytest.mark.parametrize("command", ["migrate", "status"])
def test_a_schema_of_a_newer_release_is_refused(
    archiver: Run, database_url: str, command: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE store.schema_version SET version_num = '9999'")
    ended = archiver(command, ARCHIVER_DATABASE_URL=database_url)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "is at schema 9999, which this release does not know" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_database_that_is_not_there_is_named(archiver: Run, postgres_url: str) -> None:
    ended = archiver("migrate", ARCHIVER_DATABASE_URL=named(postgres_url, "nowhere"))
    assert ended.returncode == 2
    assert 'database "nowhere" does not exist' in ended.stderr


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_all_letters_becomes_no_archive(
    archiver: Run, postgres_url: str, postgres_admin: psycopg.Connection, encoding: str
) -> None:
    name = f"archiver_test_{encoding.lower()}"
    postgres_admin.execute(f"DROP DATABASE IF EXISTS {name}")
    postgres_admin.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
    )
    try:
        ended = archiver("migrate", ARCHIVER_DATABASE_URL=named(postgres_url, name))
    finally:
        postgres_admin.execute(f"DROP DATABASE {name}")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{name} has the encoding {encoding}" in ended.stderr
    assert "ENCODING 'UTF8'" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("CREATE SCHEMA store; CREATE TABLE store.goods (id int)", "a schema store already"),
        ("CREATE SCHEMA archive", "a schema archive already"),
    ],
)
def test_what_others_keep_in_a_database_is_left_alone(
    archiver: Run, bare_database_url: str, made: str, told: str
) -> None:
    with psycopg.connect(bare_database_url, autocommit=True) as connection:
        connection.execute(made)
    ended = archiver("migrate", ARCHIVER_DATABASE_URL=bare_database_url)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert told in ended.stderr
    assert "set ARCHIVER_DATABASE_URL to a database of its own" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_empty_schema_that_was_made_for_the_archive_is_used(
    archiver: Run, bare_database_url: str
) -> None:
    with psycopg.connect(bare_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA store")
    ended = archiver("migrate", ARCHIVER_DATABASE_URL=bare_database_url)
    assert (ended.returncode, ended.stdout) == (0, f"schema none → {latest()}\n")


def test_a_schema_of_others_that_may_not_be_looked_into_is_no_archive(
    archiver: Run, postgres_admin: psycopg.Connection, bare_database_url: str
) -> None:
    role = "archiver_test_guest"
    with psycopg.connect(bare_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA store; CREATE TABLE store.goods (id int)")
    postgres_admin.execute(f"DROP ROLE IF EXISTS {role}")
    postgres_admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'guest'")
    try:
        url = f"postgresql://{role}:guest@{bare_database_url.partition('@')[2]}"
        shown = archiver("status", ARCHIVER_DATABASE_URL=url)
        made = archiver("migrate", ARCHIVER_DATABASE_URL=url)
    finally:
        postgres_admin.execute(f"DROP ROLE {role}")
    assert shown.returncode == made.returncode == 2
    assert "the database has no archive yet" in shown.stderr
    assert "a schema store already" in made.stderr


def test_a_user_without_the_right_is_told_which(
    archiver: Run, postgres_admin: psycopg.Connection, bare_database_url: str
) -> None:
    role = "archiver_test_stranger"
    postgres_admin.execute(f"DROP ROLE IF EXISTS {role}")
    postgres_admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'stranger-marker'")
    try:
        rest = bare_database_url.partition("@")[2]
        url = f"postgresql://{role}:stranger-marker@{rest}"
        ended = archiver("migrate", ARCHIVER_DATABASE_URL=url)
    finally:
        postgres_admin.execute(f"DROP ROLE {role}")
    assert ended.returncode == 2
    assert ended.stderr.startswith("archiver: error: the database refused: permission denied")
    assert "marker" not in ended.stderr


def test_without_a_server_a_private_one_is_used_and_told_once(
    archiver: Run, swift_path: Path
) -> None:
    settings = {"ARCHIVER_DATA_DIR": str(swift_path)}
    unmade = archiver("status", **settings)
    assert unmade.returncode == 2
    assert f"there is no archive in {swift_path}/postgres" in unmade.stderr
    assert not list(swift_path.iterdir())

    made = archiver("migrate", **settings)
    assert (made.returncode, made.stdout) == (0, f"schema none → {latest()}\n")
    assert made.stderr.count("using a private database; set ARCHIVER_DATABASE_URL") == 1

    shown = archiver("status", **settings)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("0 flows, 0 events")
