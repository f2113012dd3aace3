"""Doors: proxies between the daemon and what it talks to.

Through a door passes whatever is said; but it may be slow, break off after so many bytes of an
answer, or be left half-open: both sides believe in a connection through which nothing comes any
more.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Reach = Callable[[], Awaitable[Streams]]


class Door:
    """A proxy to what *reach* connects to."""

    def __init__(self, reach: Reach) -> None:
        self.latency_seconds = 0.0
        """How long each piece is held up."""
        self.cut_after: int | None = None
        """The next connection to be made is cut after so many bytes of what is answered."""
        self.cuts = 0
        self.delays = 0
        """How many pieces were held up."""
        self.address = ""
        self._reach = reach
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()

    async def open_port(self) -> None:
        """Listen on a port of the loopback."""
        number = int(self.address.rpartition(":")[2]) if self.address else 0
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", number)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"http://{host}:{port}"

    async def open_socket(self, path: Path) -> None:
        """Listen on a socket of the file system."""
        self._server = await asyncio.start_unix_server(self._pass, path)

    def close(self) -> None:
        """Listen no more, and cut what there is."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> int:
        """Cut every connection; returns how many."""
        links = list(self._links)
        for link in links:
            link.abort()
        return len(links)

    def forsake(self) -> int:
        """Leave every connection half-open; returns how many. New ones are as ever."""
        alive = [link for link in self._links if not link.is_forsaken]
        for link in alive:
            link.forsake()
        return len(alive)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await self._reach()
        except OSError:
            writer.transport.abort()
            return
        link = _Link((reader, writer), upstream, self.cut_after)
        self.cut_after = None
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, upstream[1], answers=False))
                group.create_task(self._pump(link, upstream[0], writer, answers=True))
        finally:
            link.abort()
            self._links.discard(link)

    async def _pump(
        self,
        link: "_Link",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        answers: bool,
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                if self.latency_seconds:
                    self.delays += 1
                    await asyncio.sleep(self.latency_seconds)
                if link.is_forsaken:
                    continue
                writer.write(link.admit(piece) if answers else piece)
                await writer.drain()
                if link.is_due_to_be_cut():
                    self.cuts += 1
                    break
        if link.is_forsaken and answers:
            return  # the near side is to believe in it until it gives up by itself
        link.abort()


class _Link:
    """One connection through a door: the near side and the far side."""

    def __init__(self, near: Streams, far: Streams, cut_after: int | None) -> None:
        self.is_forsaken = False
        self._near, self._far = near, far
        self._left = cut_after

    def admit(self, piece: bytes) -> bytes:
        """What of *piece* may still pass."""
        if self._left is None:
            return piece
        admitted = piece[: self._left]
        self._left -= len(admitted)
        return admitted

    def is_due_to_be_cut(self) -> bool:
        """Tell whether all has passed that may."""
        return self._left == 0

    def forsake(self) -> None:
        """Let the far side go, and tell the near side nothing."""
        self.is_forsaken = True
        self._far[1].transport.abort()

    def abort(self) -> None:
        """Cut both sides."""
        for _, writer in (self._near, self._far):
            writer.transport.abort()


@asynccontextmanager
async def door_to_port(url: str) -> AsyncIterator[Door]:
    """A door with a port of its own, to the server at *url*."""
    host, _, port = url.removeprefix("http://").partition(":")
    door = Door(lambda: asyncio.open_connection(host, int(port)))
    await door.open_port()
    try:
        yield door
    finally:
        door.close()


def door_to_socket(path: Path) -> Door:
    """A door to the server that listens on the socket *path*; it is not open yet."""
    return Door(lambda: asyncio.open_unix_connection(path))
