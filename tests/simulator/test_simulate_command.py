import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time

import aiohttp
import pytest

from tests.bench.processes import cpu_seconds
from tests.cli.forks import Starter

COMMAND = [sys.executable, "-m", "archiver", "simulate"]


async def line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def run(*options: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*COMMAND, *options, stdout=pipe, stderr=pipe)


def ended(starter: Starter, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``simulate`` to its end, without the time that imports take."""
    return starter.run(["simulate", *options], os.environ)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_runs_and_stops_at_a_signal(number):
    process = await run("--port", "0", "--stream-port", "0", "--json", "--rate", "50",
                        "--token", "secret")  # fmt: skip
    ready = json.loads(await line(process))
    async with (
        aiohttp.ClientSession() as session,
        session.get(ready["stream_url"] + "/flows?filter=acme/main&access_token=secret") as stream,
    ):
        assert (stream.status, ready["token"]) == (200, "secret")
        assert await stream.content.readuntil(b"\r\n")
        process.send_signal(number)
        async with asyncio.timeout(60):
            await process.wait()
    assert process.returncode == 0
    assert process.stderr is not None
    assert await process.stderr.read() == b""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_long_history_does_not_keep_it_from_stopping(starter, tmp_path, number, status):
    nothing, told = os.open(os.devnull, os.O_RDONLY), tmp_path / "told"
    command = ["simulate", "--port", "0", "--stream-port", "0", "--history", "10000000"]
    with told.open("wb") as file:
        started = starter.start(command, os.environ, nothing, file.fileno(), file.fileno())
    os.close(nothing)
    with started as process:
        # Starting takes a tenth of a second of processor time, and such a history takes minutes.
        while (before := cpu_seconds(process.pid)) < 0.5:
            time.sleep(0.02)
        process.send_signal(number)
        while spent := cpu_seconds(process.pid):  # 0 once it is gone
            assert spent - before < 5
            time.sleep(0.02)
        assert process.wait() == status
    assert told.read_bytes().strip() == b""


async def test_it_prints_an_environment_to_paste():
    process = await run("--port", "0", "--stream-port", "0", "--history", "300")
    printed = b""
    while b"ARCHIVER_TOKEN=" not in printed:
        printed += await line(process)
    process.terminate()
    await process.wait()
    assert printed.startswith(
        b"A Flowdock is running: 300 messages, 294 in 3 flows, 6 in 4 private conversations.\n"
    )
    assert b"export ARCHIVER_API_URL=http://127.0.0.1:" in printed
    assert b"ARCHIVER_STREAM_URL=http://127.0.0.1:" in printed


def test_a_taken_port_is_one_line_and_status_2(starter):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = ended(starter, "--port", str(taken.getsockname()[1]), "--history", "0")
    assert (told.returncode, told.stdout, told.stderr.count(b"\n")) == (2, b"", 1)
    assert b"--port" in told.stderr


@pytest.mark.parametrize("host", ["", "a" * 300, "a..b"])
def test_a_host_that_is_none_is_one_line_and_status_2(starter, host):
    told = ended(starter, "--port", "0", "--stream-port", "0", "--history", "0", "--host", host)
    assert (told.returncode, told.stdout, told.stderr.count(b"\n")) == (2, b"", 1)
    assert b"--host" in told.stderr


async def test_a_file_of_faults_is_read_or_refused(starter, tmp_path):
    faults = tmp_path / "faults.json"
    faults.write_text('[{"kind": "status", "on": "rest", "status": 500}]')
    process = await run("--port", "0", "--stream-port", "0", "--json", "--faults", str(faults))
    ready = json.loads(await line(process))
    async with aiohttp.ClientSession() as session, session.get(ready["api_url"] + "/user") as one:
        assert one.status == 500
    process.terminate()
    await process.wait()
    for wrong, why in (
        ('[{"kind": "fire"}]', b"kind is one of"),
        ('{"faults": 3}', b"a list of faults is expected"),
        ("{}", b"a list of faults is expected"),
        ("[" * 100_000, b"maximum recursion depth"),
    ):
        faults.write_text(wrong)
        told = ended(starter, "--faults", str(faults))
        assert (told.returncode, told.stderr.count(b"\n")) == (2, 1)
        assert b"faults.json" in told.stderr
        assert why in told.stderr


@pytest.mark.parametrize(
    "option", ["--port=99999", "--flows=0", "--rate=-1", "--users=0", "--history=-5"]
)
def test_a_world_that_cannot_be_is_refused_by_the_options_name(starter, option):
    told = ended(starter, option)
    assert (told.returncode, told.stdout) == (2, b"")
    assert option.partition("=")[0].encode() in told.stderr
    assert b"Traceback" not in told.stderr


@pytest.mark.parametrize(
    "until",
    ["0001-01-01", "0001-01-30T23:59", "0001-01-01T00:00+14:00", "9999-12-31T23:59:59.9999",
     "9999-12-31T23:59-14:00"],
)  # fmt: skip
def test_a_history_out_of_the_calendar_is_refused(starter, until, tmp_path):
    told = ended(starter, "--history-until", until, "--export", str(tmp_path))
    assert (told.returncode, told.stdout, told.stderr.count(b"\n")) == (2, b"", 1)
    assert b"from 0001-01-31 to 9999-12-31" in told.stderr


@pytest.mark.parametrize("until", ["0001-01-31", "9999-12-31T23:59:59.999"])
def test_a_history_at_the_ends_of_the_calendar_can_be_had(starter, until, tmp_path):
    told = ended(starter, "--history-until", until, "--export", str(tmp_path))
    assert (told.returncode, told.stderr) == (0, b"")
