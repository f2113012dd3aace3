"""The same command completes an export that was killed in the middle, as if nothing happened."""

import asyncio
import shutil
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from archiver.cli.main import run as archiver
from archiver.export.book import BOOK, asked_before
from archiver.export.folder import partial_of
from archiver.export.slack import Slack
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from tests.export.conftest import content, fill, lines
from tests.ingest.arriving import NOW, frame, query, running, streamed
from tests.oracle.doors import Door
from tests.oracle.programs import PROGRAM, surroundings

TWO_WEEKS = timedelta(weeks=2)


def kill_in_the_middle(url: str, to: Path, options: Sequence[str] = ()) -> None:
    """Export, and kill the process when one unit is finished and another has begun."""
    status, _, _ = asyncio.run(_stop(url, to, options, signal.SIGKILL))
    assert status == -signal.SIGKILL


async def _stop(
    url: str, to: Path, options: Sequence[str], number: int
) -> tuple[int | None, str, str]:
    """Export until another unit has begun, send a signal; return the status, output and errors."""
    server = conninfo_to_dict(url)
    host, port = str(server.get("host")), int(server.get("port") or 5432)

    async def reach() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    door = Door(reach)
    # The answers pass through this event loop: if it looks late, they are late as well.
    door.latency_seconds = 0.005
    await door.open_port()
    address = door.address.removeprefix("http://")
    who = ":".join(str(server[name]) for name in ("user", "password") if name in server)
    through = f"postgresql://{who}@{address}/{server['dbname']}"
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        "export",
        str(to),
        *options,
        env=surroundings({"ARCHIVER_DATABASE_URL": through}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Tests may run in the background, with SIGINT ignored, which a process inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        async with asyncio.timeout(60):
            while not has_begun_another(partial_of(to)):
                assert process.returncode is None, "it ended before it could be killed"
                await asyncio.sleep(0.001)
    finally:
        process.send_signal(number)
        out, err = await process.communicate()
        door.close()
    return process.returncode, out.decode(), err.decode()


def has_begun_another(home: Path) -> bool:
    """Tell whether the book names a unit, and there is a file that it does not name."""
    if not (home / BOOK).exists():
        return False
    units = (home / BOOK).read_text().splitlines()[1:]
    strangers = [name for name in content(home) if name != BOOK and name not in "".join(units)]
    return bool(units and strangers)


def test_an_export_that_was_killed_ends_as_one_that_was_not(
    archive_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", archive_url)
    killed, whole = tmp_path / "killed.zip", tmp_path / "whole.zip"
    options = ["--format", "html", "--as-of", "2020-02-01"]
    kill_in_the_middle(archive_url, killed, options)
    assert not killed.exists()
    assert archiver(["export", "--check", str(killed)]) == 2
    assert archiver(["export", str(killed), *options]) == 0
    assert archiver(["export", str(whole), *options]) == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert archiver(["export", "--check", str(killed)]) == 0
    assert not partial_of(killed).exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_stops_an_export_is_told_that_it_can_go_on(
    archive_url: str, tmp_path: Path, number: int, status: int
) -> None:
    to = tmp_path / "stopped"
    told = f"what is finished is kept in {partial_of(to)}; run the same command again to continue"
    ended, out, err = asyncio.run(_stop(archive_url, to, ["--json"], number))
    assert (ended, out, err.strip()) == (status, "", told)


def test_who_stops_an_export_before_a_part_of_it_is_written_is_told_so_too(
    archive_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", archive_url)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    for at in ("write_summary", "write_summary", "write_part"):
        to = tmp_path / at
        with monkeypatch.context() as stopping:
            stopping.setattr(Slack, at, stopped)
            assert archiver(["export", str(to), "--format", "slack"]) == 130
        assert f"is kept in {partial_of(to)}; run" in capsys.readouterr().err


def test_who_stops_an_export_that_has_its_name_is_told_that_it_is_complete(
    archive_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", archive_url)
    to = tmp_path / "out.zip"

    def stopped(path: Path) -> None:
        raise KeyboardInterrupt(path)

    with monkeypatch.context() as stopping:
        stopping.setattr(shutil, "rmtree", stopped)
        assert archiver(["export", str(to), "--json"]) == 130
    left = f"{partial_of(to)} is left over from"
    told = capsys.readouterr().err.strip()
    assert told == f"{to} is complete; {left} writing it: remove it"
    assert archiver(["export", "--check", str(to)]) == 0
    assert archiver(["export", str(to)]) == 2
    assert f"{left} writing it" in capsys.readouterr().err


def test_times_count_back_from_the_run_that_was_killed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["after:2w", "--since", "8w", "--as-of", "1h"]
    yesterday = milliseconds(datetime.now(UTC) - timedelta(days=1))
    with running(database_url) as (run, engine):
        run(fill(engine))
        keys = dict(query(database_url, "SELECT flow_id, flow_key FROM store.flows"))
        recent = [
            streamed(frame(100, flow=flow, sent=yesterday), key) for flow, key in keys.items()
        ]
        run(apply(engine, Batch(now=NOW, arrivals=recent)))
        kill_in_the_middle(database_url, tmp_path / "out", options)
        asked_at = asked_before(partial_of(tmp_path / "out"))
        assert asked_at is not None
        bound = milliseconds(asked_at - TWO_WEEKS)
        # By the clock of the run that completes it, both are more than two weeks old.
        said = {200: bound + 1, 201: bound - 1}
        arrivals = [streamed(frame(id_, sent=sent), keys["f"]) for id_, sent in said.items()]
        run(apply(engine, Batch(now=NOW, arrivals=arrivals)))
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", database_url)
    assert archiver(["export", str(tmp_path / "out"), *options]) == 0
    chosen = {(row["flow"], row["id"]) for row in lines(tmp_path / "out")}
    assert chosen == {
        ("acme/main", 100), ("acme/main", 200), ("acme/sp ace%", 100), ("private/1/2", 100)
    }  # fmt: skip


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
