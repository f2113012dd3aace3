"""How far a flow has come, by its newest message, even if that cannot be read.

An unreadable message must not hide those before it, so more are requested. It also has an id, which
a binary search finds: does the service list anything beyond a given id? That id becomes the head,
so the unreadable message is a gap like any other. Otherwise nothing would show that messages below
it are missing.
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
"""Page sizes to try, one after the other, when the newest message cannot be read."""

IsBeyond = Callable[[int], Awaitable[bool]]
"""Tells whether the service lists anything beyond an id, up to the greatest believable id."""


class EndUnknown(ArchiverError):
    """The newest messages of a flow can neither be read nor placed."""

    def __init__(self, last: int) -> None:
        super().__init__(
            "the newest messages cannot be read, and Flowdock lists them for any range of ids, "
            f"even beyond {last}: new messages of this flow cannot be found"
        )


class EndElsewhere(ArchiverError):
    """The newest messages are another flow's, so they say nothing about this one's head."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the newest messages of {path} name another flow: new messages cannot be found until "
            "the flows are listed again"
        )


async def find_end(known: int, last: int, is_beyond: IsBeyond) -> int:
    """The newest id from *known* to *last* at which the service lists something.

    That is *known* when it lists nothing beyond. The number of requests is about twice the binary
    logarithm of the distance.

    Raises:
        EndUnknown: something is listed even beyond *last*.
    """
    if not await is_beyond(known):
        return known
    below, above, step = known, min(known + 1, last), 1
    while await is_beyond(above):
        if above == last:
            raise EndUnknown(last)
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
    """Requests the newest messages of flows, and notes their ids in *heads*."""

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
        """Request the newest message of a flow, and archive it if it is new.

        Returns the id of the newest message that can be read; 0 if there is none.

        Raises:
            EndUnknown, EndElsewhere: nobody can tell how far the flow has come.
            FlowRefused: nothing can be read at the path, which is another flow's or nobody's. And
                all that `Client.page` raises.
        """
        reading = await self._ask(flow_key, path, limit=1)
        if reading.trouble:
            with suppress(AnswerTooLong):
                for limit in MORE:
                    if not reading.ids:
                        reading = await self._ask(flow_key, path, limit=limit)
            _require_none_foreign(reading, path)
            await self._look_beyond(flow_key, path)
        elif not reading.ids:
            await self._belonging.require_by_id(self._client, flow_key, path)
            self._heads.found_empty(flow_key, at=asyncio.get_running_loop().time())
        return max(reading.ids, default=0)

    async def _ask(self, flow_key: int, path: str, *, limit: int) -> Reading:
        at = asyncio.get_running_loop().time()
        as_of = self._heads.settled(flow_key, now=at)
        page = await self._client.page(path, newest=True, limit=limit)
        reading = read_page(self._belonging.listing(page, flow_key, as_of=as_of))
        if self._belonging.is_untold(reading):
            await self._belonging.require_by_id(self._client, flow_key, path)
        known = self._heads.newest(flow_key)
        new = [one for one in reading.arrivals if one.id is None or one.id > known]
        if new:
            await self._keep(new)
        if reading.ids:
            self._heads.seen(flow_key, reading.ids[-1], at=at)
        return reading

    async def _look_beyond(self, flow_key: int, path: str) -> None:
        """Find the flow's newest id beyond the newest message that can be read."""
        known = self._heads.newest(flow_key)
        last = farthest(known, path)

        async def is_beyond(id_: int) -> bool:
            page = await self._client.page(path, since=id_, until=last + 1, newest=True, limit=1)
            _require_none_foreign(read_page(self._belonging.listing(page, flow_key, as_of=0)), path)
            return bool(page.frames)

        end = await find_end(known, last, is_beyond)
        # What was listed beyond may be another flow's that took the path, and so may an empty page.
        await self._belonging.require_by_id(self._client, flow_key, path)
        log.error(
            "the newest messages of a flow cannot be read", extra={"flow": path, "up_to": end}
        )
        self._heads.seen(flow_key, end, at=asyncio.get_running_loop().time())


def _require_none_foreign(reading: Reading, path: str) -> None:
    if any(one.decoded == FOREIGN for one in reading.arrivals):
        raise EndElsewhere(path)
