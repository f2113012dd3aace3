"""Pages that are archived together: what comes while one batch is written becomes the next.

Several pages are asked for side by side. Each alone would be a transaction of its own, and those of
one flow would wait for each other; so who has the turn writes for all that wait with it.
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
"""Of frames: while so much waits to be written, nobody should ask for more."""


class _Waiting(Struct, eq=False):
    """A batch that waits to be written, and which events it brings."""

    batch: Batch
    keys: frozenset[tuple[int | None, int | None]]
    refused: frozenset[tuple[int, int]] | None = None
    """Those of them that Postgres refused; None while the batch is not written."""


class Together:
    """The batches of an account's pages, on their way into the archive."""

    def __init__(self, archive: Callable[[Batch], Awaitable[Applied]]) -> None:
        self._archive = archive
        self._waiting: list[_Waiting] = []
        self._turn = asyncio.Lock()
        self._bytes = 0
        self._written = asyncio.Event()

    async def room(self) -> None:
        """Wait until so little waits to be written that another page may be asked for."""
        while self._bytes >= MOST_BYTES:
            self._written.clear()
            await self._written.wait()

    async def archive(self, batch: Batch) -> frozenset[tuple[int, int]]:
        """Archive *batch*, perhaps with others; returns the events of it that Postgres refused.

        Who is cancelled while it writes for others leaves them waiting, and the next writes.
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
        """What waits, in its order, as far as it can be written together and is not too much."""
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
    """Tell whether two batches of other events may be written as one.

    That is when what they prove is of other ids or flows, too.
    """
    if one.opened or other.opened:
        return False
    for flow_key in one.gains.keys() & other.gains.keys():
        first, second = one.gains[flow_key], other.gains[flow_key]
        if first.epoch != second.epoch or first.listed & second.listed:
            return False
    return True


def _keys(batch: Batch) -> frozenset[tuple[int | None, int | None]]:
    """Which events it brings, by flow key and id; what could not be read is in no one's way."""
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
        )
    return replace(
        one,
        now=max(one.now, other.now),
        arrivals=[*one.arrivals, *other.arrivals],
        gains=gains,
        pages=[*one.pages, *other.pages],
    )
