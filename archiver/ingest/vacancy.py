"""Which ranges of ids hold no message in the archive, looked up for many pages at once.

A page that fills a gap need not be compared with the archive if that holds nothing in its range, as
is nearly always so. Pages arrive concurrently, so one task asks for all tasks that wait.
"""

import asyncio
from functools import partial

from archiver.ingest.apply import when_possible
from archiver.store import places
from archiver.store.connection import Engine

Span = tuple[int, int, int]
"""A flow key, and the first and the last id of a range."""


class Vacancy:
    """Asks an archive which ranges of ids are without messages."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[Span, asyncio.Future[bool]]] = []
        self._turn = asyncio.Lock()

    async def is_vacant(self, flow_key: int, first: int, last: int) -> bool:
        """Tell whether the archive holds no message in the range.

        If a task is cancelled while it asks, the other questions stay in the queue, and the next
        task asks them.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(((flow_key, first, last), answer))
        async with self._turn:
            if not answer.done():
                await self._ask()
        return answer.result()

    async def _ask(self) -> None:
        asked = list(self._waiting)
        spans = [span for span, _ in asked]
        occupied = await when_possible(self._engine, partial(places.occupied, spans=spans))
        for span, answer in asked:
            answer.set_result(span not in occupied)
        self._waiting = [one for one in self._waiting if not one[1].done()]
