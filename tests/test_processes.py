"""The further processes of a daemon: restarted, heard, killed when they hang, never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from archiver.cli.main import TERMINATED
from archiver.observing.health import ProcessTally
from archiver.observing.systemd import HANDED_DOWN
from archiver.processes import ROUND_SECONDS, Patience, Processes
from archiver.simulator.server import Simulator
from tests.oracle.programs import further_processes
from tests.test_daemon import Archive, until
from tests.test_sharing import HOLDERS, followed

COMMAND = (sys.executable, "-m", "archiver", "run")
PATIENCE = Patience(watchdog_seconds=20, again_seconds=0.05)
ASLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(flows=4, history=20, listing_delay_seconds=0) as it:
        yield it


@pytest.fixture
def archive(database_url: str, flowdock: Simulator) -> Iterator[Archive]:
    with Archive(database_url, flowdock) as it:
        yield it


@pytest.fixture
def settings(flowdock: Simulator, database_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    return kept | {
        "ARCHIVER_DATABASE_URL": database_url,
        "ARCHIVER_API_URL": flowdock.api_url,
        "ARCHIVER_STREAM_URL": flowdock.stream_url,
        "ARCHIVER_TOKEN": flowdock.token,
        "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "1000",
        "ARCHIVER_BACKFILL_HEAD_SECONDS": "1",
        "ARCHIVER_INGEST_SETTLING_SECONDS": "0.2",
        "ARCHIVER_SHARING_NAME": "ours",
        "ARCHIVER_SHARING_LEASE_SECONDS": "2",
    }


@asynccontextmanager
async def kept(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Processes, ProcessTally]]:
    """Keep one further process; *settings* become the environment of this process, too."""
    for name in settings.keys() ^ os.environ.keys():
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    async with keeping(COMMAND, PATIENCE) as it:
        yield it


@asynccontextmanager
async def keeping(
    command: Sequence[str], patience: Patience
) -> AsyncIterator[tuple[Processes, ProcessTally]]:
    """Keep one further process that runs *command*."""
    stop = asyncio.Event()
    processes = Processes(2, command=command, patience=patience)
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(processes.keep(stop=stop))
        yield processes, processes.tallies[0]
        stop.set()
        await keeping


@contextmanager
def running(settings: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon's first process, which is killed at the end if it still runs."""
    with log.open("wb") as its_log, subprocess.Popen(COMMAND, env=settings, stderr=its_log) as it:
        try:
            yield it
        finally:
            it.kill()


def saying(what: str) -> tuple[str, ...]:
    """A command that runs the code *what*, which can report its state by ``tell``."""
    able = (
        "import os, signal, time\n"
        f"tell = lambda states: os.write(int(os.environ['{HANDED_DOWN}']), states.encode())\n"
    )
    return (sys.executable, "-c", able + what)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def rounds(
    leap: Callable[[float], None], most: int, *, during: Callable[[], bool] = lambda: True
) -> None:
    """Let *most* rounds of keeping processes pass, without waiting, while *during* holds."""
    for _ in range(most):
        if not during():
            break
        leap(ROUND_SECONDS)
        await asyncio.sleep(0.02)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_each_captures_a_share_and_all_end_together(flowdock, archive, settings, tmp_path):
    settings |= {"ARCHIVER_SHARING_PROCESSES": "2"}
    both = ["ours", "ours/2"]
    log = tmp_path / "log"
    with running(settings, log) as first:
        await until(lambda: [name for name, _ in archive.query(HOLDERS)] == both)
        await until(lambda: len(flowdock.streams.connections) == 2)
        await until(lambda: set(followed(flowdock).values()) == {1})
        await flowdock.play(seed=5, events=200)
        await archive.completed()
        first.send_signal(signal.SIGHUP)
        await until(lambda: log.read_text().count("settings reloaded") == 2)
        (second,) = further_processes(first.pid)
        first.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.wait) == 0
        assert not runs(second)
    assert archive.query(HOLDERS) == []
    assert " error " not in log.read_text()

    with running(settings, log) as first:
        await until(lambda: [name for name, _ in archive.query(HOLDERS)] == both)
        (second,) = further_processes(first.pid)
        first.kill()
        await until(lambda: not runs(second))


async def test_one_that_hangs_is_killed_and_one_that_ended_is_started_again(
    settings, monkeypatch, caplog, leap
):
    async with kept(settings, monkeypatch) as (_, tally):
        await until(lambda: tally.is_well)
        assert tally.status.startswith("capturing 4 flows")
        (second,) = further_processes(os.getpid())
        os.kill(second, signal.SIGSTOP)
        await rounds(leap, 60, during=lambda: runs(second))
        await until(lambda: tally.starts == 2)
        assert not tally.is_well
        assert not runs(second)
        told = [(one.getMessage(), vars(one).get("reason")) for one in caplog.records]
        assert told == [
            ("a process hangs: killing it", None),
            ("a process is not running: restarting it", "ended with status -9"),
        ]
        await until(lambda: tally.is_well)
        (third,) = further_processes(os.getpid())
    assert not runs(third)


async def test_one_that_is_starting_reads_its_settings_again_when_it_can_hear(
    settings, monkeypatch, capfd
):
    async with kept(settings, monkeypatch) as (processes, tally):
        await until(lambda: tally.starts == 1)
        processes.reload()
        processes.reload()
        heard = ""

        def is_done() -> bool:
            nonlocal heard
            heard += capfd.readouterr().err
            return tally.is_well and "settings reloaded" in heard

        await until(is_done)
        assert tally.starts == 1
        assert heard.count("settings reloaded") == 1


async def test_one_that_cannot_start_is_tried_again_and_told(settings, monkeypatch, capfd):
    settings |= {"ARCHIVER_TOKEN": ""}
    async with kept(settings, monkeypatch) as (_, tally):
        await until(lambda: tally.starts > 1)
        assert not tally.is_well
        await until(lambda: tally.status == "ended with status 2")
    assert "ARCHIVER_TOKEN" in capfd.readouterr().err


async def test_one_that_hangs_before_it_is_at_work_is_killed(monkeypatch):
    monkeypatch.setattr("archiver.processes.ROUND_SECONDS", 0.001)
    wait, waits = asyncio.subprocess.Process.wait, 0

    async def counted(process: asyncio.subprocess.Process) -> int:
        nonlocal waits
        waits += 1
        return await wait(process)

    monkeypatch.setattr("asyncio.subprocess.Process.wait", counted)
    async with keeping(ASLEEP, Patience(start_seconds=0.1, again_seconds=60)) as (_, tally):
        await until(lambda: tally.status == "ended with status -9")
        # Each wait that is cancelled leaves something behind in asyncio until the process ends.
        assert waits == 1


async def test_one_that_asks_for_longer_to_begin_has_longer(leap):
    asking = saying(
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))\n"
        "tell('EXTEND_TIMEOUT_USEC=60000000\\nSTATUS=asking'); time.sleep(60)"
    )
    async with keeping(asking, Patience(start_seconds=20, again_seconds=1000)) as (_, tally):
        await until(lambda: tally.status == "asking")
        (second,) = further_processes(os.getpid())
        await rounds(leap, 40)
        os.kill(second, signal.SIGTERM)
        await until(lambda: tally.status.startswith("ended"))
        assert tally.status == "ended with status 7"


async def test_one_that_talks_and_does_nothing_is_killed(leap):
    told = "EXTEND_TIMEOUT_USEC=60000000\\nSTATUS=talking\\nX_WELL=1"
    talking = saying(f"tell('X_WELL=1\\nWATCHDOG=1')\nwhile True: tell('{told}'); time.sleep(0.02)")
    async with keeping(talking, Patience(watchdog_seconds=20, again_seconds=1000)) as (_, tally):
        await until(lambda: tally.status == "talking")
        await rounds(leap, 60, during=lambda: tally.status == "talking")
        await until(lambda: tally.status == "ended with status -9")
        assert not tally.is_well


async def test_one_that_does_not_stop_is_killed():
    deaf = saying(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell('STATUS=deaf'); time.sleep(60)"
    )
    async with keeping(deaf, PATIENCE) as (_, tally):
        await until(lambda: tally.status == "deaf")
        (second,) = further_processes(os.getpid())
    assert not runs(second)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("/nonexistent/archiver",), "cannot be started: No such file or directory"),
        ((sys.executable, "-SE", "-c", "pass"), "ended with status 0"),
    ],
)
async def test_one_is_started_again_however_it_ended(command, status, caplog):
    async with keeping(command, Patience(again_seconds=0.001)) as (_, tally):
        await until(lambda: tally.starts > 2)
        before = open_files()
        await until(lambda: tally.starts > 30)
        # The next start may have files open, and some more while it is under way.
        await until(lambda: open_files() <= before + 2)
        assert tally.status == status
        assert not tally.is_well
    assert "a process is not running: restarting it" in caplog.text


def test_one_without_the_first_ends_before_it_takes_anything(settings, tmp_path):
    del settings["ARCHIVER_DATABASE_URL"]
    settings |= {"ARCHIVER_DATA_DIR": str(tmp_path)}
    process = (*COMMAND, "--process", "2")
    done = subprocess.run(
        process,
        env=settings,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    assert done.returncode == TERMINATED, done.stderr
    assert not (tmp_path / "postgres" / "data").exists()


def test_one_that_hangs_ends_with_the_first_all_the_same():
    hanging = (
        "import signal, time;"
        "from archiver.cli.run import end_with_first;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "end_with_first();"
        "time.sleep(60)"
    )
    process = (sys.executable, "-c", hanging)
    assert subprocess.run(process, stdin=subprocess.DEVNULL, check=False).returncode == 1
