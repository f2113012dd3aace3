"""Whether a range is really empty when the service lists nothing in it.

An empty page proves its whole range, however long, and has no message that could be checked. But a
service whose index is missing or behind answers with an empty page, too. So the newest message that
is listed below the range's end is requested. It must not lie in the range, and the archive must not
hold a newer one up to the range's end that Show Message still shows. If nothing is listed there,
the oldest message from the range's beginning on is requested, which must not lie in the range
either. If there is none, the archive must hold no message of the flow that is still shown.
"""

from functools import partial

from archiver.domain.events import Decoded, Event
from archiver.flowdock.decode import decode_listed
from archiver.flowdock.pages import Page
from archiver.ingest.absence import MASS, MOST_SHOWN
from archiver.ingest.apply import when_possible
from archiver.ingest.belonging import Inquiry
from archiver.ingest.pages import Listing, Reading, bounds
from archiver.store import places
from archiver.store.connection import Engine
from archiver.store.coverage import NEWEST_PROVABLE

NOT_EMPTY = "the page is empty where there are messages: Flowdock's index may be behind"


class Emptiness:
    """Checks empty pages against what else the service lists, and against the archive."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def hold(self, listing: Listing, reading: Reading, asked: Inquiry) -> Reading:
        """Return *reading*, unproven if its page is empty and should not be.

        Raises:
            All that `Client.page` and `Client.show` raise.
        """
        page, flow_key = listing.page, listing.flow_key
        if page.frames or not reading.proven:
            return reading
        first, last = bounds(page)
        lacks = partial(self._lacks, asked, flow_key)
        below = _first(await asked.page(until=page.until, newest=True))
        near = below
        if below is None:
            near = _first(await asked.page(since=first - 1, newest=False))
        if near is None:
            is_wrong = await lacks(listed=0, last=NEWEST_PROVABLE)
        elif not isinstance(near, Event) or listing.objection(near):
            return reading
        else:
            listed = 0 if below is None else near.id
            is_wrong = first <= near.id <= last or await lacks(listed=listed, last=last)
        return reading.unproven(NOT_EMPTY) if is_wrong else reading

    async def _lacks(self, asked: Inquiry, flow_key: int, *, listed: int, last: int) -> bool:
        """Tell whether the service shows a message that the archive holds after *listed*.

        Only messages up to the id *last* are considered.
        """
        beside = partial(places.beside, flow_key=flow_key, id_=last + 1, older=True)
        held = await when_possible(self._engine, partial(beside, with_inbox=True, most=MASS))
        known = [one.id for one in held if one.id > listed and not one.is_deleted]
        return await asked.shows_any(known[:MOST_SHOWN])


def _first(page: Page) -> Decoded | None:
    """The message of a page of one, readable or not; None if it has none."""
    return decode_listed(page.frames[-1]) if page.frames else None
