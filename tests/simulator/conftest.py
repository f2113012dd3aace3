import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from archiver.simulator.entities import User
from archiver.simulator.server import Simulator


class Api:
    """The REST API as one user: each call returns status, headers and JSON (None for no body)."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        async with self.session.request(method, self.base + path, **options) as response:
            text = await response.text()
            kind = response.content_type
            body = await response.json() if text and kind == "application/json" else None
            return response.status, response.headers, body

    async def get(self, path: str, **params: str | int) -> Any:
        status, _, body = await self("GET", path, params=params)
        assert status == 200, (status, body)
        return body


class Wire:
    """A stream read byte by byte, head and body apart, with the chunked coding undone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = b""
        self.body = b""

    async def read_head(self) -> int:
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        return int(self.head.split(b" ")[1])

    async def until(self, holds: Callable[[bytes], bool]) -> bytes:
        """Read until *holds* is true of the body so far, and return the body."""
        while not holds(self.body):
            await self._chunk()
        return self.body

    async def to_the_end(self) -> str:
        """Read on; tell how the connection ended: in good order, cut, or reset."""
        try:
            while await self._chunk():
                pass
        except asyncio.IncompleteReadError:
            return "cut"
        except ConnectionResetError:
            return "reset"
        return "ended"

    async def _chunk(self) -> bool:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        try:
            data = await self.reader.readexactly(size + 2)
        except asyncio.IncompleteReadError as short:
            self.body += short.partial
            raise
        self.body += data[:-2]
        return size > 0


def basic(name: str, password: str = "") -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(
        seed=7, flows=3, users=5, history=200, listing_delay_seconds=0.0
    ) as simulator:
        yield simulator


@pytest.fixture
async def as_user(flowdock: Simulator) -> AsyncIterator[Callable[[User], Api]]:
    sessions = []

    def make(user: User) -> Api:
        session = aiohttp.ClientSession(headers={"Authorization": basic(user.token)})
        sessions.append(session)
        return Api(session, flowdock.api_url)

    yield make
    for session in sessions:
        await session.close()


@pytest.fixture
async def api(flowdock: Simulator, as_user: Callable[[User], Api]) -> Api:
    return as_user(flowdock.me)


@pytest.fixture
async def connect(flowdock: Simulator) -> AsyncIterator[Callable[..., Awaitable[Wire]]]:
    """Open a stream: ``await connect("/flows?filter=…", Accept="…")``."""
    opened: list[Wire] = []

    async def open_stream(
        path: str,
        *,
        of: Simulator = flowdock,
        user: User | None = None,
        port: str = "stream",
        **more: str,
    ) -> Wire:
        url = of.stream_url if port == "stream" else of.api_url
        host, number = url.removeprefix("http://").split(":")
        wire = Wire(*await asyncio.open_connection(host, int(number)))
        opened.append(wire)
        headers = {"Host": host, "Authorization": basic((user or of.me).token)}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        wire.writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        return wire

    yield open_stream
    for wire in opened:
        wire.writer.transport.abort()
