"""A queue, bounded in bytes, of what was read from streams and is not yet written.

Streams put, the writer takes. When the writer falls behind, putting waits, so reading from the
socket stops, and memory stays bounded whatever the service sends. A batch closes when it is big
enough or after a short while, so that a quiet flow is not kept waiting.
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count

from msgspec import Struct

from archiver.domain.model import UserId
from archiver.ingest.batch import Arrival


class Began(Struct, frozen=True):
    """A connection is open: from here on nothing is missed until `Ended`."""

    connection: int
    at: float
    flow_keys: frozenset[int]
    """The flows that it is known to carry."""
    answered_at: datetime
    """When it was opened, by the service's clock, to the second."""
    me: UserId
    """The user whose stream it is."""


class Came(Struct, frozen=True):
    """Frames that arrived on a connection, in order; *at* is in the event loop's seconds."""

    connection: int
    at: float
    arrivals: Sequence[Arrival]

    def newest(self) -> Mapping[int, int]:
        """By flow key: the newest id that arrived."""
        newest: dict[int, int] = {}
        for arrival in self.arrivals:
            key, id_ = arrival.flow_key, arrival.id
            if key is not None and id_ is not None and id_ > newest.get(key, 0):
                newest[key] = id_
        return newest


class Ended(Struct, frozen=True):
    """The connection has ended; *at* is the time up to which all that it brought was read."""

    connection: int
    at: float


Item = Began | Came | Ended

ITEM_BYTES = 500
"""The memory that an item takes, and each arrival in addition to its frame."""


def weight(item: Item) -> int:
    """Roughly the bytes of memory that *item* takes: its frames, and what was decoded from them."""
    if not isinstance(item, Came):
        return ITEM_BYTES
    return sum([ITEM_BYTES + 3 * len(arrival.frame) for arrival in item.arrivals])


def size(item: Item) -> int:
    """How many events *item* counts for; at least one, so that the writer is woken for it."""
    return (len(item.arrivals) or 1) if isinstance(item, Came) else 1


class Intake:
    """The queue between all streams and the one writer; times are the event loop's seconds."""

    def __init__(self, *, limit_bytes: int, settling_seconds: float) -> None:
        self.limit_bytes = limit_bytes
        self._settling_seconds = settling_seconds
        self._bytes = self._size = 0
        self._items: deque[Item] = deque()
        self._filled = asyncio.Event()
        self._enough = 1
        """How many queued events wake the task that takes."""
        self._drained = asyncio.Event()
        self._drained.set()
        self._waiting = 0
        self._hindered_at = 0.0
        self._free_since = -math.inf
        self._connections = count(1)

    def number_connection(self) -> int:
        """A new number for a connection, which identifies its items."""
        return next(self._connections)

    @property
    def held_bytes(self) -> int:
        """Roughly the memory that the queued items take."""
        return self._bytes

    @property
    def held_events(self) -> int:
        """How many events are queued."""
        return self._size

    def read_up_to(self) -> float:
        """The time up to which everything that the service sent has been read.

        While a reader waits, data may lie unread in its socket, so this time stands still; it goes
        on one settling time after the wait has ended.
        """
        now = asyncio.get_running_loop().time()
        is_free = not self._waiting and now - self._free_since >= self._settling_seconds
        return now if is_free else self._hindered_at

    def written_up_to(self) -> float:
        """The same as `read_up_to`, for what the writer has taken."""
        read = self.read_up_to()
        return min(read, self._items[0].at) if self._items else read

    @contextmanager
    def hindering(self) -> Iterator[None]:
        """Mark that a reader is waiting, and so not reading, for as long as the block lasts."""
        clock = asyncio.get_running_loop().time
        if not self._waiting and clock() - self._free_since >= self._settling_seconds:
            self._hindered_at = clock()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            self._free_since = clock()

    async def put(self, item: Item) -> None:
        """Add *item* as soon as the queue is below its limit."""
        while self._bytes >= self.limit_bytes:
            self._drained.clear()
            with self.hindering():
                await self._drained.wait()
        self.put_now(item)

    def put_now(self, item: Item) -> None:
        """Add *item* even if the queue is full: for small items, where waiting is not possible."""
        self._items.append(item)
        self._bytes += weight(item)
        self._size += size(item)
        if self._size >= self._enough or self._bytes >= self.limit_bytes:
            self._filled.set()

    async def take(
        self, *, most: int, enough: int, linger_seconds: float, patience_seconds: float
    ) -> list[Item]:
        """Take items of about *most* events, or somewhat more.

        Waits until there is one, and then until there are *enough* events or *linger_seconds* have
        passed since the call. Returns an empty list if nothing arrives for *patience_seconds*.
        """
        clock = asyncio.get_running_loop().time
        linger_until = clock() + linger_seconds
        if not self._items and not await self._waited(1, clock() + patience_seconds):
            return []
        if linger_seconds:
            await self._waited(min(enough, most), linger_until)
        taken: list[Item] = []
        taken_bytes = taken_events = 0
        # At most half a queue, so that reading goes on while a batch of large events is written.
        while self._items and taken_events < most and taken_bytes * 2 <= self.limit_bytes:
            item = self._items.popleft()
            taken.append(item)
            taken_bytes += weight(item)
            taken_events += size(item)
        self._bytes -= taken_bytes
        self._size -= taken_events
        self._drained.set()
        return taken

    async def _waited(self, enough: int, until: float) -> bool:
        """Wait for so many events or a full queue, or until a time; tells if the events came."""
        self._enough = enough
        self._filled.clear()
        if self._size < enough and self._bytes < self.limit_bytes:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._filled.wait()
        return self._size >= enough
