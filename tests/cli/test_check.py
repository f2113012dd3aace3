"""``archiver check``: each thing that may be wrong is reported with what to do about it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
from psycopg import sql

from archiver.cli.check import lines
from archiver.cli.checks.clock import check_clock
from archiver.cli.checks.database import check_database
from archiver.cli.checks.disk import check_disk
from archiver.cli.checks.result import Verdict, wrong
from archiver.cli.checks.service import check_account
from archiver.cli.checks.settings import check_settings
from archiver.cli.configuration import LoadSettings
from archiver.cli.main import run
from archiver.settings import Settings
from archiver.settings.account import Account
from archiver.settings.reading import read_settings
from archiver.settings.sections import MetricsSettings
from archiver.settings.telling import effective
from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator
from archiver.store.inspecting import to_be_written
from tests.cli.conftest import Run, leading_to

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(flows=3, history=9, listing_delay_seconds=0) as simulator:
        yield simulator


@pytest.fixture
def settings(flowdock: Simulator, database_url: str) -> dict[str, str]:
    return {
        **leading_to(flowdock, database_url),
        "ARCHIVER_TOKEN": flowdock.token,
        "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "1000",
    }


async def test_an_upgrade_of_the_system_that_sorts_texts_otherwise_is_told(
    archiver, settings, admin
):
    """Only a warning in the server's log tells, and an index of texts may miss what it holds."""
    has_version = admin.execute("""
        UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()
        RETURNING pg_database_collation_actual_version(oid) IS NOT NULL
    """).fetchone()
    done = await asyncio.to_thread(partial(archiver, "check", **settings))
    if has_version == (False,):  # as the order by code points, before PostgreSQL 17
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert "REFRESH COLLATION VERSION" in done.stdout
    for advised in ("REINDEX DATABASE {}", "ALTER DATABASE {} REFRESH COLLATION VERSION"):
        admin.execute(sql.SQL(advised).format(sql.Identifier(admin.info.dbname)))
    done = await asyncio.to_thread(partial(archiver, "check", **settings))
    assert "COLLATION" not in done.stdout


async def test_when_all_works_each_subject_is_ok(archiver, flowdock, settings):
    done = await asyncio.to_thread(partial(archiver, "check", "--json", **settings))
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (0, True), found
    bad = [one for one in found["results"] if one["verdict"] != "ok"]
    assert {one["subject"] for one in bad} <= {"rights"}  # the tests' user is a superuser
    assert {one["subject"] for one in found["results"]} >= {
        "settings", "token", "flows", "streams", "database", "schema", "clock"
    }  # fmt: skip
    assert flowdock.token not in done.stdout


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "2 given, 2 of them in archiver.toml"),
        ({"ARCHIVER_TOKEN": "t"}, "2 given, 1 of them in archiver.toml"),
        ({"ARCHIVER_TOKEN": "t", "ARCHIVER_PRIVATE": "no"}, "2 given, 0 of them in archiver.toml"),
    ],
)
def test_how_many_settings_the_file_gives_is_told(environ: dict[str, str], told: str) -> None:
    table = {"token": "t", "private": False}
    found = check_settings(
        read_settings(table, environ), effective(table, environ), Path("archiver.toml")
    )
    assert next(found).told == told


async def test_what_is_wrong_is_told_with_what_to_do(archiver, settings, database_url):
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("UPDATE store.schema_version SET version_num = '9999'")
    settings["ARCHIVER_TOKEN"] = "s3cret-marker"
    done = await asyncio.to_thread(partial(archiver, "check", **settings))
    assert done.returncode == 1
    assert "wrong    token" in done.stdout
    assert "which comes from ARCHIVER_TOKEN: put a valid personal API token there" in done.stdout
    assert "wrong    schema" in done.stdout
    assert "marker" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("2 wrong")


def test_settings_that_cannot_be_taken_are_all_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHIVER_STREAM_FORMAT", "xml")
    assert run(["check", "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert (result["subject"], result["verdict"]) == ("settings", "wrong")
    assert "ARCHIVER_STREAM_FORMAT" in result["told"]


def account(flowdock: Simulator, **changed: Any) -> Account:
    given = {"api_url": flowdock.api_url, "stream_url": flowdock.stream_url}
    return Account(**{"name": "work", "token": flowdock.token, **given, **changed})


async def found_of(one: Account) -> dict[tuple[str, Verdict], str]:
    settings = Settings(data_dir=Path("/nonexistent"), accounts=(one,))
    results = await check_account(settings, one, lambda _done, _where: None)
    return {(result.subject, result.verdict): f"{result.told} {result.mend}" for result in results}


async def test_each_flow_and_each_pattern_is_tried(flowdock):
    flow, lost, _ = flowdock.world.flows
    patterns = (flow.path, lost.path, "acme/mistyped")
    lost.disabled = False
    found = await found_of(account(flowdock, flows=patterns, private=False))
    assert found["flows", "ok"].startswith("work: 2 flows")
    assert "acme/mistyped matches no flow" in found["flows", "warning"]
    assert found["streams", "ok"] == "work: 1 stream opens "
    found = await found_of(account(flowdock, flows=("acme/mistyped",), private=False))
    assert "the settings select none of 3 joined flows" in found["flows", "wrong"]
    flowdock.world.directory.conversation(flowdock.me, flowdock.world.users[3])
    found = await found_of(account(flowdock, flows=("acme/mistyped",)))
    assert found["flows", "ok"] == "work: 1 private conversation "


async def test_a_service_that_sends_elsewhere_is_told_once_with_what_to_correct(flowdock):
    flowdock.faults.add(Fault(kind="status", on="rest", status=302, times=0))
    found = await found_of(account(flowdock))
    assert flowdock.faults.fired["status"] > 0
    assert found["service", "wrong"].count("correct ARCHIVER_API_URL") == 1


async def test_a_service_that_is_not_there_and_streams_that_are_not(flowdock):
    found = await found_of(account(flowdock, api_url="http://127.0.0.1:9"))
    assert "Flowdock or the network may be down" in found["service", "wrong"]
    found = await found_of(account(flowdock, api_url=f"{flowdock.api_url}/elsewhere"))
    assert found["service", "wrong"].endswith("; correct ARCHIVER_API_URL (api_url in the file) ")
    found = await found_of(account(flowdock, stream_url="http://127.0.0.1:9"))
    assert (
        "1 of 1 cannot be opened: http://127.0.0.1:9: no connection: Connection refused"
        in found["streams", "wrong"]
    )


def test_of_a_database_that_takes_no_changes_it_is_told_which_does() -> None:
    assert "to the primary" in to_be_written("me", is_standby=True)
    assert "or use another user than me" in to_be_written("me", is_standby=False)


@pytest.mark.parametrize(
    ("seconds", "verdict", "told"),
    [
        (0, "ok", "agrees"),
        (-2, "ok", "agrees"),
        (30, "warning", "this machine's is 30 s behind that of x"),
        (-30, "warning", "this machine's is 30 s ahead of that of x"),
        (7200, "wrong", "this machine's is 7,200 s behind"),
    ],
)
def test_clocks_are_held_against_each_other(seconds: int, verdict: str, told: str) -> None:
    found = check_clock("x", NOW + timedelta(seconds=seconds), NOW, NOW)
    assert found.verdict == verdict
    assert told in found.told


def test_secrets_that_others_read_and_what_travels_in_clear_are_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-marker")
    (tmp_path / "token").chmod(0o644)
    config = tmp_path / "archiver.toml"
    config.touch(0o600)
    table = {
        "token_file": str(tmp_path / "token"),
        "api_url": "http://chat.example",
        "database": {"url": "postgresql://a:s3cret-marker@db.example/x"},
        "metrics": {"listen": "0.0.0.0:9471"},
    }
    environ = {"HOME": str(tmp_path)}
    settings = read_settings(table, environ)
    found = list(check_settings(settings, effective(table, environ), config))
    told = "\n".join(f"{one.verdict} {one.told}: {one.mend}" for one in found)
    assert f"others can read {tmp_path / 'token'}" in told
    assert str(config) not in told.partition("others")[2]
    assert "token of account work" not in told
    assert "is sent unencrypted to http://chat.example" in told
    assert "sslmode=prefer does not verify that db.example" in told
    assert "anyone who reaches 0.0.0.0:9471" in told
    assert "marker" not in told
    (tmp_path / "token").chmod(0o600)
    assert not any("read" in one.mend for one in check_settings(settings, [], None))


@pytest.mark.parametrize(
    ("settings", "line"),
    [({"ARCHIVER_TOKEN_FILE": "kept/token"}, ""), ({}, 'token_file = "token"')],
)
def test_a_secret_that_others_read_is_told_wherever_its_relative_path_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], line: str
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "token").write_text("s3cret-marker")
    (tmp_path / "kept" / "token").chmod(0o666)
    config = tmp_path / "kept" / "archiver.toml"
    config.write_text(line)
    monkeypatch.chdir(tmp_path)
    for name in ("ARCHIVER_TOKEN", "ARCHIVER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    load = LoadSettings(Path("kept/archiver.toml"))
    told = [one.told for one in check_settings(load.read(), load.tell(), load.config)]
    assert f"others can read {tmp_path / 'kept' / 'token'}, which holds a secret" in told


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    (found,) = check_disk(Settings(data_dir=tmp_path / "not" / "yet"))
    assert found.verdict in {"ok", "warning"}
    assert "free for" in found.told
    assert list(check_disk(Settings(data_dir=Path("/"), metrics=MetricsSettings())))


@pytest.mark.parametrize("below", ["", "not/yet"])
def test_a_place_that_run_refuses_is_wrong_in_the_same_words(
    archiver: Run, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / below
    settings = {"ARCHIVER_DATA_DIR": str(place), "ARCHIVER_TOKEN": "t"}
    refused = archiver("run", **settings)
    reason = (
        f"cannot keep a database in {place}/postgres: Not a directory; "
        "set ARCHIVER_DATA_DIR to a writable directory"
    )
    assert refused.returncode == 2
    assert refused.stderr.endswith(f"archiver: error: {reason}\n")
    found = {one.subject: one for one in check_database(Settings(data_dir=place))}
    assert (found["database"].verdict, found["database"].told) == ("wrong", reason)
    assert not list(check_disk(Settings(data_dir=place)))


def test_a_place_that_this_user_may_not_write_is_told(tmp_path: Path) -> None:
    place = tmp_path / "not" / "yet"
    (found,) = check_database(Settings(data_dir=place))
    assert found.told.startswith("none yet")
    tmp_path.chmod(0o500)
    may_write = os.access(tmp_path, os.W_OK)  # as root may
    (found,) = check_database(Settings(data_dir=place))
    tmp_path.chmod(0o700)
    assert (found.verdict == "ok") is may_write
    assert not place.parent.exists()


def test_a_place_that_cannot_be_looked_into_is_told(archiver: Run, tmp_path: Path) -> None:
    place = tmp_path / ("x" * 300)
    (found,) = check_database(Settings(data_dir=place))
    assert found.verdict == "wrong"
    assert found.told.startswith(f"cannot read {place}/postgres: File name too long; run this")
    told = archiver("status", ARCHIVER_DATA_DIR=str(place))
    assert told.returncode == 2
    assert told.stderr == f"archiver: error: {found.told}\n"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_what_is_told_fits_into_the_columns_that_there_are(columns: int) -> None:
    one = wrong(
        "flows",
        "acme/\x1b[2J secret is refused " * 9,
        "join the flow, or exclude it in the settings " * 5,
    )
    shown = [click.unstyle(line) for line in lines(one, columns)]
    assert shown[0].startswith("wrong    flows       acme/␛[2J secret")
    assert any(line.lstrip().startswith("→ join the flow") for line in shown)
    assert max(map(len, shown)) <= columns


def test_where_there_is_little_room_what_is_told_stands_below() -> None:
    one = wrong(
        "flows", "acme/secret is refused " * 9, "join the flow, or exclude it in the settings " * 5
    )
    shown = [click.unstyle(line) for line in lines(one, 40)]
    assert shown[0] == "wrong    flows"
    assert shown[1].startswith("  acme/secret")
    assert max(map(len, shown)) <= 40
