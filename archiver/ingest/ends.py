"""How far a flow has come, by its newest message: also when that cannot be read.

Such a message must not hide the others, so more are asked for. And it has an id all the same, which
the service tells by what it lists beyond which id. So there is a gap where it stands, like one amid
others: else all that was missed below it would be taken for nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from archiver.domain.events import Rejected
from archiver.domain.proportion import farthest
from archiver.errors import ArchiverError
from archiver.flowdock.client import MAX_PAGE, Client
from archiver.flowdock.refusals import AnswerTooLong
from archiver.ingest.batch import Arrival
from archiver.ingest.belonging import ANOTHER_FLOW, Belonging
from archiver.ingest.heads import Heads
from archiver.ingest.pages import Reading, read_page

log = logging.getLogger(__name__)

FOREIGN = Rejected(reason=ANOTHER_FLOW)

MORE = (10, MAX_PAGE)
"""Messages to ask for when the newest cannot be read; and then as many as there can be."""

IsBeyond = Callable[[int], Awaitable[bool]]
"""Tells whether the service lists anything beyond an id, as far as ids are believed."""


class EndUntold(ArchiverError):
    """The newest messages of a flow can neither be read nor placed."""

    def __init__(self, last: int) -> None:
        super().__init__(
            "the newest messages cannot be read, and the service lists them whatever it is asked "
            f"for, even beyond {last}: what is new in the flow cannot be told"
        )


class EndElsewhere(ArchiverError):
    """The newest messages are those of another flow: how far that has come says nothing."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the newest messages of {path} name another flow: what is new cannot be told until "
            "the flows are looked up again"
        )


async def find_end(known: int, last: int, is_beyond: IsBeyond) -> int:
    """The newest id, from *known* to *last*, that the service lists something of.

    That is *known* when nothing lies beyond. It takes about twice as many questions as the distance
    has binary digits.

    Raises:
        EndUntold: what is listed is beyond all.
    """
    if not await is_beyond(known):
        return known
    below, above, step = known, min(known + 1, last), 1
    while await is_beyond(above):
        if above == last:
            raise EndUntold(last)
        step *= 2
        below, above = above, min(known + step, last)
    while above - below > 1:
        middle = (below + above) // 2
        if await is_beyond(middle):
            below = middle
        else:
            above = middle
    return above


class Ends:
    """Looks at the newest messages of flows, and tells *heads* of them."""

    def __init__(
        self,
        client: Client,
        heads: Heads,
        belonging: Belonging,
        *,
        keep: Callable[[Sequence[Arrival]], Awaitable[None]],
    ) -> None:
        self._client = client
        self._heads = heads
        self._belonging = belonging
        self._keep = keep

    async def look(self, flow_key: int, path: str) -> int:
        """Ask for the newest message of a flow, and keep it if it is new.

        Returns the id of the newest that can be read; 0 if there is none.

        Raises:
            EndUntold, EndElsewhere: nobody can tell how far the flow has come. And all that
                `Client.page` raises.
        """
        reading = await self._ask(flow_key, path, limit=1)
        if reading.trouble:
            with suppress(AnswerTooLong):
                for limit in MORE:
                    if not reading.ids:
                        reading = await self._ask(flow_key, path, limit=limit)
            if any(one.decoded == FOREIGN for one in reading.arrivals):
                raise EndElsewhere(path)
            await self._look_beyond(flow_key, path)
        elif not reading.ids:
            self._heads.found_empty(flow_key, at=asyncio.get_running_loop().time())
        return max(reading.ids, default=0)

    async def _ask(self, flow_key: int, path: str, *, limit: int) -> Reading:
        at = asyncio.get_running_loop().time()
        as_of = self._heads.settled(flow_key, now=at)
        page = await self._client.page(path, newest=True, limit=limit)
        reading = read_page(self._belonging.listing(page, flow_key, as_of=as_of))
        known = self._heads.newest(flow_key)
        new = [one for one in reading.arrivals if one.id is None or one.id > known]
        if new:
            await self._keep(new)
        if reading.ids:
            self._heads.seen(flow_key, reading.ids[-1], at=at)
        return reading

    async def _look_beyond(self, flow_key: int, path: str) -> None:
        """Learn how far the flow has come beyond all that can be read of it."""
        known = self._heads.newest(flow_key)
        last = farthest(known, path)

        async def is_beyond(id_: int) -> bool:
            page = await self._client.page(path, since=id_, until=last + 1, newest=True, limit=1)
            return bool(page.frames)

        end = await find_end(known, last, is_beyond)
        log.error("newest messages cannot be read", extra={"flow": path, "up_to": end})
        self._heads.seen(flow_key, end, at=asyncio.get_running_loop().time())
