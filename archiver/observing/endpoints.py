"""``/metrics``, ``/healthz`` and ``/readyz``, over HTTP, where the operator says."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from archiver.errors import ArchiverError
from archiver.observing.health import Observed, ailments, is_alive
from archiver.observing.metrics import Metrics

OK = 200
UNAVAILABLE = 503

MOST_CONNECTIONS = 32
"""Each takes a descriptor, of which the streams and the database need theirs."""
KEPT = MOST_CONNECTIONS // 2
"""As many again may come in one moment."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def serve(address: str, observed: Observed, metrics: Metrics) -> AsyncIterator[str]:
    """Answer at *address*, a host and a port, while the block lasts; yields the URL.

    Raises:
        ArchiverError: nothing can listen there.
    """
    app = web.Application()
    clock = asyncio.get_running_loop().time

    async def tell_metrics(request: web.Request) -> web.Response:
        page, content_type = metrics.page(request.headers.get("Accept", ""), now=clock())
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def tell_health(_request: web.Request) -> web.Response:
        alive = is_alive(observed, now=clock())
        return _told({"alive": alive}, OK if alive else UNAVAILABLE)

    async def tell_readiness(_request: web.Request) -> web.Response:
        found = ailments(observed, now=clock())
        return _told({"ready": not found, "why": found}, UNAVAILABLE if found else OK)

    app.router.add_get("/metrics", tell_metrics)
    app.router.add_get("/healthz", tell_health)
    app.router.add_get("/readyz", tell_readiness)
    log.addFilter(_is_ours)
    runner = web.AppRunner(app, access_log=None, logger=log, shutdown_timeout=0.1)
    await runner.setup()
    try:
        with closing(await _listen(address, runner)) as listening:
            host, port = listening.sockets[0].getsockname()[:2]
            yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _listen(address: str, runner: web.AppRunner) -> asyncio.Server:
    """Let so many connect at *address*; who comes then takes the place of who came first."""
    server = runner.server
    if server is None:
        raise RuntimeError("the runner was not set up")

    def admit() -> asyncio.Protocol:
        for one in server.connections[: 1 - KEPT]:
            if isinstance(one.transport, asyncio.Transport):
                one.transport.abort()  # whether or not it takes what it was told
        return server()

    parts = urlsplit(f"//{address}")
    loop = asyncio.get_running_loop()
    host, port = parts.hostname, parts.port or 0
    try:
        return await loop.create_server(admit, host, port, backlog=KEPT)
    except OSError as error:
        raise ArchiverError(
            f"cannot listen on {address} for metrics: {error.strerror or error}; "
            "correct ARCHIVER_METRICS_LISTEN, or unset it"
        ) from error


def _is_ours(record: logging.LogRecord) -> bool:
    """Tell whether *record* is of an error of ours, and not of nonsense that somebody asked."""
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


def _told(what: object, status: int) -> web.Response:
    return web.Response(
        text=json.dumps(what) + "\n", status=status, content_type="application/json"
    )
