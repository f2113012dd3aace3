"""One stream connection: what it follows, what waits to be written, how it ends."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from archiver.simulator.entities import Flow, User
from archiver.simulator.faults import How
from archiver.simulator.log import Published

HOLD_SECONDS = 0.1
"""How long an event is held back at most, for others to overtake it."""


class Connection:
    """One client on a stream: what it follows, what is still to be written to it."""

    def __init__(
        self,
        *,
        path: str,
        user: User,
        flows: Iterable[Flow],
        private: bool,
        presence: bool,
        active: str,
        event_stream: bool,
    ) -> None:
        self.path = path
        self.user = user
        self.flows = frozenset(flow.id for flow in flows)
        self.private = private
        self.presence = presence
        self.active = active
        self.event_stream = event_stream
        self.transport: asyncio.BaseTransport | None = None
        self.queue: deque[bytes] = deque()
        self.queued_bytes = 0
        self.wake = asyncio.Event()
        self.is_writing = False
        """Whether what was taken off the queue is still being written."""

    def concerns(self, event: Published) -> bool:
        """Tell whether *event* belongs on this connection."""
        if event.flow is not None:
            return event.flow in self.flows
        if event.presence:
            return self.presence
        return self.private and self.user.id in event.users

    def offer(self, event: Published) -> None:
        """Queue *event* to be written."""
        frame = event.event_frame if self.event_stream else event.json_frame
        self.queue.append(frame)
        self.queued_bytes += len(frame)
        self.wake.set()

    def abort(self) -> None:
        """Cut the connection now."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()


async def drop(transport: asyncio.BaseTransport | None, how: How) -> None:
    """Drop a connection once all that was written is sent; with ``end``, the response ends it."""
    if not isinstance(transport, asyncio.Transport) or how == "end":
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            while transport.get_write_buffer_size():  # noqa: ASYNC110 - nobody tells of an empty buffer
                await asyncio.sleep(0.001)
    if how == "reset":
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def keep_silent(connection: Connection, seconds: float | None) -> None:
    """Write nothing for *seconds*; with None, for ever, and drop what should have been sent."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                await connection.wake.wait()
                connection.wake.clear()
                if seconds is None:
                    connection.queue.clear()
                    connection.queued_bytes = 0
    except TimeoutError:
        connection.wake.set()


async def next_frames(connection: Connection, count: int) -> list[bytes]:
    """Wait a moment until *count* more frames are queued, and take those that are."""
    with suppress(TimeoutError):
        async with asyncio.timeout(HOLD_SECONDS):
            while len(connection.queue) < count:
                await connection.wake.wait()
                connection.wake.clear()
    taken = list(connection.queue)
    connection.queue.clear()
    connection.queued_bytes = 0
    return taken


def keepalive(connection: Connection) -> bytes:
    """Return what shows an idle client that the connection is alive."""
    return b":\n" if connection.event_stream else b"\n"


def head(connection: Connection) -> dict[str, str]:
    """Return the headers of a stream."""
    kind = "text/event-stream" if connection.event_stream else "application/json"
    return {
        "Content-Type": kind,
        "Cache-Control": "no-cache",
        "Server": "Florence",
        "Flowdock-User": str(connection.user.id),
    }
