"""Doors: proxies, on TCP ports or Unix sockets, between the daemon and its servers.

A door passes everything on. But it can be made slow, cut a connection after so many bytes of an
answer, or leave a connection half-open: the daemon's side stays open, but nothing comes through it
any more.
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
        """How long each chunk of data is delayed."""
        self.cut_after: int | None = None
        """The next new connection is cut after this many bytes of the answer."""
        self.cuts = 0
        self.delays = 0
        """How many chunks were delayed."""
        self.address = ""
        self._reach = reach
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()

    async def open_port(self) -> None:
        """Listen on a port of the loopback interface; after a close, on the same port again."""
        number = int(self.address.rpartition(":")[2]) if self.address else 0
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", number)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"http://{host}:{port}"

    async def open_socket(self, path: Path) -> None:
        """Listen on the Unix socket *path*."""
        self._server = await asyncio.start_unix_server(self._pass, path)

    def close(self) -> None:
        """Stop listening, and cut all connections."""
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
        """Leave every connection half-open; returns how many. New connections work as usual."""
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
            return  # the near side stays connected until it gives up by itself
        link.abort()


class _Link:
    """One connection through a door: the client's side (near) and the server's side (far)."""

    def __init__(self, near: Streams, far: Streams, cut_after: int | None) -> None:
        self.is_forsaken = False
        self._near, self._far = near, far
        self._left = cut_after

    def admit(self, piece: bytes) -> bytes:
        """The part of *piece* that may still pass before the cut."""
        if self._left is None:
            return piece
        admitted = piece[: self._left]
        self._left -= len(admitted)
        return admitted

    def is_due_to_be_cut(self) -> bool:
        """Tell whether all bytes that may pass have passed."""
        return self._left == 0

    def forsake(self) -> None:
        """Abort the far side, and do not tell the near side."""
        self.is_forsaken = True
        self._far[1].transport.abort()

    def abort(self) -> None:
        """Cut both sides."""
        for _, writer in (self._near, self._far):
            writer.transport.abort()


@asynccontextmanager
async def door_to_port(url: str) -> AsyncIterator[Door]:
    """A door to the server at *url*, open on a port of its own while the block lasts."""
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
