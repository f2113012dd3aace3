"""Pages that are archived together: what comes while one batch is written becomes the next.

Several pages are asked for side by side. Each alone would be a transaction of its own, and those of
one flow would wait for each other; so who has the turn writes for all that wait with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import reduce

from msgspec.structs import replace

from archiver.ingest.batch import Applied, Batch
from archiver.store.coverage import Standing

MOST_ARRIVALS = 2000


class Together:
    """The batches of an account's pages, on their way into the archive."""

    def __init__(self, archive: Callable[[Batch], Awaitable[Applied]]) -> None:
        self._archive = archive
        self._waiting: list[Batch] = []
        self._refused: dict[int, frozenset[tuple[int, int]]] = {}
        self._turn = asyncio.Lock()

    async def archive(self, batch: Batch) -> frozenset[tuple[int, int]]:
        """Archive *batch*, perhaps with others; returns the events of it that Postgres refused.

        Who is cancelled while it writes for others leaves them waiting, and the next writes.
        """
        self._waiting.append(batch)
        try:
            async with self._turn:
                while id(batch) not in self._refused:
                    await self._write(self._chosen())
            return self._refused.pop(id(batch))
        finally:
            self._waiting = [one for one in self._waiting if one is not batch]
            self._refused.pop(id(batch), None)

    async def _write(self, group: Sequence[Batch]) -> None:
        applied = await self._archive(reduce(merged, group))
        for batch in group:
            if not any(one is batch for one in self._waiting):
                continue  # who asked for it was cancelled
            own = {(arrival.flow_key, arrival.id) for arrival in batch.arrivals}
            self._refused[id(batch)] = frozenset(key for key in applied.refused if key in own)
        self._waiting = [one for one in self._waiting if id(one) not in self._refused]

    def _chosen(self) -> list[Batch]:
        """What waits, in its order, as far as it can be written together and is not too much."""
        chosen: list[Batch] = []
        arrivals = 0
        for batch in self._waiting:
            fits = arrivals + len(batch.arrivals) <= MOST_ARRIVALS
            if chosen and not (fits and all(can_merge(one, batch) for one in chosen)):
                continue
            chosen.append(batch)
            arrivals += len(batch.arrivals)
        return chosen


def can_merge(one: Batch, other: Batch) -> bool:
    """Tell whether two batches may be written as one: what they prove is of other ids or flows."""
    if one.opened or other.opened:
        return False
    for flow_key in one.gains.keys() & other.gains.keys():
        first, second = one.gains[flow_key], other.gains[flow_key]
        overlap = first.listed - (first.listed - second.listed)
        if first.epoch != second.epoch or overlap:
            return False
    ids = {(arrival.flow_key, arrival.id) for arrival in one.arrivals}
    return not any((arrival.flow_key, arrival.id) in ids for arrival in other.arrivals)


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
