"""A small server on loopback that answers as a test tells it, and records the requests."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web

from archiver.flowdock.retry import Delays
from archiver.flowdock.session import open_session

QUICK = Delays(
    error_step_seconds=0.001,
    error_limit_seconds=0.01,
    refusal_start_seconds=0.001,
    refusal_limit_seconds=0.01,
)
"""Short delays before retries."""
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers the first requests with *answers*, one each, and all others with the last of them."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[Answer] = []
        self.requests: list[web.Request] = []

    def reply(self, *answers: Answer) -> None:
        self.answers.extend(answers)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.Request)
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        return await answer(request)


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server; it speaks TLS if there is a *context*."""
    it = Server()
    app = web.Application()
    app.router.add_route("*", r"/{path:[\s\S]*}", it.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    host, port = runner.addresses[0][:2]
    it.url = f"http://{host}:{port}"
    yield it
    await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as it:
        yield it


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as it:
        yield it


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """A clock that advances by a second each time it is read."""
    seconds = iter(range(1_000_000))
    return lambda: datetime.fromtimestamp(1_400_000_000 + next(seconds), UTC)
