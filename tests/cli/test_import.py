"""``archiver import``: official exports are reported, and can be imported again."""

import json
import os
import signal
import time
from pathlib import Path

import psycopg
import pytest

from archiver.cli import database
from archiver.cli.database import Place
from archiver.cli.importing import Report, _run
from archiver.domain.model import User, UserId
from archiver.errors import ArchiverError, leaves
from archiver.simulator.official import write_exports
from archiver.simulator.seeding import HISTORY_ENDS_AT, settle, write_history
from archiver.simulator.world import World
from tests.cli.conftest import Run
from tests.cli.forks import Starter
from tests.ingest.arriving import waits_for_lock


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official exports of a small world, as its service would send them."""

    world = World(seed=5, clock=lambda: HISTORY_ENDS_AT)
    settle(world, flows=2, users=4, token=None)
    write_history(world, seed=5, messages=150)
    home = tmp_path_factory.mktemp("exports")
    write_exports(world, home)
    return home


def test_exports_are_archived_told_and_known_again(
    archiver: Run, database_url: str, exports: Path
) -> None:
    users = str(exports / "users.json")
    first = archiver(
        "import", str(exports), "--users", users, "--json", ARCHIVER_DATABASE_URL=database_url
    )
    assert (first.returncode, first.stderr) == (0, "")
    told = json.loads(first.stdout)
    assert told["read"] == told["taken"] > 100
    assert (told["users"], told["users_taken"]) == (4, 4)
    assert [Path(one["file"].split(":")[0]).name for one in told["files"]] == [
        "acme-development.zip",
        "acme-main.zip",
    ]
    with psycopg.connect(database_url) as db:
        stored = db.execute("SELECT count(*), count(nick) FROM archive.messages").fetchone()
    assert stored is not None
    assert stored[0] == told["taken"]
    assert stored[1] > 100

    one = str(exports / "acme-main.zip")
    again = archiver("import", one, "--flow", "acme/main", ARCHIVER_DATABASE_URL=database_url)
    assert (again.returncode, again.stderr) == (0, "")
    head, left, rate = again.stdout.rstrip("\n").split("\n")
    count = told["files"][1]["read"]
    assert head.startswith(
        f"acme/main: {count:,} messages: 0 new, {count:,} known, 0 changed, 0 rejected"
    )
    assert left.endswith(" not imported: the contents of files are fetched from Flowdock only")
    assert rate.startswith(f"{count:,} messages in ")


def test_a_flow_in_which_nothing_was_said_does_not_hold_up_the_others(
    archiver: Run, database_url: str, tmp_path: Path
) -> None:
    said = '[{"id": 1, "event": "message", "content": "x", "flow": "beef"}]'
    for name, messages in {"a-quiet": "[]", "b-busy": said}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "messages.json").write_text(messages)
    paths = sorted(map(str, tmp_path.iterdir()))
    told = archiver("import", *paths, ARCHIVER_DATABASE_URL=database_url)
    assert (told.returncode, told.stderr) == (0, "")
    quiet, busy, *_ = told.stdout.splitlines()
    assert quiet == f"{tmp_path}/a-quiet/messages.json: it has no messages"
    assert busy.startswith("beef: 1 message: 1 new")
    plain = archiver("import", *paths, "--json", ARCHIVER_DATABASE_URL=database_url)
    assert [one["flow"] for one in json.loads(plain.stdout)["files"]] == [None, "beef"]


def test_what_is_no_export_is_refused_before_anything_is_archived(
    archiver: Run, database_url: str, exports: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.zip"
    cut.write_bytes((exports / "acme-main.zip").read_bytes()[:-100])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for arguments, told in (
        (
            [str(pipe)],
            "pipe is not a regular file, but an import reads it twice: save it as a file",
        ),
        (["-"], "- is not a regular file, but an import reads it twice: save it as a file"),
        ([str(cut)], "cut.zip is not a complete zip: its end is missing"),
        ([str(tmp_path / "none.zip")], "none.zip: No such file"),
        (
            [str(exports), "--flow", "acme/main"],
            "--flow names one flow, but there are 2 files",
        ),
        ([str(exports / "acme-main.zip"), "--flow", "main"], "expected organization/flow"),
    ):
        refused = archiver("import", *arguments, ARCHIVER_DATABASE_URL=database_url)
        assert refused.returncode == 2
        assert told in refused.stderr
    with psycopg.connect(database_url) as db:
        assert db.execute("SELECT count(*) FROM store.flows").fetchone() == (0,)


def test_a_name_for_the_flow_of_an_archive_is_refused(
    archiver: Run, database_url: str, exports: Path, tmp_path: Path
) -> None:
    official, archive = str(exports / "acme-main.zip"), str(tmp_path / "archive.zip")
    settings = {"ARCHIVER_DATABASE_URL": database_url}
    assert archiver("import", official, **settings).returncode == 0
    assert archiver("export", archive, "--events", **settings).returncode == 0
    for paths in ([archive], [official, archive]):
        refused = archiver("import", *paths, "--flow", "a/b", **settings)
        assert refused.returncode == 2
        assert f"{archive} was made by archiver export --events" in refused.stderr
        assert "--flow cannot go with it" in refused.stderr


def test_what_was_rejected_is_told_by_the_exit_status(
    archiver: Run, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "messages.json"
    file.write_bytes(b'[{"id": 1, "event": "message", "content": "x"},\n{"id": 2,}]')
    told = archiver("import", str(file), "--flow", "acme/main", ARCHIVER_DATABASE_URL=database_url)
    assert told.returncode == 1
    assert "1 new, 0 known, 0 changed, 1 rejected" in told.stdout
    assert "archiver rejects" in told.stdout
    retried = archiver("rejects", "retry", "--all", ARCHIVER_DATABASE_URL=database_url)
    assert retried.returncode == 1
    assert "0 placed, 1 left" in retried.stdout


def test_who_stops_an_import_is_told_what_became_of_it_and_how_to_go_on(
    archiver: Run,
    starter: Starter,
    environ: dict[str, str],
    database_url: str,
    tmp_path: Path,
) -> None:
    settings = {"ARCHIVER_DATABASE_URL": database_url}
    for name, ids in {"a": (1, 2), "b": (3, 4, 5)}.items():
        said = [{"id": id_, "event": "message", "content": "x", "flow": name} for id_ in ids]
        (tmp_path / name).mkdir()
        (tmp_path / name / "messages.json").write_text(json.dumps(said))
    first, second = str(tmp_path / "a"), str(tmp_path / "b")
    (tmp_path / "one.json").write_text(
        '[{"id": 3, "event": "message", "content": "x", "flow": "b"}]'
    )
    assert archiver("import", str(tmp_path / "one.json"), **settings).returncode == 0
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM store.ledger FOR UPDATE")
        with (tmp_path / "told").open("w+b") as told:
            files = [told.fileno()] * 3
            command = ["import", "--json", first, second]
            with starter.start(command, environ | settings, *files) as importing:
                while not waits_for_lock(database_url):
                    time.sleep(0.01)
                importing.send_signal(signal.SIGINT)
                assert importing.wait() == 130
    assert (tmp_path / "told").read_text().rstrip() == (
        "stopped: 2 messages read; what was archived is kept; "
        "run the same command again to continue"
    )
    again = json.loads(archiver(*command, **settings).stdout)
    assert (again["taken"], again["known"], again["rejected"]) == (2, 3, 0)


async def test_an_import_does_not_wait_for_a_private_database_that_is_gone(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "GUARD_SECONDS", 0.01)
    place = Place(url=database_url, pool_size=1, private=False, answers=lambda: False)
    ann = User(id=UserId("1"), nick="ann")
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE store.users")
        with pytest.raises(ExceptionGroup) as ended:
            await _run(
                place, [], {}, people=[ann], path=None, report=Report(), tell=lambda *_: None
            )
    (told,) = leaves(ended.value)
    assert isinstance(told, ArchiverError)
    assert "the private PostgreSQL server has stopped" in str(told)
