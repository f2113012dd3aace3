"""Whether nothing is where a service lists nothing.

An empty page proves its whole range, however long that is, and there is nothing in it to be held
against what is known. A service whose index is away, or behind, answers with one as well. So the
newest message below the range's end is asked for: it may not lie in the range, nor be older than
what the archive holds there and the service still shows. Where there is none, the flow may not be
listed as if nothing were in it, either.
"""

from functools import partial

from archiver.domain.events import Decoded, Event
from archiver.flowdock.client import Client
from archiver.flowdock.decode import decode_listed
from archiver.ingest.absence import MASS, MOST_SHOWN, shows_any
from archiver.ingest.apply import when_possible
from archiver.ingest.belonging import Belonging
from archiver.ingest.pages import Listing, Reading, bounds
from archiver.store import places
from archiver.store.connection import Engine
from archiver.store.coverage import NEWEST_PROVABLE

NOT_EMPTY = "an empty page was listed where messages are: the service's index may be behind"


class Emptiness:
    """Holds empty pages against what else a service lists, and against what an archive holds."""

    def __init__(self, client: Client, engine: Engine, belonging: Belonging) -> None:
        self._client = client
        self._engine = engine
        self._belonging = belonging

    async def hold(self, listing: Listing, reading: Reading) -> Reading:
        """*reading* of a page, which proves nothing if it is empty and should not be.

        Raises:
            FlowRefused: the path leads to the flow no more. And all that `Client.page` and
                `Client.show` raise.
        """
        page, flow_key = listing.page, listing.flow_key
        if page.frames or not reading.proven:
            return reading
        first, last = bounds(page)
        below = await self._newest(page.path, page.until)
        newest = await self._newest(page.path, None) if below is None else below
        if newest is None:
            lacks = await self._lacks(page.path, flow_key, listed=0, last=NEWEST_PROVABLE)
        elif not isinstance(newest, Event) or listing.objection(newest):
            await self._belonging.require(self._client, flow_key, page.path)
            return reading
        elif below is None:
            lacks = await self._lacks(page.path, flow_key, listed=0, last=last)
        elif first <= newest.id:
            lacks = newest.id <= last
        else:
            lacks = await self._lacks(page.path, flow_key, listed=newest.id, last=last)
        return reading.unproven(NOT_EMPTY) if lacks else reading

    async def _newest(self, path: str, until: int | None) -> Decoded | None:
        """The newest that is listed below *until*, whatever it is; None if nothing is."""
        page = await self._client.page(path, until=until, newest=True, limit=1)
        return decode_listed(page.frames[-1]) if page.frames else None

    async def _lacks(self, path: str, flow_key: int, *, listed: int, last: int) -> bool:
        """Tell whether a message is there that is newer than the one *listed*, and up to *last*."""
        beside = partial(places.beside, flow_key=flow_key, id_=last + 1, older=True)
        held = await when_possible(self._engine, partial(beside, with_inbox=True, most=MASS))
        known = [one.id for one in held if one.id > listed and not one.is_deleted]
        return await shows_any(self._client, path, known[:MOST_SHOWN])
