"""Test the alert rules with promtool, and with a real Prometheus that watches a real daemon.

promtool checks which alerts fire on made-up samples, and that they resolve. Then Prometheus scrapes
an `archiver run` against the simulator every second. The streams are refused for a while, and the
daemon is killed; each time, the alert must fire, and must resolve when capture resumes. Only the
waiting times of the rules are shortened.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
NEEDED = ("promtool", "prometheus")
PATIENCE_SECONDS = 60
REFUSED_SECONDS = 10.0
WAIT = re.compile(r"^(\s+for: ).*$", re.MULTILINE)


def main() -> int:
    """Run both parts; returns the exit status."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        print(f"{' and '.join(missing)} needed: apt-get install prometheus", file=sys.stderr)
        return 2
    for arguments in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ):
        subprocess.run(["promtool", *arguments], cwd=RULES, check=True)
    with tempfile.TemporaryDirectory(prefix="archiver-alerting-") as home:
        return asyncio.run(watch(Path(home)))


async def watch(home: Path) -> int:
    """Let Prometheus watch a daemon that suffers faults; returns the exit status."""
    port, own_port = free_port(), free_port()
    async with (
        Simulator.start(flows=3, history=60, listing_delay_seconds=0) as flowdock,
        aiohttp.ClientSession(f"http://127.0.0.1:{own_port}") as session,
    ):
        settings = {
            "ARCHIVER_API_URL": flowdock.api_url,
            "ARCHIVER_STREAM_URL": flowdock.stream_url,
            "ARCHIVER_TOKEN": flowdock.token,
            "ARCHIVER_DATA_DIR": str(home / "data"),
            "ARCHIVER_METRICS_LISTEN": f"127.0.0.1:{port}",
            "ARCHIVER_INGEST_SETTLING_SECONDS": "0.2",
        }
        flowdock.go_live(seed=1, rate=20)
        with prometheus(home, scraped=port, own=own_port):
            with daemon(home, settings) as archiving:
                await fires(session, None, "the daemon captures")
                await lint(port)
                flowdock.faults.add(Fault(kind="refuse", seconds=REFUSED_SECONDS))
                await fires(session, "ArchiverNotCapturing", "the streams are refused")
                await fires(session, None, "the streams stand again")
                archiving.send_signal(signal.SIGKILL)
                await fires(session, "ArchiverDown", "the daemon is killed")
            with daemon(home, settings):
                await fires(session, None, "it is started again")
        assert flowdock.faults.fired == {"refuse": 1}, flowdock.faults.fired
    print("each alert fired, and healed")
    return 0


async def fires(session: aiohttp.ClientSession, alert: str | None, after: str) -> None:
    """Wait until *alert* fires; if it is None, until no alert fires and the daemon is ready."""
    began = time.monotonic()
    firing: set[str] = set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            firing = await ask(session, 'ALERTS{alertstate="firing"}', "alertname")
            is_ready = bool(await ask(session, "archiver_ready == 1", "job"))
            if (alert in firing) if alert else (is_ready and not firing):
                break
            await asyncio.sleep(0.2)
    told = f"{', '.join(sorted(firing))} fires" if firing else "no alert fires"
    print(f"{after}: {told} after {time.monotonic() - began:.1f} s", flush=True)


async def ask(session: aiohttp.ClientSession, query: str, label: str) -> set[str]:
    """The values of *label* in the series that *query* returns; none while Prometheus starts."""
    try:
        async with session.get("/api/v1/query", params={"query": query}) as answer:
            found = await answer.json()
    except aiohttp.ClientError:
        return set()
    return {one["metric"].get(label, "") for one in found.get("data", {}).get("result", ())}


async def lint(port: int) -> None:
    """Let promtool check the daemon's metrics page."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        page = await answer.read()
    told = await asyncio.to_thread(judged, page)
    print(
        f"promtool check metrics: {page.count(bytes([10]))} lines, nothing to say {told}".rstrip()
    )


def judged(page: bytes) -> str:
    """The output of promtool on *page*, which must pass its check."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, check=False
    )
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    return told


@contextmanager
def daemon(home: Path, settings: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``archiver run`` while the block lasts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    command = [sys.executable, "-m", "archiver", "run"]
    with (home / "daemon.log").open("ab") as log:
        process = subprocess.Popen(command, env={**kept, **settings}, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def prometheus(home: Path, *, scraped: int, own: int) -> Iterator[None]:
    """Run a Prometheus with our configuration and rules, but with short waiting times."""
    place = home / "prometheus"
    place.mkdir()
    config = (RULES / "prometheus.yml").read_text()
    config = config.replace("15s", "1s").replace("127.0.0.1:9471", f"127.0.0.1:{scraped}")
    (place / "prometheus.yml").write_text(config)
    (place / "alerts.yml").write_text(WAIT.sub(r"\g<1>1s", (RULES / "alerts.yml").read_text()))
    command = [
        "prometheus",
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=place, stderr=log, stdout=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


if __name__ == "__main__":
    sys.exit(main())
