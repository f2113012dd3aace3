"""``archiver run`` as a process: how it starts, stops, dies, and starts again."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from archiver.embedded import run_server
from archiver.simulator import truth
from archiver.simulator.server import Simulator
from tests.cli.conftest import Run
from tests.cli.forks import Started, Starter
from tests.ingest.arriving import query
from tests.oracle.postgres import at_work_in
from tests.truth import differences


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(flows=2, history=300, listing_delay_seconds=0) as simulator:
        yield simulator


@pytest.fixture
def settings(
    flowdock: Simulator, environ: dict[str, str], swift_path: Path
) -> Iterator[dict[str, str]]:
    yield environ | {
        "ARCHIVER_API_URL": flowdock.api_url,
        "ARCHIVER_STREAM_URL": flowdock.stream_url,
        "ARCHIVER_TOKEN": flowdock.token,
        "ARCHIVER_DATA_DIR": str(swift_path / "data"),
        "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "1000",
        "ARCHIVER_AUDIT_REQUESTS_PER_SECOND": "1000",
        "ARCHIVER_INGEST_SETTLING_SECONDS": "0.2",
    }
    # A server ends some time after its daemon, and until then it writes where all is removed.
    while at_work_in(swift_path / "data/postgres/data"):
        time.sleep(0.01)


@contextmanager
def running(
    settings: dict[str, str], command: Sequence[str] = (sys.executable, "-m", "archiver")
) -> Iterator[subprocess.Popen[str]]:
    """The daemon, which is killed at the end if it still runs."""
    with subprocess.Popen(
        [*command, "run"],
        env=settings,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def forked(
    starter: Starter, settings: dict[str, str], log: Path, *, command: str = "run"
) -> Iterator[Started]:
    """The daemon, forked so that it need not import anything; killed at the end as well."""
    nothing = os.open(os.devnull, os.O_RDWR)
    with log.open("wb") as its_log:
        started = starter.start([command], settings, nothing, nothing, its_log.fileno())
    os.close(nothing)
    with started:
        yield started


def hung_up_at(*modules: str) -> list[str]:
    """A command line that gets SIGHUP when it imports each of *modules*."""
    code = (
        "import os, signal, sys; from archiver.__main__ import main\n"
        "class HangingUp:\n"
        "    def find_spec(name, path, target=None):\n"
        f"        if name in {modules}:\n"
        "            os.kill(os.getpid(), signal.SIGHUP)\n"
        "sys.meta_path.insert(0, HangingUp)\n"
        "main()\n"
    )
    return [sys.executable, "-c", code]


async def archived(flowdock: Simulator, url: str) -> None:
    """Wait until the archive shows what the service shows."""
    async with asyncio.timeout(100):
        while True:
            try:
                records = list(truth.records(flowdock.world.directory))
                if not await asyncio.to_thread(differences, url, records):
                    return
            except psycopg.Error:
                pass
            await asyncio.sleep(0.1)


def child_of(pid: int, home: Path) -> int:
    """The pid of the private server, whose pid file may name one of another pid namespace."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (server,) = [
        int(child)
        for child in children
        if str(home).encode() in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return server


def private_url(settings: dict[str, str]) -> str:
    return f"postgresql://archiver@/archiver?port=5432&host={settings['ARCHIVER_DATA_DIR']}/postgres/run"


async def flows_known(url: str) -> None:
    """Wait until the archive knows any flow."""
    async with asyncio.timeout(100):
        while True:
            with suppress(psycopg.Error):
                if await asyncio.to_thread(query, url, "SELECT FROM store.flows"):
                    return
            await asyncio.sleep(0.05)


async def test_sigterm_stops_it_at_once_with_status_0(flowdock, settings, database_url):
    with running(settings | {"ARCHIVER_DATABASE_URL": database_url}) as daemon:
        flowdock.go_live(seed=3, rate=200)
        await flowdock.connected()
        await asyncio.sleep(0.5)
        began = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        _, told = await asyncio.to_thread(daemon.communicate, timeout=60)
        status = daemon.returncode

    # On an idle machine it takes less than a second; what it might wait for takes longer than 10.
    assert time.monotonic() - began < 10
    assert status == 0
    assert told.splitlines()[-1].endswith("info     stopped")


@pytest.mark.usefixtures("hasty")
async def test_killed_at_any_moment_it_loses_nothing(
    starter, flowdock, settings, database_url, tmp_path
):
    settings |= {"ARCHIVER_DATABASE_URL": database_url}
    for pause in (0.6, 1.1):
        with forked(starter, settings, tmp_path / "log") as daemon:
            flowdock.go_live(seed=round(pause * 10), rate=100)
            await flowdock.connected()
            await asyncio.sleep(pause)
            daemon.send_signal(signal.SIGKILL)
            await asyncio.to_thread(daemon.wait)
            flowdock.stop_live()
    with forked(starter, settings, tmp_path / "log"):
        await archived(flowdock, database_url)


@pytest.mark.usefixtures("hasty")
async def test_a_private_database_that_dies_ends_it_and_the_next_start_mends_all(
    starter, flowdock, settings, tmp_path
):
    log = tmp_path / "log"
    with forked(starter, settings, log) as daemon:
        await archived(flowdock, private_url(settings))
        home = Path(settings["ARCHIVER_DATA_DIR"], "postgres")
        postmaster = child_of(daemon.pid, home)
        os.kill(postmaster, signal.SIGKILL)
        assert await asyncio.to_thread(daemon.wait) == 2
        assert "the private PostgreSQL server has stopped" in log.read_text()

    with forked(starter, settings, log):
        flowdock.world.post(flowdock.world.flows[0], flowdock.me, "after all")
        await archived(flowdock, private_url(settings))


@pytest.mark.usefixtures("hasty")
async def test_it_goes_on_when_the_command_that_ran_the_private_database_ends(
    starter, flowdock, settings, tmp_path
):
    log = tmp_path / "log"
    home = Path(settings["ARCHIVER_DATA_DIR"], "postgres")
    with ExitStack() as another:
        another.enter_context(run_server(home))
        with forked(starter, settings, log) as daemon:
            await archived(flowdock, private_url(settings))
            another.close()
            flowdock.world.post(flowdock.world.flows[0], flowdock.me, "after all")
            await archived(flowdock, private_url(settings))
            daemon.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(daemon.wait) == 0
    assert "the command that ran the private database has ended" in log.read_text()


async def test_a_trigger_that_lets_it_keep_nothing_ends_it_in_a_line_that_quotes_nobody(
    starter, settings, tmp_path, database_url
):
    with psycopg.connect(database_url) as db:
        db.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'secret'; END $$"
        )
        db.execute(
            "CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON store.ledger"
            " FOR EACH STATEMENT EXECUTE FUNCTION fail()"
        )
    log = tmp_path / "log"
    with forked(starter, settings | {"ARCHIVER_DATABASE_URL": database_url}, log) as daemon:
        assert await asyncio.to_thread(daemon.wait) == 2
    told = log.read_text()
    assert "that is not the archiver's raised an error (P0001)" in told
    assert "secret" not in told
    assert "Traceback" not in told


async def test_a_sighup_while_a_private_database_starts_is_heard_and_does_not_end_it(
    starter, settings, tmp_path
):
    log = tmp_path / "log"
    async with asyncio.timeout(100):
        with forked(starter, settings, log) as daemon:
            while "using a private database" not in log.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            daemon.send_signal(signal.SIGHUP)
            while "settings reloaded" not in log.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_sighup_while_it_is_imported_is_heard_and_does_not_end_it(settings, database_url):
    settings |= {"ARCHIVER_DATABASE_URL": database_url}
    command = hung_up_at("archiver.cli.main", "archiver.cli.run", "archiver.daemon")
    with running(settings, command) as daemon:
        async with asyncio.timeout(30):
            told = ""
            while "settings reloaded" not in told:
                assert daemon.stderr
                told = await asyncio.to_thread(daemon.stderr.readline)
                assert told, await asyncio.to_thread(daemon.wait)


def test_a_sighup_while_another_command_is_imported_ends_it(environ):
    command = hung_up_at("archiver.cli.main", "archiver.cli.config")
    ended = subprocess.run(
        [*command, "config"],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGHUP, "", "")


async def test_it_says_that_it_stopped_though_a_private_database_takes_longer(
    starter, flowdock, settings, tmp_path, monkeypatch
):
    # A server ignores SIGWINCH: it is not stopped by it, and ends after the daemon.
    slow = {"archiver.embedded.STOP_SECONDS": ((signal.SIGWINCH, 60),)}
    monkeypatch.setattr(starter, "constants", slow)
    log = tmp_path / "log"
    with forked(starter, settings, log) as daemon:
        await flows_known(private_url(settings))
        daemon.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemon.wait) == 0
    assert log.read_text().endswith("info     stopped\n")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("command", ["backfill", "verify"])
async def test_a_command_does_not_wait_for_a_private_database_that_died(
    starter, settings, tmp_path, archiver, command
):
    starter.constants["archiver.cli.database.MISSES"] = 2
    assert (await asyncio.to_thread(archiver, "migrate", **settings)).returncode == 0
    log = tmp_path / "log"
    settings |= {"ARCHIVER_INGEST_SETTLING_SECONDS": "5"}  # for so long it has nothing to do
    with forked(starter, settings, log, command=command) as started:
        await flows_known(private_url(settings))
        home = Path(settings["ARCHIVER_DATA_DIR"], "postgres")
        os.kill(child_of(started.pid, home), signal.SIGKILL)
        assert await asyncio.to_thread(started.wait) == 2
    # Whichever comes first: a look at the server, or a statement that fails and is not retried.
    ended = ("the private PostgreSQL server has stopped", "the database went away")
    assert any(f"archiver: error: {told}" in log.read_text() for told in ended)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"ARCHIVER_TOKEN": "no-such-token"}, "ARCHIVER_TOKEN"),
        ({"ARCHIVER_API_URL": "http://127.0.0.1:9"}, "ARCHIVER_API_URL"),
        ({"ARCHIVER_DATABASE_URL": "postgresql://127.0.0.1:9/none"}, "ARCHIVER_DATABASE_URL"),
        ({"ARCHIVER_TOKEN": ""}, "ARCHIVER_TOKEN"),
        ({"ARCHIVER_BACKFIL_CONCURRENCY": "4"}, "ARCHIVER_BACKFILL_CONCURRENCY"),
    ],
)
async def test_a_wrong_setting_is_told_in_one_line_with_status_2(
    archiver: Run, settings, database_url, changed, named
):
    given = settings | {"ARCHIVER_DATABASE_URL": database_url} | changed
    told = await asyncio.to_thread(archiver, "run", **given)

    errors = [line for line in told.stderr.splitlines() if line.startswith("archiver: error:")]
    assert told.returncode == 2
    assert len(errors) == 1
    assert named in errors[0]
    assert "Traceback" not in told.stderr
    assert "no-such-token" not in told.stderr
