"""Archiving pages together: those that arrive while one batch is written become the next batch.

Several pages are requested concurrently. With a transaction for each page, those of one flow would
wait for each other's locks. So one task writes the batches of all tasks that wait.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import reduce

from msgspec import Struct
from msgspec.structs import replace

from archiver.ingest.batch import Applied, Batch
from archiver.store.coverage import Standing

MOST_ARRIVALS = 4000
MOST_BYTES = 16_000_000
"""While so many bytes of frames wait to be written, no further page should be requested."""


class _Waiting(Struct, eq=False):
    """A batch that waits to be written, and the keys of its events."""

    batch: Batch
    keys: frozenset[tuple[int | None, int | None]]
    refused: frozenset[tuple[int, int]] | None = None
    """The keys of events that Postgres refused; None until the batch is written."""


class Together:
    """The batches of an account's pages, on their way into the archive."""

    def __init__(self, archive: Callable[[Batch], Awaitable[Applied]]) -> None:
        self._archive = archive
        self._waiting: list[_Waiting] = []
        self._turn = asyncio.Lock()
        self._bytes = 0
        self._written = asyncio.Event()

    async def room(self) -> None:
        """Wait until the backlog is small enough for another page to be requested."""
        while self._bytes >= MOST_BYTES:
            self._written.clear()
            await self._written.wait()

    async def archive(self, batch: Batch) -> frozenset[tuple[int, int]]:
        """Archive *batch*, perhaps with others; returns its events that Postgres refused.

        If a task is cancelled while it writes, the other batches stay in the queue, and the next
        task writes them.
        """
        one = _Waiting(batch, _keys(batch))
        self._waiting.append(one)
        size = sum(len(arrival.frame) for arrival in batch.arrivals)
        self._bytes += size
        try:
            async with self._turn:
                while one.refused is None:
                    await self._write(self._chosen())
            return one.refused
        finally:
            if one in self._waiting:
                self._waiting.remove(one)
            self._bytes -= size
            self._written.set()

    async def _write(self, group: Sequence[_Waiting]) -> None:
        applied = await self._archive(reduce(merged, [one.batch for one in group]))
        for one in group:
            one.refused = applied.refused & one.keys
        self._waiting = [one for one in self._waiting if one.refused is None]

    def _chosen(self) -> list[_Waiting]:
        """The waiting batches, in order, that can be merged with the first and are not too much."""
        chosen: list[_Waiting] = []
        keys: set[tuple[int | None, int | None]] = set()
        for one in self._waiting:
            fits = len(keys) + len(one.batch.arrivals) <= MOST_ARRIVALS
            fits = fits and keys.isdisjoint(one.keys)
            if chosen and not (fits and all(can_merge(it.batch, one.batch) for it in chosen)):
                continue
            chosen.append(one)
            keys |= one.keys
        return chosen


def can_merge(one: Batch, other: Batch) -> bool:
    """Tell whether two batches without common events may be written as one.

    They may if neither opens streams, and if the ranges that they prove in the same flow do not
    overlap and are of the same epoch.
    """
    if one.opened or other.opened:
        return False
    for flow_key in one.gains.keys() & other.gains.keys():
        first, second = one.gains[flow_key], other.gains[flow_key]
        if first.epoch != second.epoch or first.listed & second.listed:
            return False
    return True


def _keys(batch: Batch) -> frozenset[tuple[int | None, int | None]]:
    """The flow key and id of each event in *batch*; unreadable ones conflict with nothing."""
    keys = ((arrival.flow_key, arrival.id) for arrival in batch.arrivals)
    return frozenset(key for key in keys if key[1] is not None)


def merged(one: Batch, other: Batch) -> Batch:
    """Both batches as one."""
    gains = dict(one.gains)
    for flow_key, gain in other.gains.items():
        before = gains.get(flow_key, Standing(epoch=gain.epoch))
        gains[flow_key] = replace(
            before,
            streamed=before.streamed | gain.streamed,
            listed=before.listed | gain.listed,
            due=max(before.due, gain.due),
            doubted=before.doubted | gain.doubted,
        )
    return replace(
        one,
        now=max(one.now, other.now),
        arrivals=[*one.arrivals, *other.arrivals],
        gains=gains,
        pages=[*one.pages, *other.pages],
    )
