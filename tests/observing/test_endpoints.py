"""The endpoints, asked over HTTP."""

import asyncio
import logging
import socket
from contextlib import AsyncExitStack, suppress
from urllib.parse import urlsplit

import aiohttp
import pytest

from archiver.errors import ArchiverError
from archiver.observing.endpoints import MOST_CONNECTIONS, serve
from archiver.observing.health import Observed
from archiver.observing.metrics import Metrics


@pytest.fixture
async def present(observed: Observed) -> Observed:
    """The daemon with all its times set to now, by the event loop's clock."""
    now = asyncio.get_running_loop().time()
    observed.tally.turned(now=now)
    account = observed.tally.accounts["work"]
    account.begin(now=now)
    account.matched_at = dict.fromkeys(account.paths, now)
    return observed


async def test_probes_and_prometheus_are_answered(present: Observed) -> None:
    metrics = Metrics(present, flows=10)
    async with (
        serve("127.0.0.1:0", present, metrics) as url,
        aiohttp.ClientSession(url) as session,
    ):
        async with session.get("/readyz") as answer:
            assert (answer.status, await answer.json()) == (200, {"ready": True, "why": []})
        present.tally.accounts["work"].state = "locked out"
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["why"] == ["account work: Flowdock refuses its token"]
        async with session.get("/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"alive": True})
        async with session.get("/metrics", headers={"Accept": "text/plain"}) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert "archiver_ready 0.0" in await answer.text()
        open_metrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with session.get("/metrics", headers=open_metrics) as answer:
            assert (await answer.text()).endswith("# EOF\n")
        for method, path in (("POST", "/metrics"), ("GET", "/"), ("GET", "/metrics/x")):
            async with session.request(method, path) as answer:
                assert answer.status in {404, 405}


async def test_a_stuck_writer_is_not_healthy(observed: Observed) -> None:
    observed.tally.writer_turned_at = 1e-9
    stale = Observed(
        tally=observed.tally,
        intake=observed.intake,
        gates={},
        heads_seconds=300,
        began_at=asyncio.get_running_loop().time() - 500,
    )
    async with (
        serve("127.0.0.1:0", stale, Metrics(stale, flows=1)) as url,
        aiohttp.ClientSession(url) as session,
        session.get("/healthz") as answer,
    ):
        assert (answer.status, await answer.json()) == (503, {"alive": False})


async def test_a_port_that_is_taken_is_told_with_the_setting(observed: Observed) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ArchiverError, match=f"{address}.*ARCHIVER_METRICS_LISTEN"):
            async with serve(address, observed, Metrics(observed, flows=1)):
                pass


@pytest.mark.parametrize(
    "asked",
    [
        b"GET /metrics HTTP/1.1\r\nHost: here\r\nX: " + b"x" * 100_000,
        b"GET /" + b"x" * 100_000,
        b"GET /metrics HTTP/1.1\r\nContent-Length: none\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nrags",
        b"\x16\x03\x01 no HTTP\r\n\r\n",
    ],
)
async def test_who_asks_for_nonsense_writes_nothing_into_the_log(
    present: Observed, caplog: pytest.LogCaptureFixture, asked: bytes
) -> None:
    async with serve("127.0.0.1:0", present, Metrics(present, flows=10)) as url:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(asked)
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.")
            await reader.read()
        writer.close()
    assert [one for one in caplog.records if one.levelno > logging.DEBUG] == []


async def test_who_keeps_connections_open_makes_room_for_others(present: Observed) -> None:
    async with (
        AsyncExitStack() as opened,
        serve("127.0.0.1:0", present, Metrics(present, flows=10)) as url,
    ):
        parts = urlsplit(url)
        ends = []
        for _ in range(10 * MOST_CONNECTIONS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            opened.callback(writer.close)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: here\r\n")  # the request never ends
            ends.append(reader)
        async with aiohttp.ClientSession(url) as session, session.get("/healthz") as answer:
            assert answer.status == 200
        async with asyncio.timeout(10):
            for reader in ends[: -3 * MOST_CONNECTIONS]:
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
