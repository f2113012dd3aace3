"""Serves ``/metrics``, ``/healthz`` and ``/readyz`` over HTTP."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from archiver.errors import ArchiverError
from archiver.observing.health import Observed, is_alive, problems
from archiver.observing.metrics import Metrics

OK = 200
UNAVAILABLE = 503

MOST_CONNECTIONS = 32
"""The limit of connections: each takes a file descriptor, which streams and database need too."""
KEPT = MOST_CONNECTIONS // 2
"""How many are kept when another is made; as many more may arrive in one moment."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def serve(address: str, observed: Observed, metrics: Metrics) -> AsyncIterator[str]:
    """Serve at *address*, a host and a port, while the block lasts; yield the URL.

    Raises:
        ArchiverError: it is not possible to listen there.
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
        found = problems(observed, now=clock())
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
    """Listen at *address* for a limited number of connections: a new one replaces the oldest."""
    server = runner.server
    if server is None:
        raise RuntimeError("the runner was not set up")

    def admit() -> asyncio.Protocol:
        for one in server.connections[: 1 - KEPT]:
            if isinstance(one.transport, asyncio.Transport):
                one.transport.abort()  # even if it has not read its answer yet
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
    """Tell whether *record* is about an error of ours, not about a malformed request."""
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


def _told(what: object, status: int) -> web.Response:
    return web.Response(
        text=json.dumps(what) + "\n", status=status, content_type="application/json"
    )
