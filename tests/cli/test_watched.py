"""``archiver run`` as seen by those who watch it: systemd, Prometheus, and an operator."""

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from archiver.simulator.server import Simulator
from tests.cli.test_run import running

Hear = Callable[[], list[str]]


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(flows=2, history=40, listing_delay_seconds=0) as simulator:
        yield simulator


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Hear]:
    """A function that returns what systemd was told since its last call."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.setblocking(False)

        def heard() -> list[str]:
            states: list[str] = []
            while True:
                try:
                    states += receiving.recv(65536).decode().split("\n")
                except BlockingIOError:
                    return states

        yield heard


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


@pytest.fixture
def file(tmp_path: Path, flowdock: Simulator, database_url: str, port: int) -> Path:
    (tmp_path / "token").write_text(flowdock.token)
    path = tmp_path / "archiver.toml"
    path.write_text(
        f'api_url = "{flowdock.api_url}"\nstream_url = "{flowdock.stream_url}"\n'
        f'token_file = "{tmp_path / "token"}"\nflows = ["{flowdock.world.flows[0].path}"]\n'
        f'private = false\n[database]\nurl = "{database_url}"\n'
        f'[metrics]\nlisten = "127.0.0.1:{port}"\n'
        "[ingest]\nsettling_seconds = 0.2\n[backfill]\nrequests_per_second = 1000\n"
    )
    return path


def asked(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


async def test_it_tells_how_it_is_and_reads_again_which_flows_are_wanted(
    flowdock, file, port, systemd, environ, tmp_path, database_url
):
    url = f"http://127.0.0.1:{port}"
    settings = environ | {
        "ARCHIVER_CONFIG": str(file),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "2000000",
    }
    heard: list[str] = []

    async def told(state: str) -> None:
        async with asyncio.timeout(60):
            while state not in heard:
                heard.extend(systemd())
                await asyncio.sleep(0.02)

    with running(settings) as daemon:
        await told("READY=1")
        assert await asyncio.to_thread(asked, f"{url}/readyz") == (
            200, '{"ready": true, "why": []}\n'
        )  # fmt: skip
        _, page = await asyncio.to_thread(asked, f"{url}/metrics")
        assert "archiver_ready 1.0" in page
        assert 'archiver_events_total{event="message",witness="list"}' in page
        await told("WATCHDOG=1")

        heard.clear()
        file.write_text(file.read_text().replace("flows = [", 'flows = ["*", ').replace(
            "listen = ", "flows = 7\nlisten = "
        ))  # fmt: skip
        daemon.send_signal(signal.SIGHUP)
        await told("RELOADING=1")
        await told("READY=1")
        flowdock.world.post(flowdock.world.flows[1], flowdock.me, "on the flow that was added")
        query = "SELECT count(*) FROM archive.messages WHERE content = 'on the flow that was added'"
        async with asyncio.timeout(60):
            while await asyncio.to_thread(count, database_url, query) == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

        file.write_text("flows = 3")
        daemon.send_signal(signal.SIGHUP)
        heard.clear()
        await told("RELOADING=1")
        await told("READY=1")

        daemon.send_signal(signal.SIGTERM)
        _, log = await asyncio.to_thread(daemon.communicate, None, 60)
        assert daemon.returncode == 0
        await told("STOPPING=1")
    assert "settings=metrics.flows" in log
    assert "new settings are not valid" in log
    assert flowdock.token not in log
    assert json.dumps(flowdock.world.flows[0].path) not in log


async def test_it_ends_with_the_terminal_that_it_runs_in(file, environ):
    terminal, its_side = pty.openpty()
    daemon = started_on(its_side, file, environ)
    assert daemon.stderr is not None
    async with asyncio.timeout(60):
        while "stream opened" not in await asyncio.to_thread(daemon.stderr.readline):
            pass
    os.close(terminal)
    await asyncio.to_thread(daemon.communicate, None, 60)
    assert daemon.returncode == 0


def started_on(terminal: int, file: Path, environ: dict[str, str]) -> subprocess.Popen[str]:
    """Start the daemon on *terminal*, whose descriptor is closed here."""
    command = [sys.executable, "-m", "archiver", "run", "--config", str(file)]
    daemon = subprocess.Popen(
        ["setsid", "--ctty", *command],
        env=environ,
        stdin=terminal,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(terminal)
    return daemon


def count(url: str, query: str) -> int:
    with psycopg.connect(url) as db:
        row = db.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0
